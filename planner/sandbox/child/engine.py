"""DuckDB in the child: in memory, one thread, no file system but the snapshots, no setting that can still change.

`connect` is before the child shuts itself in, since it reads files of its own (libraries, the time zone); the rest is
after. Answers go out while they are made: DuckDB writes the keys as lines of JSON into `files`, so that a million of
them take 0.15 s and no memory here. A key that stands there repeatedly is answered at its first place.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from planner.sandbox.child.files import ANSWER, Output, SnapshotFiles, snapshot_path
from planner.sandbox.child.statement import Refused, check_tree, fold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

__all__ = ["Engine", "Unreadable"]

_MAX_MESSAGE = 600
_HEADROOM_BYTES = 512 << 20
"""Of the process's memory, what DuckDB does not count as its own: itself, parse trees, what an allocator leaves."""


class Unreadable(Exception):
    """A snapshot that can't be read, whatever is asked of it."""


class Engine:
    def __init__(self, fds: Sequence[int], memory_bytes: int, output: Output) -> None:
        SnapshotFiles.install()
        import duckdb

        self._duckdb = duckdb
        self._files = SnapshotFiles({snapshot_path(fd): fd for fd in fds}, output)
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "async_threads": 0,
                "memory_limit": f"{max(memory_bytes - _HEADROOM_BYTES, 64 << 20) >> 20}MiB",
                "temp_directory": "",
                "enable_external_file_cache": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
                "allow_persistent_secrets": False,
                "python_enable_replacements": False,
                "errors_as_json": True,
            },
        )
        self._connection.register_filesystem(self._files)

    def lock(self) -> None:
        """From here on it reaches the snapshots and nothing else, and stays so."""
        paths = ", ".join(_literal(path) for path in (*self._files.paths, ANSWER))
        for setting in (
            "TimeZone = 'UTC'",
            "enable_progress_bar = false",
            f"allowed_paths = [{paths}]",
            "enable_external_access = false",
            "disabled_filesystems = 'LocalFileSystem'",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def view(self, name: str, fd: int, columns: Sequence[tuple[str, str]]) -> None:
        """A table that a query may name. columns: (name, column of the file). Raises Unreadable."""
        listed = ", ".join(f"{_quoted(column)} AS {_quoted(shown)}" for shown, column in columns)
        try:
            self._connection.execute(
                f"CREATE VIEW {_quoted(name)} AS SELECT {listed} FROM read_parquet({_literal(snapshot_path(fd))})"
            )
        except self._duckdb.Error as error:
            raise Unreadable(_complaint(error)[0]) from error

    def check(self, sql: str, tables: Sequence[str]) -> None:
        """Raises Refused unless the text may run."""
        with self._told():
            [(tree,)] = self._connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
            statements = self._connection.extract_statements(sql)
        check_tree(json.loads(tree), tables)
        if [statement.type for statement in statements] != [self._duckdb.StatementType.SELECT]:
            raise Refused("sql_refused", "only a SELECT may be asked")

    def answer(self, sql: str, keys_of: Sequence[str], tables: Sequence[str]) -> None:
        """Sends the keys of a text that was checked. Raises Refused, Unreadable, MemoryError."""
        name = "answer"
        while fold(name) in map(fold, tables):
            name += "_"
        key = _quoted(_key_column(self._bind(sql, name), keys_of))
        self._files.answering = True
        # Where something happens now is a place in what DuckDB made of the text, and not in the text.
        with self._told(placed=False):
            # A view keeps the order of its query, and so do the window and, sorted anew, the groups.
            self._connection.execute(
                f"COPY (SELECT key FROM (SELECT key, min(place) AS place FROM (SELECT {key}::VARCHAR AS key, "
                f"row_number() OVER () AS place FROM {_quoted(name)}) GROUP BY key) ORDER BY place) "
                f"TO {_literal(ANSWER)} (FORMAT json, USE_TMP_FILE false)"
            ).fetchall()

    def _bind(self, sql: str, name: str) -> list[str]:
        """Makes a view of the query; returns its columns, different from each other. Raises Refused."""
        with self._told():
            try:
                self._connection.sql(self._connection.extract_statements(sql)[0]).create_view(name)
                return self._connection.view(name).columns
            except self._duckdb.ProgrammingError:
                # A relation does not say where in the text it can't be bound; a statement does, and fails alike.
                self._connection.execute(self._connection.extract_statements(sql)[0])
                raise

    @contextmanager
    def _told(self, *, placed: bool = True) -> Iterator[None]:
        """What DuckDB raises, as Refused, Unreadable or MemoryError. placed: whether its places are in the text."""
        try:
            yield
        except self._duckdb.OutOfMemoryException as error:
            raise MemoryError from error
        except self._duckdb.IOException as error:
            raise Unreadable(_complaint(error)[0]) from error
        except self._duckdb.Error as error:
            message, position = _complaint(error)
            raise Refused("bad_sql", message, position if placed else -1) from error


def _key_column(columns: list[str], keys_of: Sequence[str]) -> str:
    for name in keys_of:
        for column in columns:
            if fold(column) == fold(name):
                return column
    if len(columns) == 1:
        return columns[0]
    wanted = " or ".join(keys_of)
    raise Refused(
        "sql_no_key",
        f"the SELECT has the columns {', '.join(columns)[:_MAX_MESSAGE]}; it must have {wanted}, or one column alone",
    )


def _complaint(error: duckdb.Error) -> tuple[str, int]:
    """(message, position) of what DuckDB says: JSON behind a few words, or its plain text."""
    text = str(error)
    start = text.find("{")
    try:
        told: Any = json.loads(text[start:]) if start >= 0 else {}
    except ValueError:
        told = {}
    message = told.get("exception_message", text)
    message = message.partition("\n\tCandidate functions")[0].partition("\n\nLINE ")[0].strip()
    if message.startswith("Max expression depth"):  # the advice that follows is for who may change settings
        message = "it is nested too deep"
    return message[:_MAX_MESSAGE], int(told.get("position", -1))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
