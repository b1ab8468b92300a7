"""5,000 tasks, parsed and made into batches, within the bound of the issue: 0.3 s of CPU. And files that are made to be
slow are not."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from penstock.tasks import parse, task_items

TRIES = 10


def seconds_of(work: Callable[[], object], *, bound: float) -> float:
    """The least of some tries, which end with the first within the bound: what others do on the machine makes a try
    longer, never shorter."""
    least = float("inf")
    gc.collect()
    gc.freeze()  # what other tests have left is not looked through
    try:
        for _ in range(TRIES):
            begin = time.process_time()
            work()
            least = min(least, time.process_time() - begin)
            if least <= bound:
                break
    finally:
        gc.unfreeze()
    return least


def slowness() -> float:
    """How much slower this machine is at this moment than one on which the bound was set: at least 1."""
    begin = time.process_time()
    for _ in range(2_000_000):
        pass
    return max(1.0, (time.process_time() - begin) / 0.05)


def page(tasks: int, in_section: int) -> bytes:
    lines = ["# Tasks"]
    for number in range(tasks):
        if number % in_section == 0:
            lines += ["", f"## Phase {number // in_section}", "", "**Goal**: all of it works", ""]
        waits = f" [depends: T{number - 1:04}]" if number % in_section else ""
        lines.append(
            f"- [ ] T{number:04} [P] [US1] Create src/models/part_{number}.py with the fields of the plan{waits}"
        )
    return "\n".join(lines).encode()


@pytest.mark.parametrize("in_section", [25, 5_000])
@pytest.mark.parametrize("unit", ["batch", "task"])
def test_5000_tasks_take_less_than_0_3_s(in_section: int, unit: str) -> None:
    data = page(5_000, in_section)
    assert len(task_items(parse(data))[0]) == 5_000 // in_section
    bound = 0.3 * slowness()
    assert seconds_of(lambda: task_items(parse(data), unit="task" if unit == "task" else "batch"), bound=bound) <= bound


HOSTILE = {
    "tags": "- [ ] " + "[a] " * 40_000,
    "markers at the end": "- [ ] a" + " [P]" * 40_000,
    "backticks": "- [ ] " + " ".join("`" * (number % 300 + 1) for number in range(1_000)) + " [dep: T1]",
    "code and dependencies": "- [ ] " + "`a` [dep: T1] " * 10_000,
    "brackets": "- [ ] " + "[" * 100_000,
    "unclosed dependencies": "- [ ] " + "[dep: " * 20_000,
    "equal titles": "## A\n" * 10_000,
    "one cycle": "".join(f"- [ ] T{n} a [dep: T{(n + 1) % 3_000}]\n" for n in range(3_000)),
    "all unknown": "".join(f"- [ ] T{n} a [dep: T{n + 5_000}]\n" for n in range(3_000)),
    "equal ids": "- [ ] T1 a\n" * 3_000,
    "deep lists": "- " * 2_000 + "[ ] a",
    "deep quotes": "> " * 2_000 + "- [ ] a",
    "long paragraph": "- [ ] a\n" + "  b\n" * 10_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_made_to_be_slow_is_read_in_time(name: str) -> None:
    data = HOSTILE[name].encode()

    def work() -> None:
        found = parse(data)
        if not found.problems:
            task_items(found)

    assert seconds_of(work, bound=1.0) <= 1.0
