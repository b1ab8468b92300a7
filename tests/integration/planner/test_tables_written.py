"""How values are written: payloads in one form whatever the key is, times and checks by a short way or the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.domain.schema import ColumnKind
from planner.domain.table_kinds import TIME, count, kind_of
from planner.tables.profile import TypedColumn, guard_sql, same_sql, utc_sql
from planner.tables.snapshot import text_sql, value_sql
from tests.integration.planner.table_files import as_jsonl, read

ROWS: list[dict[str, Any]] = [
    {"at": None, "key": "a", "list": None, "name": 'quo"te', "number": None, "on": None, "zero": "2024-05-06"},
    {"at": "2024-05-06T07:08:09Z", "key": "b", "list": [1], "name": None, "number": 1.5, "on": True, "zero": None},
    {"at": "2024-05-06T07:08:09Z", "key": "c", "list": None, "name": None, "number": 0.25, "on": None, "zero": None},
    {"at": None, "key": "d", "list": None, "name": None, "number": None, "on": None, "zero": None},
]
PAYLOADS = [
    '{"key":"a","name":"quo\\"te","zero":"2024-05-06"}',
    '{"at":"2024-05-06T07:08:09Z","key":"b","list":[1],"number":1.5,"on":true}',
    '{"at":"2024-05-06T07:08:09Z","key":"c","number":0.25}',
    '{"key":"d"}',
]
CELLS = (
    *("5", "-7", "0", "-0", "007", "9223372036854775807", "9223372036854775808", "true", "True", "FALSE", "yes"),
    *("0.5", "19.90", "19.9", "-0.0", "1.0", "1e-07", "1e21", "1.5e10", "Infinity", "NaN", "1e400", "0.10", "12e3"),
    *("2024-02-29", "2023-02-29", "0999-01-01", "1000-01-01", "9999-12-31", "10000-01-01", "2024-01-01T00:00:00Z"),
    *("2024-01-01T10:00:00Z", "2024-01-01T10:00:00.120Z", "2024-01-01 10:00", "9999-12-31T23:59:59-01", "infinity"),
    *("2024-01-01T10:00:00+02:00", "2024-01-01T10:00:00 Z", "0999-01-01T00:00:00Z", "a text", "[1]", " 5", "5 "),
)


@pytest.mark.parametrize("key", ["key", "hash", ("key", "key2")])
def test_a_payload_is_the_same_text_whichever_column_is_the_key(tmp_path: Path, key: str | tuple[str, ...]) -> None:
    more: dict[str, Any] = {"key2": 1} if isinstance(key, tuple) else {}
    found = read(tmp_path, as_jsonl([row | more for row in ROWS]), name="t.jsonl", key=key)
    assert [row["payload"].replace(',"key2":1', "") for row in found.rows] == PAYLOADS


@pytest.mark.parametrize("first", ["at", "list", "name", "number", "on", "zero"])
def test_a_key_may_be_first_or_last_of_the_fields(tmp_path: Path, first: str) -> None:
    """Commas stand behind the fields before the key and before those behind it."""
    for name in ("a", "z"):
        rows = [{name: n, **({first: row[first]} if row[first] is not None else {})} for n, row in enumerate(ROWS)]
        found = read(tmp_path, as_jsonl(rows), name="t.jsonl", key=name)
        assert found.payloads() == rows


@given(st.lists(st.from_regex(TIME, fullmatch=True), min_size=1, max_size=30))
def test_a_time_without_a_zone_needs_no_calendar(cells: list[str]) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        long = "TRY_CAST(t AS TIMESTAMPTZ) AT TIME ZONE 'UTC'"
        found = connection.execute(
            f"SELECT t, {long}, {utc_sql('t')} FROM (SELECT unnest($cells) AS t)", {"cells": cells}
        ).fetchall()
    assert [row for row in found if row[1] != row[2]] == []


SEEN = ("5", "true", "0.5", "0.25 0.75", "0.5 1e-07", "2024-02-29", "2024-01-01T10:00:00Z", "2024-01-01T10:00:00.120Z")


@pytest.mark.parametrize("seen", [cells.split() for cells in SEEN])
def test_what_is_written_as_we_write_it_is_what_the_guard_takes(seen: list[str]) -> None:
    counts = count(seen)
    column = TypedColumn("a", 0, kind_of(counts), counts, guarded=True)
    assert column.kind not in (ColumnKind.TEXT, ColumnKind.JSON)
    value = f"SELECT t0, {value_sql(column)} AS v0 FROM (SELECT unnest($cells) AS t0)"
    query = f"SELECT t0, {same_sql(column, 'v0', 'x0')}, {guard_sql(column, 'v0')} FROM "
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(
            f"{query} (SELECT *, {text_sql(column, 'v0')} AS x0 FROM ({value}))", {"cells": [*CELLS, *seen]}
        ).fetchall()
    assert [cell for cell, same, guard in found if same and not guard] == []
    assert any(same for _, same, _ in found[len(CELLS) :])
