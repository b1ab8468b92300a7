"""Rows of a grid: the page that a reference in Python would show, from memory and from the file alike."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.filters import Filter
from penstock.runtime.errors import InvalidInput, Unavailable
from planner.domain.natural import natural_key
from planner.domain.ordering import Ordering, SortColumn
from planner.domain.schema import Column, ColumnKind, Schema
from planner.domain.selection import Selection
from planner.fields import fields_of
from planner.grid import CELL_CHARACTERS, Grid, GridPage, GridQuery
from planner.grid_tables import GridTables
from planner.ordered import OrderedPlans
from planner.selecting import Wanted
from tests.snapshots import write_snapshot

SCHEMA = Schema(
    (
        Column("id", ColumnKind.TEXT),
        Column("brand", ColumnKind.TEXT),
        Column("note", ColumnKind.TEXT),
        Column("size", ColumnKind.WHOLE),
        Column("price", ColumnKind.NUMBER),
        Column("sold", ColumnKind.BOOLEAN),
        Column("made", ColumnKind.TIME),
    ),
    key=("id",),
    group="brand",
    sort=("brand",),
)
ROWS: Sequence[Mapping[str, object]] = [
    {
        "id": f"p{n * 7 % 60}",
        "brand": ["Razer", "Acme 9", "acme 10", "Ärger", None][n % 5],
        "note": [None, "Viper V9", "viper v10", "ÉCLAIR", "a%b_c"][n // 3 % 5],
        "size": None if n % 11 == 0 else n % 6,
        "price": n / 4,
        "sold": [True, False, None][n % 3],
        "made": n * 1_000,
    }
    for n in range(60)
]
QUERIES = st.builds(
    GridQuery,
    filter=st.sampled_from(["", "", "", "", "size > 2", "brand:ACME", "NOT sold = true", "size > 100"]),
    search=st.sampled_from(
        ["", "", "", "", "", "VIPER", "éclair", "%", "_", "p1", "3.75", "true", "razerviper", "1970-01-01 00:00:07"]
    ),
    sort=st.lists(st.sampled_from(SCHEMA.names), max_size=2, unique=True).flatmap(
        lambda names: st.tuples(*(st.builds(SortColumn, st.just(name), st.booleans()) for name in names))
    ),
    offset=st.sampled_from([0, 0, 0, 5, 58, 1_000]),
    limit=st.sampled_from([100, 100, 7, 1]),
    groups=st.booleans(),
)
PLANNED = Ordering(pinned=["Razer"], sort=[SortColumn("size", True)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a snapshot and a plan of it."""
    folder = tmp_path_factory.mktemp("grid")
    write_snapshot(folder / "snapshot", SCHEMA, ROWS)
    wanted = Wanted(
        snapshot=folder / "snapshot", schema=SCHEMA, selection=Selection(filter="size < 5"), ordering=PLANNED
    )
    OrderedPlans(folder).write(wanted, folder / "plan")
    return folder


@pytest.fixture(scope="module", params=["memory", "search", "file", "little"])
def grid(request: pytest.FixtureRequest, folder: Path) -> Iterator[Grid]:
    """search: only the text that is searched is in memory; little: nothing is kept from one question to the next."""
    whole = GridTables(folder)
    with whole.opened(folder / "snapshot", SCHEMA):
        bound = {"file": 0, "search": whole.bytes_in_use - 1}.get(request.param, 1 << 20)
    whole.close()
    tables = GridTables(folder, most_bytes=bound)
    with tables.opened(folder / "snapshot", SCHEMA) as (_, relation):
        assert (bool(relation.table), relation.searched_only) == (request.param != "file", request.param == "search")
    yield Grid(tables, view_bytes=0 if request.param == "little" else 1 << 20)
    assert (tables.bytes_in_use == 0) == (request.param == "file")
    tables.close()


def sortable(value: object, kind: ColumnKind) -> tuple[object, ...]:
    if kind is ColumnKind.TEXT:
        return (natural_key(str(value or "")),)
    return () if value is None else (value,)


def ordered(rows: Sequence[Mapping[str, object]], sort: Sequence[SortColumn]) -> list[Mapping[str, object]]:
    found = sorted(rows, key=lambda row: str(row["key"]).encode()) if sort else list(rows)
    for column in reversed(sort):
        kind = SCHEMA.kind(column.name)
        found.sort(key=lambda row: sortable(row[column.name], kind), reverse=column.descending)
    return found


def text_of(row: Mapping[str, object]) -> str:
    """All columns as they are searched."""
    seconds = int(str(row["made"])) // 1_000
    cells = [
        row["id"],
        row["brand"],
        row["note"],
        row["size"],
        row["price"],
        row["sold"],
        f"1970-01-01 00:00:{seconds:02}",
    ]
    return "\x1f".join(str(cell) for cell in cells if cell is not None).lower()


def expected(query: GridQuery, *, planned: bool) -> tuple[list[str], int, Counter[str]]:
    rows: list[Mapping[str, object]] = [{**row, "key": row["id"], "group": row["brand"] or ""} for row in ROWS]
    if planned:
        rows = [row for row in ordered(rows, PLANNED.sort or ()) if isinstance(row["size"], int) and row["size"] < 5]
        rows.sort(key=lambda row: row["group"] != "Razer")
    chosen = Filter.parse(query.filter, fields_of(SCHEMA))
    rows = [row for row in rows if chosen.matches(row) and query.search.lower() in text_of(row)]
    found = ordered(rows, query.sort)
    page = [str(row["key"]) for row in found[query.offset : query.offset + query.limit]]
    return page, len(found), Counter(str(row["group"]) for row in found)


def same(page: GridPage, query: GridQuery, *, planned: bool) -> None:
    keys, total, groups = expected(query, planned=planned)
    assert [row.key for row in page.rows] == keys
    assert page.total == total
    if query.groups:
        assert dict(page.groups) == groups
        assert page.group_count == len(groups)
        assert [count for _, count in page.groups] == sorted(groups.values(), reverse=True)
    for row in page.rows:
        held = ROWS[row.row]
        made = f"1970-01-01T00:00:{int(str(held['made'])) // 1_000:02}Z"
        assert row.values == tuple({**held, "made": made}[column.name] for column in SCHEMA.columns)
        assert row.group == (held["brand"] or "")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=QUERIES, planned=st.booleans())
def test_a_page_is_what_a_reference_shows(grid: Grid, folder: Path, query: GridQuery, planned: bool) -> None:
    asked = GridQuery(**{**query.__dict__, "plan": folder / "plan" if planned else None})
    same(grid.page(folder / "snapshot", SCHEMA, asked), query, planned=planned)


def test_an_item_of_a_plan_says_where_it_stands_however_the_page_is_sorted(grid: Grid, folder: Path) -> None:
    query = GridQuery(plan=folder / "plan")
    in_order = grid.page(folder / "snapshot", SCHEMA, query).rows
    assert [row.seq for row in in_order] == list(range(len(in_order)))
    by_key = grid.page(folder / "snapshot", SCHEMA, GridQuery(plan=folder / "plan", sort=(SortColumn("key"),))).rows
    assert {row.key: row.seq for row in by_key} == {row.key: row.seq for row in in_order}
    assert [row.seq for row in by_key] != [row.seq for row in in_order]


def test_the_rows_of_a_question_can_be_had_whole(grid: Grid, folder: Path) -> None:
    query = GridQuery(search="viper", sort=(SortColumn("price", descending=True),), limit=3)
    rows = grid.rows(folder / "snapshot", SCHEMA, query)
    assert [str(ROWS[row]["id"]) for row in rows] == expected(
        GridQuery(search="viper", sort=query.sort, limit=1_000), planned=False
    )[0]


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        (GridQuery(limit=0), "bad_page", "1-1,000 rows; 0 from 0 on"),
        (GridQuery(limit=1_001), "bad_page", "1,001"),
        (GridQuery(offset=-1), "bad_page", "from -1 on"),
        (GridQuery(search="x" * 201), "bad_search", "at most 200"),
        (GridQuery(search="a\x1fb"), "bad_search", "can be printed"),
        (GridQuery(sort=(SortColumn("prize"),)), "bad_order", "'prize' to sort by; there are: id, brand"),
        (GridQuery(sort=(SortColumn("size"),) * 11), "bad_order", "at most 10"),
        (GridQuery(columns=("brnad",)), "no_such_column", "'brnad' to show; there are: id, brand"),
        (GridQuery(filter="size >"), "bad_filter", "a value of size"),
    ],
)
def test_what_can_not_be_asked_is_refused(grid: Grid, folder: Path, query: GridQuery, code: str, words: str) -> None:
    with pytest.raises(InvalidInput) as told:
        grid.page(folder / "snapshot", SCHEMA, query)
    assert told.value.code == code
    assert words in told.value.message


def test_long_cells_are_cut(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "snapshot", SCHEMA, [{"id": "a", "note": "ä" * 1_000}, {"id": "b", "note": "ä" * 5_000}])
    rows = Grid(GridTables(tmp_path)).page(tmp_path / "snapshot", SCHEMA, GridQuery(groups=True)).rows
    assert [row.values[2] for row in rows] == ["ä" * 1_000, "ä" * (CELL_CHARACTERS - 1) + "…"]


def test_times_are_told_in_utc_with_milliseconds_where_they_have_any(tmp_path: Path) -> None:
    made = {"a": 1_768_125_600_000, "b": 1_768_125_600_120, "c": -1_000, "d": None}
    write_snapshot(tmp_path / "snapshot", SCHEMA, [{"id": name, "made": at} for name, at in made.items()])
    rows = Grid(GridTables(tmp_path)).page(tmp_path / "snapshot", SCHEMA, GridQuery(columns=("made",))).rows
    assert [row.values for row in rows] == [
        ("2026-01-11T10:00:00Z",),
        ("2026-01-11T10:00:00.120Z",),
        ("1969-12-31T23:59:59Z",),
        (None,),
    ]


def test_only_the_columns_that_are_named_are_shown(grid: Grid, folder: Path) -> None:
    query = GridQuery(columns=("size", "group", "size"), limit=2)
    rows = grid.page(folder / "snapshot", SCHEMA, query).rows
    assert [row.values for row in rows] == [(held["size"], held["brand"] or "", held["size"]) for held in ROWS[:2]]


def test_thousands_of_columns_are_no_trouble(tmp_path: Path) -> None:
    schema = Schema(
        tuple(Column(f"c {at}", ColumnKind.TEXT if at else ColumnKind.WHOLE) for at in range(1_200)), ("c 1",), "", ()
    )
    fields = ", ".join(f"'v{at}-' || i AS f{at}" if at else "i AS f0" for at in range(1_200))
    duckdb.execute(
        f"COPY (SELECT 'v1-' || i AS key, '' AS \"group\", '{{}}' AS payload, {fields} FROM range(20) AS t(i)) "
        f"TO '{tmp_path / 'snapshot'}' (FORMAT parquet)"
    )
    query = GridQuery(
        search="V1199-1", filter="`c 0` > 5", sort=(SortColumn("c 1198", True),), columns=("c 1198",), groups=True
    )
    page = Grid(GridTables(tmp_path)).page(tmp_path / "snapshot", schema, query)
    assert [row.values for row in page.rows] == [(f"v1198-{number}",) for number in range(19, 9, -1)]


def test_an_empty_source_has_an_empty_page(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "snapshot", SCHEMA, [])
    grid = Grid(GridTables(tmp_path))
    for query in (GridQuery(), GridQuery(groups=True, search="a", sort=(SortColumn("size"),))):
        assert grid.page(tmp_path / "snapshot", SCHEMA, query) == GridPage((), 0)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        Grid(GridTables(tmp_path)).page(tmp_path / "none", SCHEMA, GridQuery(groups=True))


def snapshots(folder: Path, count: int) -> list[Path]:
    places = [folder / f"snapshot-{number}" for number in range(count)]
    for number, place in enumerate(places):
        write_snapshot(place, SCHEMA, [{"id": f"{number}-{n}", "size": n} for n in range(100)])
    return places


def test_tables_keep_within_their_bound_and_the_least_used_goes(tmp_path: Path) -> None:
    places = snapshots(tmp_path, 4)
    tables = GridTables(tmp_path)
    grid = Grid(tables)
    grid.page(places[0], SCHEMA, GridQuery(groups=True))
    one = tables.bytes_in_use
    tables.close()
    tables = GridTables(tmp_path, most_bytes=2 * one + one // 2)
    grid = Grid(tables)
    for place in (places[0], places[1], places[0], places[2]):
        grid.page(place, SCHEMA, GridQuery(groups=True))
        assert tables.bytes_in_use <= 2 * one + one // 2
    with tables.opened(places[0], SCHEMA) as (cursor, _):
        held = cursor.execute("SELECT count(*) FROM duckdb_tables()").fetchone()
        assert held == (2,)
        found = cursor.execute("SELECT key FROM grid0 LIMIT 1").fetchone()
        assert found == ("0-0",), "the one that was used last is still there"


def test_a_table_that_must_go_waits_for_its_reader(tmp_path: Path) -> None:
    places = snapshots(tmp_path, 2)
    tables = GridTables(tmp_path, most_bytes=30_000)
    with tables.opened(places[0], SCHEMA) as (cursor, relation):
        assert relation.table
        with tables.opened(places[1], SCHEMA) as (_, other):
            assert other.table
        assert cursor.execute(f"SELECT count(*) FROM {relation.sql}").fetchone() == (100,)
    with tables.opened(places[1], SCHEMA) as (cursor, _):
        assert cursor.execute("SELECT count(*) FROM duckdb_tables()").fetchone() == (1,)


def test_many_callers_at_once_get_their_own_answers(tmp_path: Path) -> None:
    """Tables come and go under them: two of four fit."""
    places = snapshots(tmp_path, 4)
    grid = Grid(GridTables(tmp_path, most_bytes=60_000), view_bytes=2_000)
    wrong: list[object] = []

    def ask(caller: int) -> None:
        for turn in range(25):
            number = (caller + turn) % 4
            query = GridQuery(filter=f"size >= {turn}", search=f"{number}-", sort=(SortColumn("size", True),), limit=2)
            try:
                page = grid.page(places[number], SCHEMA, query)
            except Exception as error:
                wrong.append(error)
                return
            if [row.key for row in page.rows] != [f"{number}-99", f"{number}-98"] or page.total != 100 - turn:
                wrong.append((number, turn, page))

    callers = [threading.Thread(target=ask, args=(caller,)) for caller in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []
