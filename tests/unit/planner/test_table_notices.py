"""What was guessed of a table is told with the names of the columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.domain.schema import Schema
from planner.table_sources import _notices
from planner.tables.wanted import TableVersion


@pytest.mark.parametrize(
    ("guessed", "told"),
    [
        (("key", "group"), ["key is id and group is brand: guessed from the names of columns"]),
        (("group",), ["group is brand: guessed from the names of columns"]),
        ((), []),
    ],
)
def test_guesses_are_told_with_their_columns(guessed: tuple[str, ...], told: list[str]) -> None:
    schema = Schema(columns=(), key=("id",), group="brand", sort=())
    version = TableVersion("v", schema, row_count=1, snapshot=Path("s"), statistics=(), guessed=guessed)
    assert [notice["message"] for notice in _notices(version)] == told


def test_a_table_without_a_group_is_told_to_have_none() -> None:
    schema = Schema(columns=(), key=("id",), group="", sort=())
    version = TableVersion("v", schema, row_count=1, snapshot=Path("s"), statistics=(), guessed=("key", "group"))
    assert [one["message"] for one in _notices(version)] == [
        "key is id and group is none: guessed from the names of columns"
    ]
