"""Which columns are guessed for a part, and which names are refused."""

from __future__ import annotations

import pytest

from planner.domain.table_columns import column_problems, guess_group, guess_key, guess_sort, part_problems


@pytest.mark.parametrize(
    ("names", "key", "group", "sort"),
    [
        (["id", "product_id", "brand", "model", "variant"], ("product_id",), "brand", ("brand", "model", "variant")),
        (["Product ID", "Vendor", "Title"], ("Product ID",), "Vendor", ("Vendor", "Title")),
        (["productId", "productName", "colour"], ("productId",), "", ("productName", "colour")),
        (["number", "repo", "title"], ("repo", "number"), "repo", ("title",)),
        (["number", "title"], ("number",), "", ("title",)),
        (["id", "repo"], ("id",), "repo", ()),
        (["SKU", "Category"], ("SKU",), "Category", ()),
        (["repo", "created_at", "label", "title", "body"], (), "repo", ("title",)),
        (["a", "b"], (), "", ()),
    ],
)
def test_parts_are_guessed_from_well_known_names(
    names: list[str], key: tuple[str, ...], group: str, sort: tuple[str, ...]
) -> None:
    assert guess_key(names) == key
    assert guess_group(names) == group
    assert guess_sort(names) == sort
    assert guess_key(names[::-1]) == key, "the order of columns says nothing"


def test_all_problems_of_names_are_told_at_once() -> None:
    told = column_problems(["a", "", "a", "A", "x" * 201, "b\n"])
    assert [one.split(":")[0] for one in told] == [
        "column 2 has no name",
        "columns 1 and 3 are both called 'a'",
        "columns 1 and 4 differ in letter case alone, 'a' and 'A'",
        "the name of column 5 has 201 characters, at most 200 are taken",
        "the name of column 6, 'b\\n', has control characters",
    ]
    assert not column_problems(["a", "b c", "é", "`", '"'])


def test_a_part_names_a_column_once_and_not_too_many() -> None:
    assert part_problems({"key": ["a", "b", "a"], "order": ["x"] * 101}) == [
        "the key names 'a' more than once",
        "the order has 101 columns, at most 100 are taken",
    ]
    assert not part_problems({"key": ["a", "b"], "order": ["a", "c"]})
