"""Results beside the rows of a grid: what a reference in Python would show, filter, sort and count by them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from penstock.filters import Filter
from penstock.runtime.errors import InvalidInput
from penstock.runtime.parquet_files import literal
from planner.domain.natural import natural_key
from planner.domain.ordering import SortColumn
from planner.domain.schema import Column, ColumnKind, Schema
from planner.fields import fields_of
from planner.grid import Grid, GridQuery
from planner.grid_results import Beside, ResultsOf
from planner.grid_tables import GridTables
from planner.results.parts import OUTCOME_COLUMNS
from tests.snapshots import write_snapshot

SCHEMA = Schema(
    (Column("id", ColumnKind.TEXT), Column("brand", ColumnKind.TEXT), Column("price", ColumnKind.WHOLE)),
    key=("id",),
    group="brand",
    sort=("brand",),
)
ROWS = [{"id": f"p{n * 7 % 60}", "brand": ["Razer", "Acme"][n % 2], "price": n % 6} for n in range(60)]
LATER: Mapping[str, object] = {"seq": 0, "stage": 0, "settle_number": 1, "tries": 1, "healed": False, "group": ""}


def outcome(key: str, number: int, **said: object) -> dict[str, object]:
    return {
        **LATER,
        "source": "mice",
        "processor": "scan",
        "version": "1",
        "run_id": f"run-{number}",
        "number": number,
        "key": key,
        "state": "completed",
        "start_ms": 1_000 * number,
        "end_ms": 1_000 * number + 250,
        "cost_micros": 0,
        **said,
    }


def told(n: int) -> dict[str, object]:
    """The result of the row `p{n}`, where there is one."""
    if n % 4 == 1:
        return outcome(f"p{n}", 2, state="failed", kind="timeout", error="it hung", confidence=None, cost_micros=n)
    label = {
        "label": ["bug 9", "bug 10", "Idea"][n % 3],
        "sure": n % 2 == 0,
        "score": n / 2,
        "gap": None if n % 2 else "x",
        "odd/name~": [n],
        "a`b, c": -n / 2,
    }
    return outcome(f"p{n}", 3, confidence=n / 60, cost_micros=n, result=orjson.dumps(label).decode())


TOLD = {f"p{n}": told(n) for n in range(60) if n % 5}
OUTCOMES = [
    *(outcome(key, 1, state="failed", confidence=0.1, result='{"label": "old"}') for key in TOLD),
    *TOLD.values(),
    outcome("p0", 9, processor="other", confidence=0.5),
    outcome("p0", 9, source="cats", confidence=0.5),
    outcome("gone", 9, confidence=0.5),
]


def write_part(place: Path, outcomes: Sequence[Mapping[str, object]]) -> Path:
    """As `planner.results.parts` writes it."""
    kinds = {
        **dict.fromkeys(("source", "processor", "version", "run_id", "payload", "parameters"), "VARCHAR"),
        "number": "BIGINT",
        **OUTCOME_COLUMNS,
    }
    lines = place.with_suffix(".jsonl")
    lines.write_bytes(b"\n".join(orjson.dumps(dict(one)) for one in outcomes))
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in kinds.items())
    duckdb.execute(
        f"COPY (SELECT * FROM read_json({literal(lines)}, format = 'newline_delimited', columns = {{{columns}}})) "
        f"TO {literal(place)} (FORMAT parquet)"
    )
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside")
    write_snapshot(folder / "snapshot", SCHEMA, ROWS)
    half = len(OUTCOMES) // 2
    write_part(folder / "part0", OUTCOMES[half:])
    write_part(folder / "part1", OUTCOMES[:half])
    return folder


@pytest.fixture(scope="module")
def asked(folder: Path) -> ResultsOf:
    return ResultsOf("scan", "mice", (folder / "part0", folder / "part1"))


@pytest.fixture(scope="module", params=["memory", "file"])
def grid(request: pytest.FixtureRequest, folder: Path) -> Iterator[Grid]:
    tables = GridTables(folder)
    if request.param == "file":
        tables._too_large.add((folder / "snapshot").resolve())
    yield Grid(tables)
    tables.close()


def values_of(row: Mapping[str, object]) -> dict[str, object]:
    """What a filter may ask of a row, and of its result."""
    found: dict[str, object] = {**row, "key": row["id"], "group": row["brand"]}
    one: Any = TOLD.get(str(row["id"]))
    if one is None:
        return found
    for name in ("state", "confidence", "cost_micros", "version", "run_id", "kind", "error", "tries", "healed"):
        found[f"result.{name}"] = one.get(name)
    found |= {"result.run": one["number"], "result.seconds": 0.25, "result.end_time": one["end_ms"]}
    if one.get("result"):
        held = orjson.loads(one["result"])
        found |= {f"result.value.{name}": held[name] for name in ("label", "sure", "score", "gap", "a`b, c")}
        found["result.value.odd/name~"] = orjson.dumps(held["odd/name~"]).decode()
    return found


FILTERS = [
    "",
    "result.state = failed",
    "result.state != failed",
    "result.state is null",
    "NOT result.confidence < 0.5",
    "result.confidence < 0.5",
    "result.confidence < 0.5 AND price > 2",
    "result.state is null OR price > 4",
    "NOT (result.state = completed AND brand = Razer)",
    "result.cost_micros in (2, 3, 4) OR result.kind:TIME",
    "result.run = 3 AND result.seconds <= 0.25 AND result.tries = 1 AND result.healed = false",
    'result.end_time >= "1970-01-01T00:00:03Z"',
    'result.value.label = "bug 9"',
    "result.value.label:BUG AND NOT result.value.sure = true",
    "result.value.score > 10.5 AND price < 3",
    "`result.value.odd/name~`:1",
    "`result.value.a``b, c` < -10.5",
    "result.value.label is not null",
    "result.value.gap is null AND result.state = completed",
]


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("search", ["", "acme"])
def test_a_filter_over_results_takes_what_a_reference_takes(
    grid: Grid, folder: Path, asked: ResultsOf, text: str, search: str
) -> None:
    page = grid.page(
        folder / "snapshot", SCHEMA, GridQuery(filter=text, search=search, results=asked, groups=True, limit=100)
    )
    assert page.beside is not None
    chosen = Filter.parse(text, {**fields_of(SCHEMA), **page.beside.fields})
    rows = [row for row in ROWS if chosen.matches(values_of(row)) and search in str(row["brand"]).lower()]
    assert [row.key for row in page.rows] == [row["id"] for row in rows]
    assert page.total == len(rows)
    states = [str(values_of(row).get("result.state", "")) for row in rows]
    assert dict(page.states) == {state: states.count(state) for state in set(states)}


SORTS = [
    "state",
    "confidence",
    "cost_micros",
    "end_time",
    "healed",
    "value.label",
    "value.score",
    "value.sure",
    "value.a`b, c",
    "error",
]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("name", SORTS)
def test_rows_are_sorted_by_results_and_those_without_are_least(
    grid: Grid, folder: Path, asked: ResultsOf, name: str, descending: bool
) -> None:
    column = f"result.{name}"
    page = grid.page(folder / "snapshot", SCHEMA, GridQuery(sort=(SortColumn(column, descending),), results=asked))

    def place(row: Mapping[str, object]) -> tuple[object, ...]:
        value = values_of(row).get(column)
        if isinstance(value, str) or name in ("state", "value.label", "error"):
            return (natural_key(str(value or "")),)
        return () if value is None else (value,)

    found = sorted(ROWS, key=lambda row: str(row["id"]).encode())
    found.sort(key=place, reverse=descending)
    assert [row.key for row in page.rows] == [row["id"] for row in found]


def test_a_page_shows_the_latest_result_of_each_row(grid: Grid, folder: Path, asked: ResultsOf) -> None:
    page = grid.page(folder / "snapshot", SCHEMA, GridQuery(results=asked))
    for row in page.rows:
        one: Any = TOLD.get(row.key)
        assert (row.result is None) == (one is None)
        if row.result is None:
            continue
        assert (row.result.state, row.result.confidence) == (one["state"], one.get("confidence"))
        assert (row.result.cost_micros, row.result.seconds) == (one["cost_micros"], 0.25)
        assert (row.result.run, row.result.run_id, row.result.end_ms) == (one["number"], one["run_id"], one["end_ms"])
        assert (row.result.kind, row.result.error) == (one.get("kind", ""), one.get("error", ""))
        assert row.result.value == (one.get("result") or "")
    assert sum(count for _, count in page.states) == 0, "counts are for who asks for them"


def test_a_field_of_results_needs_results(grid: Grid, folder: Path, asked: ResultsOf) -> None:
    with pytest.raises(InvalidInput, match=r"no such field"):
        grid.page(folder / "snapshot", SCHEMA, GridQuery(filter="result.state = failed"))
    with pytest.raises(InvalidInput, match=r"no column 'result.state' to sort by"):
        grid.page(folder / "snapshot", SCHEMA, GridQuery(sort=(SortColumn("result.state"),)))
    with pytest.raises(InvalidInput, match=r"completed, failed"):
        grid.page(folder / "snapshot", SCHEMA, GridQuery(filter="result.state = done", results=asked))


def test_without_any_result_every_row_is_without(grid: Grid, folder: Path, asked: ResultsOf) -> None:
    for none in (ResultsOf("scan", "mice", ()), replace(asked, processor="nobody")):
        page = grid.page(folder / "snapshot", SCHEMA, GridQuery(filter="result.state is null", results=none))
        assert page.total == 60
        assert all(row.result is None for row in page.rows)


def test_a_later_state_of_the_copy_takes_the_place_of_the_earlier(folder: Path, asked: ResultsOf) -> None:
    tables = GridTables(folder)
    grid = Grid(tables)
    query = GridQuery(filter="result.run > 5", sort=(SortColumn("result.run", True),), results=asked)
    assert grid.page(folder / "snapshot", SCHEMA, query).total == 0
    before = tables.bytes_in_use
    parts = (*asked.parts, write_part(folder / "part2", [outcome("p0", 9, result="[1]", confidence=None)]))
    page = grid.page(folder / "snapshot", SCHEMA, replace(query, results=replace(asked, parts=parts)))
    assert [(row.key, row.result.run) for row in page.rows if row.result] == [("p0", 9)]
    assert tables.bytes_in_use < before * 1.2, "the earlier table is gone"
    assert grid.page(folder / "snapshot", SCHEMA, query).total == 0, "who has the earlier state sees that"
    tables.close()


def test_too_many_results_refuse_the_question_and_long_ones_leave_their_texts_out(
    folder: Path, asked: ResultsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = GridTables(folder, most_bytes=len(TOLD) * 200 - 1)
    with pytest.raises(InvalidInput) as caught:
        Grid(tables).page(folder / "snapshot", SCHEMA, GridQuery(results=asked))
    assert caught.value.code == "too_many_results"
    assert tables.bytes_in_use <= len(TOLD) * 200
    tables.close()
    tables = GridTables(folder, most_bytes=len(TOLD) * 200 + 500)
    page = Grid(tables).page(folder / "snapshot", SCHEMA, GridQuery(filter="result.state = completed", results=asked))
    assert page.rows
    assert all(row.result is not None and row.result.value == "" for row in page.rows)
    assert page.beside is not None
    assert not page.beside.values
    tables.close()


def test_a_long_result_is_cut_where_it_is_shown_and_whole_where_it_is_asked(folder: Path) -> None:
    long = orjson.dumps({"label": "x" * 5_000, "end": "here"}).decode()
    part = write_part(folder / "part3", [outcome("p1", 1, result=long, error="y" * 3_000)])
    tables = GridTables(folder)
    asked = ResultsOf("scan", "mice", (part,))
    page = Grid(tables).page(folder / "snapshot", SCHEMA, GridQuery(filter="result.value.end = here", results=asked))
    (row,) = page.rows
    assert row.result is not None
    assert (len(row.result.value), len(row.result.error)) == (1_000, 1_000)
    assert row.result.value.endswith("…")
    tables.close()


def test_many_who_ask_at_once_share_one_table(folder: Path, asked: ResultsOf) -> None:
    tables = GridTables(folder)
    grid = Grid(tables)
    found: list[Beside | None] = []

    def ask() -> None:
        found.append(grid.page(folder / "snapshot", SCHEMA, GridQuery(results=asked)).beside)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({one.table for one in found if one is not None}) == 1
    tables.close()
