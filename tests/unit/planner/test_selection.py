"""What a selection and an order may say, before any source is read."""

from __future__ import annotations

import pytest

from penstock.filters import Filter, Kind
from planner.domain.ordering import Ordering, Placed, SortColumn
from planner.domain.schema import Column, ColumnKind, Schema
from planner.domain.selection import Flags, Selection, flag_columns
from planner.fields import fields_of

TEXT = ColumnKind.TEXT
SCHEMA = Schema(
    (
        Column("brand", TEXT),
        Column("Repo", TEXT),
        Column("state", ColumnKind.BOOLEAN),
        Column("a `b`", ColumnKind.JSON),
    ),
    key=("brand",),
    group="brand",
    sort=("brand",),
)


@pytest.mark.parametrize(
    ("selection", "ready", "words"),
    [
        (Selection(), False, "none is given"),
        (Selection(ids=["a"], everything=True), False, "keys and all are given"),
        (Selection(filter="  "), False, "`all` selects everything"),
        (Selection(filter="brand = a"), True, "comes with the request, and by filter, too"),
        (Selection(everything=True, limit=-1), False, "limit is -1"),
        (Selection(ids=["a"] * 1_000_001), False, "a filter selects any number"),
    ],
)
def test_a_selection_says_one_thing(selection: Selection, ready: bool, words: str) -> None:
    problems = selection.problems(ready=ready)
    assert len(problems) == 1
    assert words in problems[0]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(Selection(ids=["a"], filter="", limit=-2).problems(ready=False)) == 3


@pytest.mark.parametrize(
    "selection",
    [Selection(ids=[]), Selection(filter="brand = a", limit=5), Selection(everything=True, exclude_ids=["a"])],
)
def test_what_says_one_thing_is_taken(selection: Selection) -> None:
    assert selection.problems(ready=False) == []
    assert Selection().problems(ready=True) == []


def test_a_flag_finds_its_column_and_is_refused_without_one() -> None:
    columns, problems = flag_columns(Flags(org="acme", repo="x"), SCHEMA)
    assert columns == {"repo": "Repo"}
    assert problems == [], "an org is looked for in org/name of the repo"
    _, problems = flag_columns(Flags(state="open"), SCHEMA)
    assert problems == ["state needs a column of texts called state; there are brand, Repo, state, a `b`"]


def test_ids_are_the_same_selection_in_any_order_unless_their_order_counts() -> None:
    one, two = Selection(ids=["a", "b", "a"]), Selection(ids=["b", "a"])
    assert one.identity(ordered=False) == two.identity(ordered=False)
    assert one.identity(ordered=True) != two.identity(ordered=True)
    assert Selection(ids=["ab"]).identity(ordered=True) != Selection(ids=["a", "b"]).identity(ordered=True)


def test_what_is_not_set_is_no_part_of_an_identity() -> None:
    assert Selection(everything=True).identity(ordered=False) == {"all": True}
    assert Ordering().identity() == {}
    assert Ordering(sort=()).identity() == {"sort": []}, "no sort columns are not the default ones"


def test_pinned_groups_come_before_those_by_hand_and_a_group_has_one_rank() -> None:
    ordering = Ordering(pinned=["C", "A"], group_order=["A", "B", "C"])
    assert dict(ordering.ranks) == {"C": 0, "A": 1, "B": 2}
    assert ordering.placed("A") == Placed("pinned", 2)
    assert ordering.placed("B") == Placed("priority", 1)
    assert ordering.placed("Z") == Placed("sort", 0)


@pytest.mark.parametrize(
    ("ordering", "listed", "words"),
    [
        (Ordering(pinned=["A", "A"]), False, "pinned has groups that stand twice: 'A'"),
        (Ordering(group_order=["A", "B", "B"]), False, "group_order has groups that stand twice: 'B'"),
        (Ordering(as_selected=True), False, "only ids, or a query with an ORDER BY"),
        (Ordering(as_selected=True, sort=[SortColumn("brand")]), True, "not both"),
        (Ordering(sort=[SortColumn("brand"), SortColumn("brand", True)]), False, "stand twice: 'brand'"),
        (Ordering(sort=[SortColumn(str(n)) for n in range(11)]), False, "at most 10"),
    ],
)
def test_an_order_says_one_thing(ordering: Ordering, listed: bool, words: str) -> None:
    problems = ordering.problems(SCHEMA, listed=listed)
    assert len(problems) == 1
    assert words in problems[0]


def test_every_column_is_a_field_whatever_its_name() -> None:
    fields = fields_of(SCHEMA)
    assert {name: field.kind for name, field in fields.items()} == {
        "brand": Kind.TEXT,
        "Repo": Kind.TEXT,
        "state": Kind.BOOLEAN,
        "a `b`": Kind.TEXT,
        "key": Kind.TEXT,
        "group": Kind.TEXT,
    }
    assert Filter.parse("`a \\`b\\``:x AND group = y", fields).names == {"a `b`", "group"}
