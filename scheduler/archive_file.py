"""An archive's files: Parquet written and read by DuckDB, and the index that names them.

An archive is one JSON blob, the *index*: for each table its *parts*, Parquet blobs in the order of their rows. Any
Parquet reader can open them. DuckDB is loaded on first use, has one thread and bounded memory, and may open files of
the blob folder alone. Parts never change; a crash leaves temporary files, which the blob store cleans.

Raises Unavailable when the disk is full or the blob store can't be used; nothing is then half there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.runtime.blobs import BlobStore, blob_trouble
from penstock.runtime.errors import Unavailable
from penstock.runtime.parquet_files import ParquetFiles, literal

__all__ = ["TABLES", "ArchiveFiles", "Index", "Part"]

TABLES: Mapping[str, Mapping[str, str]] = {
    "items": {
        "stage": "INTEGER",
        "seq": "BIGINT",
        "key": "VARCHAR",
        "group": "VARCHAR",
        "lane": "VARCHAR",
        "state": "VARCHAR",
        "attempt": "INTEGER",
        "tries": "INTEGER",
        "worker": "VARCHAR",
        "start_ms": "BIGINT",
        "end_ms": "BIGINT",
        "due_ms": "BIGINT",
        "settle_number": "BIGINT",
        "error_kind": "VARCHAR",
        "error": "VARCHAR",
        "fingerprint": "VARCHAR",
        "result": "VARCHAR",
        "result_blob": "VARCHAR",
        "result_size": "BIGINT",
        "cost_micros": "BIGINT",
        "reserved_micros": "BIGINT",
        "rank": "BIGINT",
        "mode": "INTEGER",
        "heals": "INTEGER",
        "healed": "BOOLEAN",
    },
    "attempts": {
        "stage": "INTEGER",
        "seq": "BIGINT",
        "attempt": "INTEGER",
        "ended": "VARCHAR",
        "worker": "VARCHAR",
        "start_ms": "BIGINT",
        "end_ms": "BIGINT",
        "error_kind": "VARCHAR",
        "error": "VARCHAR",
        "fingerprint": "VARCHAR",
        "mode": "INTEGER",
        "reserved_micros": "BIGINT",
        "cost_micros": "BIGINT",
    },
    "events": {
        "number": "BIGINT",
        "time_ms": "BIGINT",
        "type": "VARCHAR",
        "subject": "VARCHAR",
        "actor": "VARCHAR",
        "old_state": "VARCHAR",
        "new_state": "VARCHAR",
        "reason": "VARCHAR",
        "data": "VARCHAR",
    },
    "ledger": {
        "number": "BIGINT",
        "time_ms": "BIGINT",
        "stage": "INTEGER",
        "entries": "VARCHAR",
    },
}
"""Columns of each table with their SQL types: the names that a reader of the files finds."""

VERSION = 1
GROUP_ROWS = 10_240
GROUP_BYTES = 8 << 20
"""Of a row group: what a page read decodes at least."""
_MEMORY = "192MB"
_LINE_BYTES = 1 << 20
"""The longest row: DuckDB sets 32 times as much aside when it reads."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """Rows `first` to `last` (of the table's order: seq of a stage, or number) in one Parquet blob. Of items also the
    least and the greatest settle number; 0: none is settled."""

    sha256: str
    stage: int
    first: int
    last: int
    rows: int
    settled_from: int = 0
    settled_to: int = 0


@dataclass(frozen=True)
class Index:
    """What an archive consists of: table -> parts."""

    parts: Mapping[str, Sequence[Part]]

    def to_bytes(self, run_id: str) -> bytes:
        tables = {name: [vars(part) for part in parts] for name, parts in self.parts.items()}
        return orjson.dumps({"version": VERSION, "run_id": run_id, "tables": tables}, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_bytes(cls, data: bytes) -> Index:
        """Raises Unavailable for an archive of a later version."""
        told = orjson.loads(data)
        if told["version"] != VERSION:
            raise Unavailable(
                f"the archive has version {told['version']}; this scheduler reads {VERSION}", code="archive_version"
            )
        return cls({name: [Part(**part) for part in parts] for name, parts in told["tables"].items()})


class ArchiveFiles:
    """Writes and reads parts in the blob store. Calls from several threads are safe."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._folder = blobs.folder.resolve()
        self._files = ParquetFiles(
            self._folder, memory=_MEMORY, spill=self._folder / ".archive", what="an archive", every_error=True
        )

    def write(self, table: str, stage: int, first: int, last: int, rows: Iterable[Row]) -> Part:
        """One part of these rows, durable. `first` and `last` are their places."""
        columns = TABLES[table]
        count, settled = 0, set[int]()
        with self._blobs.writer() as lines:
            for row in rows:
                lines.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                count += 1
                if number := row.get("settle_number"):
                    settled = {min(number, *settled), max(number, *settled)} if settled else {number}
            lines.finish()
            place = lines.place.with_name(lines.place.name + ".parquet").resolve()
            group = max(2_048, min(GROUP_ROWS, GROUP_BYTES // max(1, lines.size_bytes // max(count, 1))))
            types = ", ".join(f"{_name(name)}: '{kind}'" for name, kind in columns.items())
            chosen = ", ".join(_name(name) for name in columns)
            try:
                with self._files.cursor() as cursor:
                    cursor.execute(
                        f"COPY (SELECT {chosen} FROM read_json($rows, format='newline_delimited', "
                        f"columns={{{types}}}, maximum_object_size={_LINE_BYTES})) "
                        f"TO {literal(place)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {group})",
                        {"rows": str(lines.place.resolve())},
                    )
                try:
                    with place.open("rb") as file:
                        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                except OSError as error:
                    raise blob_trouble(error, self._folder) from error
                self._blobs.adopt([(place, sha256)])
            finally:
                place.unlink(missing_ok=True)
        return Part(sha256, stage, first, last, count, min(settled, default=0), max(settled, default=0))

    def keep(self, index: Index, run_id: str) -> str:
        """The index as a blob; its hash."""
        return self._blobs.put(index.to_bytes(run_id)).sha256

    def index(self, sha256: str) -> Index:
        return Index.from_bytes(self._blobs.get(sha256))

    def read(
        self, table: str, parts: Sequence[Part], where: str, values: Mapping[str, object], *, order: str, limit: int
    ) -> list[dict[str, Any]]:
        """Rows of these parts, as dictionaries by column name. `where` and `order` are SQL of ours."""
        if not parts:
            return []
        chosen = ", ".join(_name(name) for name in TABLES[table])
        files = [self._blobs.path(part.sha256).resolve() for part in parts]
        with self._files.cursor() as cursor:
            found = cursor.execute(
                f"SELECT {chosen} FROM read_parquet($files) WHERE {where} ORDER BY {order} LIMIT {int(limit)}",
                {"files": [str(file) for file in files], **values},
            ).fetchall()
        return [dict(zip(TABLES[table], row, strict=True)) for row in found]

    def close(self) -> None:
        self._files.close()


def _name(column: str) -> str:
    return f'"{column}"'
