"""A Parquet file whose types would keep its reader busy for ever is refused by what it says of itself."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2
from planner.tables.parquet_part import MAX_LISTS, lists_within
from tests.integration.planner.conftest import Planner

Part = planner_pb2.CreateSourceRequest


@st.composite
def kinds(draw: st.DrawFn, left: int = 4) -> tuple[str, int]:
    """A type, and how many lists and maps stand within each other in it."""
    how = draw(st.sampled_from(["plain", "list", "struct", "map"])) if left else "plain"
    if how == "plain":
        return draw(st.sampled_from(["INTEGER", "DECIMAL(38,10)", "TIMESTAMP WITH TIME ZONE"])), 0
    kind, depth = draw(kinds(left - 1))
    if how == "list":
        return f"{kind}[{draw(st.sampled_from(['', '3']))}]", depth + 1
    if how == "map":
        return f"MAP(VARCHAR, {kind})", depth + 1
    other, deeper = draw(kinds(left - 1))
    return f'STRUCT(a {kind}, "b[](,MAP(" {other})', max(depth, deeper)


@given(told=kinds())
def test_lists_within_each_other_are_counted_by_the_type(told: tuple[str, int]) -> None:
    kind, depth = told
    assert lists_within(kind) == depth
    ((_, named, *_),) = duckdb.execute(f"DESCRIBE SELECT NULL::{kind} AS x").fetchall()
    assert lists_within(named) == depth


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What is told here does not depend on the database."""
    return sqlite_url


async def sent(planner: Planner, tmp_path: Path, lists: int) -> planner_pb2.Source:
    place, value = tmp_path / "deep.parquet", "[" * lists + "i" + "]" * lists
    duckdb.execute(f"COPY (SELECT 'k' || i AS id, {value} AS x FROM range(3) AS t(i)) TO '{place}' (FORMAT parquet)")
    header = Part.Header(kind=planner_pb2.SOURCE_KIND_CATALOG, name="deep")
    with place.open("rb") as file:
        data = file.read()
    return await planner.send([Part(header=header), Part(file=Part.File(name=place.name)), Part(chunk=data)])


async def test_lists_past_the_bound_are_refused_at_once_and_leave_nothing(planner: Planner, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="column 'x' has more than 12 lists or maps within each other") as told:
        await sent(planner, tmp_path, 60)
    assert told.value.code == "bad_columns"
    assert planner.left_behind() == set()
    assert (await sent(planner, tmp_path, MAX_LISTS)).item_count == 3
