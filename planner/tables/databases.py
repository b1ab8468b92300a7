"""A table or a query of a database as a part of a table: read only, one statement, streamed into a file first.

The rows are read once, since a query may answer differently the second time. Values become the texts that they would
have in a CSV; a DuckDB file's stay typed, in a Parquet file. PostgreSQL's rows come by COPY from one read-only
transaction, in a sequential scan that always begins at the beginning; SQLite's from a connection that may not write.
"""

from __future__ import annotations

import base64
import csv
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from penstock.runtime.errors import InvalidInput, NotFound, PenstockError, Unavailable
from penstock.runtime.parquet_files import literal
from planner.tables.csv_part import relation_of
from planner.tables.parquet_part import parquet_part
from planner.tables.parts import Part, identifier, row_places
from planner.tables.refusals import first_line, of_duckdb, refused
from planner.tables.unpacking import Plain
from planner.tables.wanted import DATABASES, Database, TableBounds

if TYPE_CHECKING:
    import psycopg

__all__ = ["database_part"]

_BATCH = 4_096
_CONNECT_SECONDS = 10
_ATTACHED = "attached"
_OF_THIS_MACHINE = ("File too large", "No space left", "disk quota")
_BOOL, _BYTEA, _RECORD = 16, 17, 2249


@dataclass(frozen=True, kw_only=True)
class RowsPart(Part):
    """Rows that have no lines."""

    def cleaned(self, *, skip_bad: bool) -> Part:
        """We wrote the file ourselves: nothing in it is broken."""
        return self

    def places(self, rows: Iterable[int]) -> Mapping[int, str]:
        return row_places(rows)


def database_part(database: Database, folder: Path, bounds: TableBounds) -> Part:
    """Raises InvalidInput, NotFound, Unavailable; OSError where the rows pass what one file may have."""
    if database.kind not in DATABASES:
        raise InvalidInput(
            f"{database.kind!r} is no kind of database; there are {', '.join(DATABASES)}", code="bad_kind"
        )
    if bool(database.table) == bool(database.query.strip()):
        raise InvalidInput("a database is read by the name of one table or by one query", code="bad_query")
    if database.kind != "postgresql" and not Path(database.place).is_file():
        raise NotFound(f"there is no database file {database.place}", code="no_database")
    match database.kind:
        case "duckdb":
            return _duckdb_part(database, folder, bounds)
        case "sqlite":
            return _sqlite_part(database, folder)
        case _:
            return _postgresql_part(database, folder)


def _duckdb_part(database: Database, folder: Path, bounds: TableBounds) -> Part:
    place = folder / "database.parquet"
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": f"{bounds.memory_bytes >> 20}MiB",
        "temp_directory": str(folder / "database-spill"),
        "max_temp_directory_size": f"{bounds.unpacked_bytes >> 20}MiB",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_persistent_secrets": False,
    }
    with closing(duckdb.connect(":memory:", config=config)) as connection:
        try:
            connection.execute(f"ATTACH {literal(Path(database.place).resolve())} AS {_ATTACHED} (READ_ONLY)")
            connection.execute(f"USE {_ATTACHED}")
            # From here on the query sees the attached database, and of files the upload's folder.
            connection.execute(f"SET allowed_directories = [{literal(folder.resolve())}]")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            query = _query(database)
            if database.query:
                statements = connection.extract_statements(query)
                if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                    raise InvalidInput("the query is not one SELECT", code="bad_query")
            names = [row[0] for row in connection.execute(f"DESCRIBE {query}").fetchall()]
            _check_names(names)
            connection.execute(f"COPY (SELECT * FROM ({query}\n)) TO {literal(place.resolve())} (FORMAT parquet)")
            return parquet_part(Plain(_name(database), "", place), connection)
        except duckdb.Error as error:
            raise _refused(database, error) from error


def _sqlite_part(database: Database, folder: Path) -> Part:
    uri = f"{Path(database.place).resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("PRAGMA query_only = on")
            connection.set_authorizer(_only_reads)
            found = connection.execute(_query(database))
            if found.description is None:
                raise InvalidInput("the query is not one SELECT", code="bad_query")
            names = [column[0] for column in found.description]
            _check_names(names)
            return _rows_part(database, folder, names, iter(lambda: found.fetchmany(_BATCH), []))
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _refused(database, error) from error


def _only_reads(action: int, *_: object) -> int:
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _postgresql_part(database: Database, folder: Path) -> Part:
    import psycopg

    options = "-c default_transaction_read_only=on -c synchronize_seqscans=off -c max_parallel_workers_per_gather=0"
    try:
        with psycopg.connect(database.place, connect_timeout=_CONNECT_SECONDS) as connection:
            connection.read_only = True
            for setting in options.split("-c ")[1:]:
                connection.execute(f"SET {setting.strip()}")
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET client_encoding = 'UTF8'")
            connection.execute("SET DateStyle = 'ISO'")
            # Where this process is ended, the server ends its query, too, and not when it would next send rows.
            connection.execute(
                "SELECT set_config(name, '10s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'"
            )
            if database.query:
                _check_role(connection)
            query = _query(database)
            columns = _described(connection, query)
            names = [name for name, _ in columns]
            _check_names(names)
            renamed = ", ".join(f"c{place}" for place in range(len(names)))
            cells = ", ".join(
                _postgresql_text(f"c{place}", kind, connection) for place, (_, kind) in enumerate(columns)
            )
            place = folder / "database.csv"
            with place.open("wb") as out, connection.cursor() as cursor:
                out.write(",".join(f"c{number}" for number in range(len(names))).encode() + b"\n")
                copy = f"COPY (SELECT {cells} FROM ({query}\n) AS q ({renamed})) TO STDOUT (FORMAT csv)"
                with cursor.copy(copy.encode()) as data:
                    for part in data:
                        out.write(part)
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database can't be reached: {first_line(error)}", code="database_unavailable") from error
    except psycopg.Error as error:
        raise _refused(database, error) from error
    return _csv_of(database, place, names)


def _check_role(connection: psycopg.Connection[Any]) -> None:
    """Raises InvalidInput for a role whose SELECT may read the server's files (`pg_read_file`) or worse.

    No setting takes that from it: a function of the query could give it back.
    """
    found = connection.execute(
        "SELECT string_agg(DISTINCT u.rolname, ', ') FROM pg_roles AS u, pg_roles AS r "
        "WHERE u.rolname IN (current_user, session_user) AND pg_has_role(u.oid, r.oid, 'MEMBER') AND (u.rolsuper OR "
        "r.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))"
    ).fetchone()
    if found and found[0]:
        raise InvalidInput(
            f"role {found[0]} of the database may read files of its server, so no query is asked as it: name a table, "
            "or have planner.databases name a role that may only read tables",
            code="database_role",
        )


def _described(connection: psycopg.Connection[Any], query: str) -> list[tuple[str, int]]:
    """(name, type) of a query's columns. Preparing takes one statement only, and one that is whole by itself."""
    from psycopg import pq

    server = connection.pgconn
    connection.execute("SELECT 1")  # a transaction has begun
    result = server.prepare(b"table", query.encode())
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise InvalidInput(f"the query is refused: {first_line(result.error_message.decode())}", code="bad_query")
    result = server.describe_prepared(b"table")
    if not result.nfields:
        raise InvalidInput("the query is not one SELECT", code="bad_query")
    return [((result.fname(place) or b"").decode(), result.ftype(place)) for place in range(result.nfields)]


def _postgresql_text(cell: str, kind: int, connection: psycopg.Connection[Any]) -> str:
    """SQL of a value as a CSV would have it: booleans as words, arrays and records as JSON, bytes as base64."""
    if kind == _BOOL:
        return f"CASE WHEN {cell} THEN 'true' WHEN NOT {cell} THEN 'false' END"
    if kind == _BYTEA:
        return f"translate(encode({cell}, 'base64'), E'\\n', '')"
    found = connection.execute("SELECT typcategory FROM pg_type WHERE oid = %s", (kind,)).fetchone()
    return f"to_json({cell})" if kind == _RECORD or (found and found[0] in ("A", "C")) else cell


def _rows_part(database: Database, folder: Path, names: list[str], batches: Iterator[list[tuple[Any, ...]]]) -> Part:
    place = folder / "database.csv"
    with place.open("w", encoding="utf-8", newline="") as out:
        # With CR LF as its line end the writer quotes a cell for either of them.
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow([f"c{number}" for number in range(len(names))])
        for rows in batches:
            if any(type(cell) is bytes for row in rows for cell in row):
                rows = [tuple(_text(cell) for cell in row) for row in rows]
            writer.writerows(rows)
    return _csv_of(database, place, names)


def _csv_of(database: Database, place: Path, names: list[str]) -> Part:
    columns = {name: f"c{number}" for number, name in enumerate(names)}
    return RowsPart(name=_name(database), columns=columns, relation=relation_of(place, b",", len(names)))


def _text(cell: Any) -> Any:
    return base64.b64encode(cell).decode() if type(cell) is bytes else cell


def _query(database: Database) -> str:
    if database.query:
        return database.query.strip().rstrip(";")
    return f"SELECT * FROM {'.'.join(identifier(part) for part in database.table.split('.'))}"


def _check_names(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        told = [f"{names.count(name)} columns are called {name!r}" for name in twice]
        raise refused("the columns are refused", told, code="bad_columns", hint="; name them apart in a query")


def _name(database: Database) -> str:
    return database.table or "the query"


def _refused(database: Database, error: Exception) -> PenstockError:
    if isinstance(error, duckdb.OutOfMemoryException) or any(words in str(error) for words in _OF_THIS_MACHINE):
        return of_duckdb(error, _name(database))
    return InvalidInput(f"{_name(database)} of the database is refused: {first_line(error)}", code="bad_query")
