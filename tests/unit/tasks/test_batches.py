"""Batches and items of task files: what comes first, what is left out, what is warned of."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.runtime.errors import InvalidInput
from penstock.tasks import Finding, parse, task_batches, task_items
from penstock.tasks.order import arrange


def batches(text: str, batch_size: int = 15) -> dict[str, list[str]]:
    found, _ = task_batches(parse(text.encode()), batch_size=batch_size)
    return {batch.key: [task.id for task in batch.tasks] for batch in found}


def order(text: str) -> list[str]:
    return list(itertools.chain.from_iterable(batches(text).values()))


def warnings(text: str) -> list[tuple[str, int]]:
    _, found = task_batches(parse(text.encode()))
    return [(warning.code, warning.line) for warning in found]


def test_each_section_with_open_tasks_is_one_batch_and_done_ones_are_left_out() -> None:
    text = "- [ ] T000 z\n## A\n- [x] T001 a\n- [ ] T002 b\n## B\n- [x] T003 c\n## C\ntext\n## D\n- [ ] T004 d\n"
    assert batches(text) == {"(before the first section)": ["T000"], "A": ["T002"], "D": ["T004"]}


def test_without_sections_batches_have_fifteen_tasks() -> None:
    text = "# File\n" + "".join(f"- [ ] T{number:03} a\n" for number in range(1, 33))
    assert {key: len(found) for key, found in batches(text).items()} == {
        "T001 to T015": 15,
        "T016 to T030": 15,
        "T031 to T032": 2,
    }
    assert list(batches(text, batch_size=50)) == ["T001 to T032"]
    assert list(batches(text, batch_size=1))[:2] == ["T001", "T002"]


@pytest.mark.parametrize("batch_size", [0, 51, -1])
def test_the_size_of_a_batch_is_1_to_50(batch_size: int) -> None:
    with pytest.raises(InvalidInput, match="1-50"):
        task_batches(parse(b"- [ ] T001 a"), batch_size=batch_size)


def test_without_sections_no_task_stands_in_a_batch_before_one_that_it_depends_on() -> None:
    text = "- [ ] T001 a [after: T003]\n- [ ] T002 b\n- [ ] T003 c\n"
    assert batches(text, batch_size=1) == {"T002": ["T002"], "T003": ["T003"], "T001": ["T001"]}
    assert warnings(text) == []


def test_a_batch_is_ordered_by_dependencies_and_keeps_the_file_order_where_it_may() -> None:
    text = "## A\n- [ ] T001 a [depends: T004]\n- [ ] T002 b\n- [ ] T003 c [after: T002]\n- [ ] T004 d\n- [ ] T005 e\n"
    assert order(text) == ["T002", "T003", "T004", "T001", "T005"]
    assert warnings(text) == []


def test_a_dependency_that_is_done_or_in_an_earlier_section_is_no_warning() -> None:
    text = "## A\n- [x] T001 a\n- [ ] T002 b\n## B\n- [ ] T003 c [dep: T001, T002, T005]\n- [x] T005 e\n"
    assert warnings(text) == []
    assert batches(text) == {"A": ["T002"], "B": ["T003"]}


def test_a_dependency_in_a_later_section_is_a_warning_and_done_there_none() -> None:
    text = "## A\n- [ ] T001 a [dep: T002, T003]\n## B\n- [ ] T002 b\n- [x] T003 c\n"
    assert warnings(text) == [("later_dependency", 2)]
    assert batches(text) == {"A": ["T001"], "B": ["T002"]}


def test_unknown_ids_are_a_warning_and_what_is_known_still_holds() -> None:
    text = "## A\n- [ ] T001 a [dep: T999, T002]\n- [ ] T002 b [after: nothing]\n- [x] T003 c [dep: T998]\n"
    assert warnings(text) == [("unknown_dependency", 2), ("unknown_dependency", 3)]
    assert order(text) == ["T002", "T001"]


def test_a_cycle_is_a_warning_and_its_tasks_keep_the_file_order() -> None:
    text = (
        "## A\n- [ ] T001 a [dep: T002]\n- [ ] T002 b [dep: T003]\n- [ ] T003 c [dep: T001]\n"
        "- [ ] T004 d [dep: T005]\n- [ ] T005 e\n- [ ] T006 f [dep: T006]\n"
    )
    assert order(text) == ["T001", "T002", "T003", "T005", "T004", "T006"]
    _, found = task_batches(parse(text.encode()))
    assert [finding.message for finding in found] == [
        "T001, T002, T003 depend on each other in a cycle: they keep the file's order",
        "T006 depends on itself",
    ]
    assert {finding.code for finding in found} == {"dependency_cycle"}


def test_a_cycle_still_waits_for_what_is_outside_of_it() -> None:
    text = "## A\n- [ ] T001 a [dep: T002, T003]\n- [ ] T002 b [dep: T001]\n- [ ] T003 c\n- [ ] T004 d [dep: T002]\n"
    assert order(text) == ["T003", "T001", "T002", "T004"]


def test_tasks_without_ids_can_be_depended_on_by_line() -> None:
    assert order("## A\n- [ ] first [after: L3]\n- [ ] second\n") == ["L3", "L2"]


def test_a_batch_item_holds_its_open_tasks_in_order() -> None:
    text = (
        "# File\n## A\n- [x] T000 z\n- [ ] T001 [P] [US1] [FR-1] a [dep: T002]\n### Part\n- [ ] T002 b\n"
        "## A\n- [ ] T003 c\n"
    )
    items, found = task_items(parse(text.encode()))
    assert found == ()
    assert json.loads(json.dumps(items)) == [
        {
            "key": "A",
            "group": "A",
            "payload": {
                "section": "A",
                "path": ["File", "A"],
                "line": 2,
                "tasks": [
                    {
                        "id": "T002",
                        "text": "b",
                        "line": 6,
                        "parallel": False,
                        "stories": [],
                        "depends_on": [],
                        "path": ["File", "A", "Part"],
                    },
                    {
                        "id": "T001",
                        "text": "[FR-1] a",
                        "line": 4,
                        "parallel": True,
                        "stories": ["US1"],
                        "depends_on": ["T002"],
                        "path": ["File", "A"],
                    },
                ],
            },
        },
        {
            "key": "A (2)",
            "group": "A (2)",
            "payload": {
                "section": "A",
                "path": ["File", "A"],
                "line": 7,
                "tasks": [
                    {
                        "id": "T003",
                        "text": "c",
                        "line": 8,
                        "parallel": False,
                        "stories": [],
                        "depends_on": [],
                        "path": ["File", "A"],
                    }
                ],
            },
        },
    ]


def test_a_task_item_is_one_task_in_an_order_over_the_whole_file() -> None:
    text = "## A\n- [ ] T001 a [dep: T002]\n- [x] T000 z\n## B\n- [ ] T002 b\n- [ ] c\n"
    items, found = task_items(parse(text.encode()), unit="task")
    assert found == (), "what a later section holds comes first here"
    assert [(item["key"], item["group"]) for item in items] == [("T002", "B"), ("T001", "A"), ("L6", "B")]
    assert items[1]["payload"] == {
        "section": "A",
        "id": "T001",
        "text": "a",
        "line": 2,
        "parallel": False,
        "stories": [],
        "depends_on": ["T002"],
        "path": ["A"],
    }


def test_a_cycle_over_sections_is_one_for_tasks_and_a_later_dependency_for_batches() -> None:
    file = parse(b"## A\n- [ ] T001 a [dep: T002]\n## B\n- [ ] T002 b [dep: T001]\n")
    assert [found.code for found in task_items(file, unit="task")[1]] == ["dependency_cycle"]
    assert [found.code for found in task_items(file)[1]] == ["later_dependency"]


def test_tasks_without_sections_have_no_group() -> None:
    file = parse(b"# File\n- [ ] T001 a\n")
    assert [(item["key"], item["group"]) for item in task_items(file)[0]] == [("T001", "")]
    assert [(item["key"], item["group"]) for item in task_items(file, unit="task")[0]] == [("T001", "")]


def test_a_file_with_problems_and_an_unknown_unit_are_refused() -> None:
    file = parse(b"- [ ] T001 a\n- [ ] T001 b\n")
    for make in (lambda: task_batches(file), lambda: task_items(file), lambda: task_items(file, unit="task")):
        with pytest.raises(InvalidInput) as caught:
            make()
        assert caught.value.code == "repeated_id"
    with pytest.raises(InvalidInput, match="it may be batch or task"):
        task_items(parse(b"- [ ] T001 a\n"), unit="stage")  # type: ignore[arg-type]


def test_warnings_of_the_file_come_with_those_of_the_order_by_line() -> None:
    assert warnings("- [ ] T001 a [dep: T9]\n- [ ]\n- [ ] T002 b [dep: T8]\n") == [
        ("unknown_dependency", 1),
        ("empty_box", 2),
        ("unknown_dependency", 3),
    ]
    assert isinstance(task_batches(parse(b"- [ ]\n"))[1][0], Finding)


GRAPHS = st.integers(0, 7).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, max(size - 1, 0)), max_size=3), min_size=size, max_size=size)
)


def reaches(waits_for: list[list[int]], start: int) -> set[int]:
    """Everything that something waits for, at once or in turn."""
    found: set[int] = set()
    new = set(waits_for[start])
    while new - found:
        found |= new
        new = {other for place in found for other in waits_for[place]}
    return found


@given(GRAPHS)
def test_the_order_is_the_first_by_the_file_of_all_that_hold(waits_for: list[list[int]]) -> None:
    """Against all permutations: cycles are the tasks that reach themselves, joined where they reach each other."""
    size = len(waits_for)
    reached = [reaches(waits_for, place) for place in range(size)]
    wanted_cycles = sorted(
        {
            tuple(other for other in range(size) if other in reached[place] and place in reached[other])
            for place in range(size)
            if place in reached[place]
        }
    )

    def cycle_of(place: int) -> tuple[int, ...]:
        return next((cycle for cycle in wanted_cycles if place in cycle), (place,))

    def holds(permutation: tuple[int, ...]) -> bool:
        at = {place: position for position, place in enumerate(permutation)}
        return all(
            at[other] < at[place]
            for place in range(size)
            for other in waits_for[place]
            if cycle_of(other) != cycle_of(place)
        ) and all(at[one] < at[two] for cycle in wanted_cycles for one, two in itertools.pairwise(cycle))

    wanted = next(one for one in itertools.permutations(range(size)) if holds(one))
    found, cycles = arrange(waits_for)
    assert (tuple(found), [tuple(cycle) for cycle in cycles]) == (wanted, wanted_cycles)


def test_long_chains_and_cycles_are_ordered_without_recursion() -> None:
    size = 20_000
    chain = [[place + 1] for place in range(size - 1)] + [[]]
    assert arrange(chain) == (list(reversed(range(size))), [])
    cycle = [[(place + 1) % size] for place in range(size)]
    assert arrange(cycle) == (list(range(size)), [list(range(size))])
