"""Sources in use, as tables in memory: what a grid asks of them is answered without opening a file.

A table has the source's columns and one text of all of them in lower case for searching; its rowid is the row of the
snapshot. All tables together take at most TABLE_BYTES by estimate, and the least recently used go first. Of a source
that is too large for that only the text that is searched is held, of one that is larger still nothing: then its Parquet
file is read, which answers the same questions, and takes longer where much is searched. One DuckDB answers all callers,
each on a cursor of its own. A table is made once however many ask for it at once; one that must go while it is
read goes when its last reader has done. Results that stand beside the rows of a source (`planner.grid_results`) are
such tables, too: those of a later state of the copy take the place of the earlier ones. Raises Unavailable when a file
can't be read.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.runtime.parquet_files import ParquetFiles
from planner.domain.schema import ColumnKind, Schema
from planner.grid_results import Beside, ResultsOf, drop, held, results_of

if TYPE_CHECKING:
    import duckdb

__all__ = ["FILE", "TABLE_BYTES", "GridTables", "Relation"]

TABLE_BYTES = 400 << 20
MEMORY = "460MB"
THREADS = 2
_TEXT_BYTES, _OTHER_BYTES = 16, 8
_TEXTS = (ColumnKind.TEXT, ColumnKind.JSON)
_BETWEEN = "\x1f"
FILE = "read_parquet($snapshot, file_row_number = true)"


@dataclass(frozen=True)
class Relation:
    """Where rows are read: `sql` after FROM, `row` the column of their place in the snapshot; and where they are
    searched. `search`: the text of a row that is searched. `table`: the one in memory, empty where there is none."""

    snapshot: Path
    schema: Schema
    count: int
    table: str = ""
    searched_only: bool = False

    @property
    def sql(self) -> str:
        return self.table if self.table and not self.searched_only else FILE

    @property
    def row(self) -> str:
        return "file_row_number" if self.sql is FILE else "rowid"

    @property
    def searched_sql(self) -> str:
        return self.table or FILE

    @property
    def searched_row(self) -> str:
        return "rowid" if self.table else "file_row_number"

    @property
    def search(self) -> str:
        return "search" if self.table else search_sql(self.schema)

    def values(self, sql: str) -> dict[str, object]:
        """The parameters of a statement that reads `sql`."""
        return {"snapshot": str(self.snapshot)} if sql is FILE else {}


_Key = Path | tuple[Path, str, str]
"""A snapshot; or one with the source and the processor whose results stand beside it."""


@dataclass
class _Table:
    """Of the rows of a source, or of results."""

    held: Relation | Beside
    weight: int
    readers: int = 0
    gone: bool = False

    @property
    def name(self) -> str:
        return self.held.table


class GridTables:
    def __init__(self, folder: Path, *, most_bytes: int = TABLE_BYTES, memory: str = MEMORY) -> None:
        """`folder` is the blob store's; nothing outside it can be read."""
        folder = folder.resolve()
        spill = folder / ".planner" / f"spill-{os.getpid()}-grid"
        self._files = ParquetFiles(folder, memory=memory, spill=spill, what="the blob store", threads=THREADS)
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._tables: OrderedDict[_Key, _Table] = OrderedDict()
        self._loading = threading.Lock()
        self._too_large: set[Path] = set()
        self._names = map("grid{}".format, itertools.count())

    @property
    def bytes_in_use(self) -> int:
        """What the tables take, by estimate."""
        with self._lock:
            return sum(table.weight for table in self._tables.values())

    @contextmanager
    def opened(
        self, snapshot: Path, schema: Schema, *, load: bool = True
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, Relation]]:
        """The source with what of it is held in memory; load: put it there first, unless it is there."""
        with self._files.cursor() as cursor:
            table = self._pinned(cursor, snapshot, schema) if load else self._found(snapshot)
            if table is None:
                yield cursor, _file(cursor, snapshot, schema)
                return
            try:
                assert isinstance(table.held, Relation)
                yield cursor, table.held
            finally:
                self._release(cursor, table)

    @contextmanager
    def beside(
        self, cursor: duckdb.DuckDBPyConnection, snapshot: Path, asked: ResultsOf | None
    ) -> Iterator[Beside | None]:
        """The results of a processor beside the rows of a snapshot, on a cursor of `opened`; None for none.

        Raises InvalidInput where there are too many.
        """
        if asked is None:
            yield None
            return
        table = self._pinned_results(cursor, snapshot, asked)
        try:
            assert isinstance(table.held, Beside)
            yield table.held
        finally:
            self._release(cursor, table)

    def close(self) -> None:
        self._files.close()

    def _pinned(self, cursor: duckdb.DuckDBPyConnection, snapshot: Path, schema: Schema) -> _Table | None:
        """The table with this reader counted; None for a source that is too large."""
        found = self._found(snapshot)
        if found is not None or snapshot in self._too_large:
            return found
        with self._loading:
            # Another caller may have loaded it while this one waited.
            found = self._found(snapshot)
            if found is not None or snapshot in self._too_large:
                return found
            return self._load(cursor, _file(cursor, snapshot, schema))

    def _pinned_results(self, cursor: duckdb.DuckDBPyConnection, snapshot: Path, asked: ResultsOf) -> _Table:
        key = (snapshot, asked.source, asked.processor)
        found = self._found_results(cursor, key, asked)
        if found is not None:
            return found
        with self._loading:
            found = self._found_results(cursor, key, asked)
            if found is not None:
                return found
            beside = results_of(cursor, asked, snapshot, next(self._names), most_bytes=self._most_bytes)
            table = _Table(beside, held(cursor, beside), readers=1)
            for old in self._room(table.weight, instead=key):
                drop(cursor, old)
            with self._lock:
                self._tables[key] = table
            return table

    def _found_results(self, cursor: duckdb.DuckDBPyConnection, key: _Key, asked: ResultsOf) -> _Table | None:
        """Those of this state of the copy."""
        found = self._found(key)
        if found is None or (isinstance(found.held, Beside) and found.held.asked.parts == asked.parts):
            return found
        self._release(cursor, found)
        return None

    def _found(self, key: _Key) -> _Table | None:
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
                table.readers += 1
            return table

    def _load(self, cursor: duckdb.DuckDBPyConnection, file: Relation) -> _Table | None:
        whole, searched = _weights(cursor, file)
        only = whole > self._most_bytes
        weight = searched if only else whole
        if weight > self._most_bytes:
            self._too_large.add(file.snapshot)
            return None
        for old in self._room(weight):
            drop(cursor, old)
        relation = replace(file, table=next(self._names), searched_only=only)
        fields = "".join(f"f{at}, " for at in range(len(file.schema.columns)))
        held = "" if only else f'key, "group", {fields}'
        cursor.execute(
            f"CREATE TABLE {relation.table} AS SELECT {held}{file.search} AS search FROM read_parquet($snapshot)",
            {"snapshot": str(file.snapshot)},
        )
        table = _Table(relation, weight, readers=1)
        with self._lock:
            self._tables[file.snapshot] = table
        return table

    def _room(self, weight: int, *, instead: _Key | None = None) -> list[str]:
        """Forgets what stands under `instead`, and the least recently used tables until so much fits; answers the names
        of those that nobody reads."""
        gone = []
        with self._lock:
            taken = sum(table.weight for table in self._tables.values())
            while self._tables and (instead in self._tables or taken + weight > self._most_bytes):
                key = instead if instead in self._tables else next(iter(self._tables))
                assert key is not None
                old = self._tables.pop(key)
                taken -= old.weight
                old.gone = True
                if not old.readers:
                    gone.append(old.name)
        return gone

    def _release(self, cursor: duckdb.DuckDBPyConnection, table: _Table) -> None:
        with self._lock:
            table.readers -= 1
            last = table.gone and not table.readers
        if last:
            drop(cursor, table.name)


def _file(cursor: duckdb.DuckDBPyConnection, snapshot: Path, schema: Schema) -> Relation:
    row = cursor.execute("SELECT count(*) FROM read_parquet($snapshot)", {"snapshot": str(snapshot)}).fetchone()
    assert row is not None
    return Relation(snapshot, schema, row[0])


def search_sql(schema: Schema) -> str:
    """All columns of a row as one text in lower case; a part that is looked for does not reach over two of them."""
    fields = [f"f{at}" for at in range(len(schema.columns))]
    if len(schema.key) != 1:
        fields.append("key")
    return f"lower(concat_ws('{_BETWEEN}', {', '.join(fields)}))"


def _weights(cursor: duckdb.DuckDBPyConnection, file: Relation) -> tuple[int, int]:
    """An estimate of the bytes of its table, and of the searched text alone."""
    texts = ["key", '"group"']
    texts += [f"f{at}" for at, column in enumerate(file.schema.columns) if column.kind in _TEXTS]
    others = len(file.schema.columns) + 2 - len(texts)
    row = cursor.execute(
        f"SELECT coalesce(sum(strlen(concat({', '.join(texts)}))), 0) FROM read_parquet($snapshot)",
        {"snapshot": str(file.snapshot)},
    ).fetchone()
    assert row is not None
    search = int(row[0]) + file.count * (_TEXT_BYTES + len(texts) + others * _OTHER_BYTES)
    return int(row[0]) + search + file.count * (len(texts) * _TEXT_BYTES + others * _OTHER_BYTES), search
