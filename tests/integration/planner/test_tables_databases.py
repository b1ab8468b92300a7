"""A table or a query of DuckDB, SQLite or PostgreSQL, read and never written."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from penstock.runtime.errors import InvalidInput, PenstockError, TooLarge
from planner.tables.process import TableReader
from planner.tables.reading import read_table
from planner.tables.wanted import Database, TableBounds, Wanted
from tests.integration.planner.table_files import BOUNDS, Read, as_csv, as_parquet, read, snapshot_rows

ROWS: list[dict[str, Any]] = [
    {"id": 1, "brand": "Acme", "n": 1.5, "note": 'a "b",\r\nc'},
    {"id": 2, "brand": None, "n": None, "note": ""},
    {"id": 10, "brand": "Zeta", "n": -7.25, "note": "é\ttab"},
]
CREATE = "CREATE TABLE items (id INTEGER, brand TEXT, n DOUBLE PRECISION, note TEXT)"


def asked(folder: Path, database: Database, **wanted: Any) -> Read:
    place = folder / f"upload-{len(list(folder.iterdir()))}"
    place.mkdir()
    version = read_table(database, Wanted(**wanted), folder=place, bounds=BOUNDS)
    return Read(version, snapshot_rows(version.snapshot))


@pytest.fixture(params=["duckdb", "sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database with the table `items`, its rows not in the order of their keys."""
    values = [tuple(row.values()) for row in (ROWS[2], ROWS[0], ROWS[1])]
    if kind == "duckdb":
        path = tmp_path / "odd ?#% name.duckdb"
        with duckdb.connect(str(path)) as connection:
            connection.execute(CREATE)
            connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", values)
        return str(path)
    if kind == "sqlite":
        path = tmp_path / "odd ?#% name.sqlite"
        with sqlite3.connect(path) as lite:
            lite.execute(CREATE)
            lite.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", values)
        lite.close()
        return str(path)
    url = str(request.getfixturevalue("empty_postgres_url"))
    with psycopg.connect(url) as server:
        server.execute(CREATE)
        server.cursor().executemany("INSERT INTO items VALUES (%s, %s, %s, %s)", values)
        server.execute("GRANT SELECT, INSERT, DELETE ON items TO PUBLIC")
    return as_reader(url)


READER = "penstock_reader"


def as_reader(url: str, role: str = READER, *, member_of: str = "") -> str:
    """The same database for somebody who is no superuser."""
    with psycopg.connect(url) as server:
        if not server.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
            server.execute(f"CREATE ROLE {role} LOGIN")
        if member_of:
            server.execute(f"GRANT {member_of} TO {role}")
        info = server.info
        return f"postgresql://{role}@/{info.dbname}?host={info.host}&port={info.port}"


def test_a_table_is_read_in_the_order_of_its_key_and_a_query_in_its_own(kind: str, place: str, tmp_path: Path) -> None:
    table = asked(tmp_path, Database(kind, place, table="items"))
    assert table.keys == ["1", "10", "2"]
    query = asked(tmp_path, Database(kind, place, query="SELECT * FROM items ORDER BY id DESC -- last;"))
    assert query.keys == ["10", "2", "1"]
    alike = read(tmp_path, as_csv([*ROWS[::-1][:1], ROWS[1], ROWS[0]], end="\r\n"))
    assert query.version.version_id == alike.version.version_id
    assert query.kinds() == {"id": "whole", "brand": "text", "n": "number", "note": "text"}


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM items",
        "SELECT 1 AS id; SELECT 2 AS id",
        "SELECT 1 AS id; DELETE FROM items",
        "SELECT 1 AS id) TO PROGRAM 'true' --",
        "SELECT 1 AS id) AS q TO STDOUT; COMMIT; DELETE FROM items; --",
        "INSERT INTO items VALUES (7, 'x', 1, 'y') RETURNING id",
        "DROP TABLE items",
        "COPY items TO '/tmp/stolen.csv'",
        "ATTACH ':memory:' AS other",
        "PRAGMA journal_mode = DELETE",
        "SELECT * FROM no_such_table",
        "SELECT",
        "WITH gone AS (DELETE FROM items RETURNING id) SELECT * FROM gone",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT content AS id FROM read_text('/etc/passwd')",
        "SELECT readfile('/etc/passwd') AS id",
        "SELECT load_extension('/tmp/x') AS id",
        "SELECT writefile('/tmp/stolen', 'x') AS id",
        "SELECT file AS id FROM glob('/etc/*')",
        "SELECT pg_read_file('/etc/passwd') AS id",
        "SELECT lo_export(1, '/tmp/stolen') AS id",
        "SELECT set_config('role', 'postgres', false) AS id",
        "SELECT getenv('HOME') AS id",
        "COPY (SELECT 1) TO PROGRAM 'touch /tmp/stolen'",
        "SELECT 1 AS id, 2 AS id",
        "VACUUM",
    ],
)
def test_what_is_not_one_select_is_refused_and_changes_nothing(
    query: str, kind: str, place: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked(tmp_path, Database(kind, place, query=query))
    assert caught.value.code in ("bad_query", "bad_columns")
    assert asked(tmp_path, Database(kind, place, table="items")).version.row_count == 3


def test_no_query_is_asked_as_a_role_that_may_read_files_of_its_server(empty_postgres_url: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_postgres_url) as server:
        server.execute("CREATE TABLE items AS SELECT 1 AS id")
        server.execute("GRANT SELECT ON items TO PUBLIC")
    member = as_reader(empty_postgres_url, "penstock_member", member_of="pg_read_server_files")
    # `set_config` would give a superuser's rights back while the query runs, and this asks for more SQL.
    query = (
        "SELECT 'k' || set_config('role', 'none', false) AS id, "
        "query_to_xml('SELECT pg_read_file(''/etc/passwd'')', true, true, '')::text AS x"
    )
    for url in (empty_postgres_url, member):
        for text in (query, "SELECT 1 AS id"):
            with pytest.raises(InvalidInput, match="may read files of its server") as caught:
                asked(tmp_path, Database("postgresql", url, query=text))
            assert caught.value.code == "database_role"
        assert asked(tmp_path, Database("postgresql", url, table="items")).keys == ["1"]


def test_a_database_that_goes_away_in_the_middle_is_told(empty_postgres_url: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_postgres_url) as server:
        server.execute(
            "CREATE TABLE items AS SELECT i AS id, repeat('x', 500) AS x FROM generate_series(1, 20000) AS i"
        )
        server.execute("GRANT SELECT ON items TO PUBLIC")
    query = "SELECT id, x, CASE WHEN id = 9500 THEN pg_terminate_backend(pg_backend_pid()) END AS gone FROM items"
    with pytest.raises(PenstockError, match="terminating connection") as caught:
        asked(tmp_path, Database("postgresql", as_reader(empty_postgres_url), query=query))
    assert caught.value.code == "database_unavailable"


def test_a_query_without_end_is_stopped_before_it_fills_the_disk(kind: str, place: str, tmp_path: Path) -> None:
    endless = {
        "duckdb": "SELECT i AS id, hash(i) AS h FROM range(10000000000) AS r(i)",
        "sqlite": "WITH RECURSIVE r(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM r) SELECT id, id AS h FROM r",
        "postgresql": "SELECT generate_series(1, 10000000000) AS id",
    }[kind]
    folder = tmp_path / "endless"
    folder.mkdir()
    reader = TableReader(TableBounds(threads=1, unpacked_bytes=1 << 20))
    with pytest.raises(TooLarge) as caught:
        reader.read(Database(kind, place, query=endless), Wanted(), folder=folder, stop=threading.Event())
    assert caught.value.code == "too_large"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 4 << 20


def test_no_path_of_this_machine_is_told(tmp_path: Path) -> None:
    """Neither where an upload lies nor whose home this is."""
    database = tmp_path / "d.duckdb"
    duckdb.connect(str(database)).close()
    (tmp_path / "broken.duckdb").write_bytes(b"x" * 5_000)
    for place, query in (
        (database, "SELECT * FROM duckdb_secrets()"),
        (database, f"SELECT * FROM read_csv('{tmp_path}/x')"),
        (database, "SELECT * FROM glob('~/*')"),
        (tmp_path / "broken.duckdb", "SELECT 1 AS id"),
    ):
        with pytest.raises(PenstockError) as caught:
            asked(tmp_path, Database("duckdb", str(place), query=query))
        assert str(tmp_path) not in caught.value.message
        assert str(Path.home()) not in caught.value.message, caught.value.message


def test_a_place_that_is_none_or_a_request_that_says_two_things_is_refused(tmp_path: Path) -> None:
    for database, code in (
        (Database("duckdb", str(tmp_path / "none"), table="t"), "no_database"),
        (Database("sqlite", str(tmp_path / "none"), table="t"), "no_database"),
        (Database("postgresql", "postgresql://nobody@127.0.0.1:1/none", table="t"), "database_unavailable"),
        (Database("oracle", "x", table="t"), "bad_kind"),
        (Database("duckdb", "x"), "bad_query"),
        (Database("duckdb", "x", table="t", query="SELECT 1"), "bad_query"),
    ):
        with pytest.raises(PenstockError) as caught:
            asked(tmp_path, database)
        assert caught.value.code == code
    (tmp_path / "text").write_text("no database" * 100)
    for kind in ("duckdb", "sqlite"):
        with pytest.raises(PenstockError, match="refused"):
            asked(tmp_path, Database(kind, str(tmp_path / "text"), table="t"))


def test_values_of_postgresql_are_what_a_csv_would_have(empty_postgres_url: str, tmp_path: Path) -> None:
    select = (
        "SELECT 'k' AS id, true AS yes, false AS no, NULL::boolean AS maybe, ARRAY['a', NULL] AS list, "
        "'{\"a\": [1]}'::jsonb AS object, 12.50::numeric AS price, 0.1::real AS small, 'NaN'::float8 AS nan, "
        "TIMESTAMPTZ '2024-01-02 03:04:05.678+02' AS at, DATE '2024-01-02' AS day, '\\x00ff'::bytea AS bytes, "
        "ROW(1, 'x') AS row, '1 day'::interval AS span, 9223372036854775807 AS big"
    )
    found = asked(tmp_path, Database("postgresql", as_reader(empty_postgres_url), query=select))
    assert found.payloads() == [
        {
            "id": "k",
            "yes": True,
            "no": False,
            "list": ["a", None],
            "object": {"a": [1]},
            "price": 12.5,
            "small": 0.1,
            "nan": "NaN",
            "at": "2024-01-02T01:04:05.678Z",
            "day": "2024-01-02",
            "bytes": "AP8=",
            "row": {"f1": 1, "f2": "x"},
            "span": "1 day",
            "big": 9223372036854775807,
        }
    ]


def test_values_of_parquet_are_what_a_csv_would_have(tmp_path: Path) -> None:
    select = (
        "SELECT 'k' AS id, {'a': [1, NULL], 'b': {'c': DATE '2024-01-02'}} AS struct, MAP {'x': 1} AS map, "
        "'\\x00\\xFF'::BLOB AS bytes, 0.1::FLOAT AS small, 'NaN'::DOUBLE AS nan, 'inf'::DOUBLE AS inf, "
        "18446744073709551615::UBIGINT AS big, 12.50::DECIMAL(9, 2) AS price, "
        "TIMESTAMP_NS '2024-01-02 03:04:05.678901234' AS at, TIME '03:04:05' AS clock, "
        "uuid '8a1a5d6e-0000-4000-8000-000000000001' AS code, INTERVAL 1 DAY AS span, '{\"z\": 1}'::JSON AS json"
    )
    found = read(tmp_path, as_parquet(tmp_path, select), name="t.parquet")
    assert found.payloads() == [
        {
            "id": "k",
            "struct": {"a": [1, None], "b": {"c": "2024-01-02"}},
            "map": {"x": 1},
            "bytes": "AP8=",
            "small": 0.1,
            "inf": "inf",
            "big": "18446744073709551615",
            "price": 12.5,
            "at": "2024-01-02T03:04:05.678Z",
            "clock": "03:04:05",
            "code": "8a1a5d6e-0000-4000-8000-000000000001",
            "span": "1 day",
            "json": {"z": 1},
        }
    ]
