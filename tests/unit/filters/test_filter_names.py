"""Names as people write them: what is written of a name is read as that name, in filters and in lists to sort by."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.filter_names import listed, name_read, name_written
from penstock.filters import Field, Filter, Kind
from planner.choices import sort_columns
from planner.domain.ordering import SortColumn

NAMES = st.text(st.sampled_from("ab`\\ ,.'\"\nü"), max_size=8)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("price", "price"),
        ("result.value.label", "result.value.label"),
        ("odd name", "`odd name`"),
        ("a`b", "`a``b`"),
        ("``", "``````"),
        ("a\\b", "`a\\\\b`"),
    ],
)
def test_a_backtick_in_a_name_is_written_twice(name: str, written: str) -> None:
    assert name_written(name) == written


@given(NAMES)
@example("`")
@example("a\\")
def test_a_name_is_read_as_it_was_written(name: str) -> None:
    assert name_read(name_written(name)) == name
    chosen = Filter.parse(f"{name_written(name)} = 'x'", {name: Field(Kind.TEXT)})
    assert chosen.names == {name}
    assert chosen.matches({name: "x"})


@given(st.lists(st.tuples(NAMES, st.booleans()), min_size=1, max_size=4))
def test_columns_to_sort_by_are_read_as_they_were_written(columns: list[tuple[str, bool]]) -> None:
    text = ", ".join(name_written(name) + (" desc" if down else "") for name, down in columns)
    assert sort_columns(listed(text)) == tuple(SortColumn(name, down) for name, down in columns)


def test_names_without_backticks_mean_themselves_in_a_list() -> None:
    assert sort_columns(listed("odd name desc,a`b, c\\d")) == (
        SortColumn("odd name", True),
        SortColumn("a`b"),
        SortColumn("c\\d"),
    )


def test_a_backslash_still_keeps_a_backtick() -> None:
    """As filters that were kept have it."""
    assert Filter.parse(r"`a\`b` = 1", {"a`b": Field(Kind.NUMBER)}).names == {"a`b"}
    assert name_read(r"`a\`b`") == "a`b"
