"""Catalogs and tables on their way to a source: files as they were sent, or a place that the planner can read itself.

The files lie in the upload's folder until they are read, in a process of its own (`planner.tables`): what a stranger's
file does to its reader is not done to the planner. A version that is there already is not written again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import orjson

from penstock.databases import DATABASE_SUFFIXES, database_by_name
from penstock.runtime.blobs import blob_trouble
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput, TooLarge
from penstock.runtime.settings import TableLimits
from penstock.v1 import sources_pb2
from planner.domain.names import mebibytes, text_problem
from planner.parquet import BLOCK_ROWS
from planner.sources import CATALOG, TABLE, Part, keep_file
from planner.staging import Upload
from planner.store import SourceRow, Store
from planner.tables.formats import refuse_database
from planner.tables.process import TableReader
from planner.tables.wanted import Database, Difference, TableBounds, TableFile, TableVersion, Wanted

__all__ = ["TableSources", "TableUpload", "database_of", "table_bounds", "wanted_of"]


class TableUpload:
    """One upload of a catalog, or of a database file, under way: `feed` its parts, then `finish`."""

    def __init__(
        self, sources: TableSources, upload: Upload, *, kind: int, wanted: Wanted, table: str, query: str
    ) -> None:
        self._sources = sources
        self._upload = upload
        self._kind = kind
        self._wanted = wanted
        self._table = table
        self._query = query
        self._files: list[TableFile] = []
        self._open: BinaryIO | None = None
        self._bytes = 0
        self._begun = False
        self.stop = threading.Event()

    def feed(self, parts: Sequence[Part]) -> None:
        """Raises InvalidInput for a name that no file may have and for a file of another kind, as soon as it is known,
        TooLarge, Unavailable."""
        limits = self._sources.limits
        for part in parts:
            if isinstance(part, str):
                self._end()
                if (problem := text_problem(part)) is not None:
                    number = len(self._files) + 1
                    raise InvalidInput(f"file {number:,}, {part[:120]!r}, {problem.text}", code=problem.code)
                if len(self._files) >= limits.max_files:
                    raise TooLarge(f"a catalog has at most {limits.max_files:,} files", code="too_many_files")
                if self._kind == TABLE:
                    _kind_of(part)
                name = f"sent{len(self._files)}"
                self._open = self._upload.open(name)
                self._files.append(TableFile(part, self._upload.path(name)))
                self._begun = False
                continue
            self._bytes += len(part)
            if self._kind == CATALOG and not self._begun:
                refuse_database(self._files[-1].name, part)
                self._begun = True
            if self._bytes > limits.max_bytes:
                raise TooLarge(
                    f"the upload is larger than {mebibytes(limits.max_bytes)}, the most that a table may be",
                    code="too_large",
                )
            assert self._open is not None, "chunks follow a file"
            try:
                self._open.write(part)
            except OSError as error:
                raise blob_trouble(error, self._upload.blobs.folder) from error

    def finish(self, request_id: str) -> SourceRow:
        """The kept source. Raises InvalidInput, TooLarge, Unavailable."""
        self._end()
        if not self._files:
            raise InvalidInput("no file was sent", code="no_rows")
        if self._kind == CATALOG:
            return self._read(self._files, request_id)
        if len(self._files) > 1:
            raise InvalidInput("a table comes from one database file, and a second one was sent", code="several_files")
        (file,) = self._files
        database = database_of(file.name, file.path, table=self._table, query=self._query)
        return self._read(database, request_id)

    def _read(self, source: Sequence[TableFile] | Database, request_id: str) -> SourceRow:
        return self._sources.read(
            source, self._wanted, self._upload, kind=self._kind, request_id=request_id, stop=self.stop
        )

    def _end(self) -> None:
        if self._open is not None:
            try:
                self._open.close()
            except OSError as error:
                raise blob_trouble(error, self._upload.blobs.folder) from error
            self._open = None


class TableSources:
    def __init__(self, *, reader: TableReader, store: Store, limits: TableLimits, clock: Clock) -> None:
        self._reader = reader
        self._store = store
        self._clock = clock
        self.limits = limits

    def begin(
        self, upload: Upload, *, kind: int, options: sources_pb2.TableOptions, table: str, query: str
    ) -> TableUpload:
        """Raises InvalidInput for what can be said before anything is sent."""
        if kind == TABLE:
            _check_asked(table, query)
        return TableUpload(self, upload, kind=kind, wanted=wanted_of(options), table=table, query=query)

    def read(
        self,
        source: Sequence[TableFile] | Database,
        wanted: Wanted,
        upload: Upload,
        *,
        kind: int,
        request_id: str,
        stop: threading.Event,
    ) -> SourceRow:
        """The kept version that files or a database have now. Raises InvalidInput, TooLarge, NotFound, Unavailable."""
        version = self.version(source, wanted, upload, stop=stop)
        return self.kept(version, upload, kind=kind, request_id=request_id)

    def version(
        self, source: Sequence[TableFile] | Database, wanted: Wanted, upload: Upload, *, stop: threading.Event
    ) -> TableVersion:
        """What files or a database have now; nothing of it is kept. Raises as `read`."""
        return self._reader.read(source, wanted, folder=upload.folder, stop=stop)

    def kept(self, version: TableVersion, upload: Upload, *, kind: int, request_id: str) -> SourceRow:
        """A version that was read into the upload's folder, as it is kept."""
        kept = self._store.find_source(version.version_id)
        row = kept or self._row(version, upload, kind)
        return self._store.keep_source(row, request_id=request_id, now_ms=self._clock.now_ms())

    def difference(self, old: Path, new: Path, upload: Upload) -> Difference:
        """What one snapshot has that another has not. Raises Unavailable."""
        return self._reader.compare(old, new, folder=upload.folder, stop=threading.Event())

    def _row(self, version: TableVersion, upload: Upload, kind: int) -> SourceRow:
        snapshot = keep_file(upload, version.snapshot.name)
        return SourceRow(
            source_id=version.version_id,
            kind=kind,
            item_count=version.row_count,
            size_bytes=snapshot.size_bytes,
            ignored_count=version.skipped.count,
            snapshot_sha256=snapshot.sha256,
            snapshot_bytes=snapshot.size_bytes,
            blocks=tuple(range(0, version.row_count, BLOCK_ROWS)),
            create_ms=self._clock.now_ms(),
            table_schema=orjson.dumps(version.schema.values()).decode(),
            statistics=orjson.dumps([asdict(one) for one in version.statistics]).decode(),
            notices=orjson.dumps(list(_notices(version))).decode(),
        )


def wanted_of(options: sources_pb2.TableOptions) -> Wanted:
    return Wanted(
        kind=options.format,
        key=tuple(options.key),
        sort=tuple(options.sort),
        group={"": None, "-": ""}.get(options.group, options.group),
        skip_bad=options.skip_bad,
    )


def table_bounds(limits: TableLimits) -> TableBounds:
    """What the reader's process is held to."""
    return TableBounds(files=limits.max_files, unpacked_bytes=limits.max_unpacked_bytes, ratio=limits.max_ratio)


def database_of(name: str, place: Path, *, table: str, query: str) -> Database:
    """A database file by its name. Raises InvalidInput for one that is none, and unless one of table and query is
    given."""
    kind = _kind_of(name)
    _check_asked(table, query)
    return Database(kind, str(place), table, query)


def _kind_of(name: str) -> str:
    kind = database_by_name(name)
    if not kind:
        known = ", ".join(DATABASE_SUFFIXES)
        raise InvalidInput(f"{name!r} is no database file: its name ends in one of {known}", code="bad_kind")
    return kind


def _check_asked(table: str, query: str) -> None:
    if bool(table) == bool(query):
        raise InvalidInput("a database is read as one table or one query: give one of them", code="bad_origin")


def _notices(version: TableVersion) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [{"code": "note", "message": note} for note in version.notes]
    if version.skipped.count:
        first = "; ".join(version.skipped.first)
        rows = "row was" if version.skipped.count == 1 else "rows were"
        found.append({"code": "rows_skipped", "message": f"{version.skipped.count:,} {rows} left out: {first}"})
    if version.guessed:
        columns = {"key": ", ".join(version.schema.key), "group": version.schema.group or "none"}
        parts = " and ".join(f"{part} is {columns[part]}" for part in version.guessed)
        found.append({"code": "guessed", "message": f"{parts}: guessed from the names of columns"})
    return found
