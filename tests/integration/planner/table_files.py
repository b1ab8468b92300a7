"""Tables as files of every format, read in this process; and what the snapshot of a version says."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from penstock.runtime.parquet_files import literal
from planner.tables.reading import read_table
from planner.tables.wanted import TableBounds, TableFile, TableVersion, Wanted

__all__ = ["Read", "as_csv", "as_jsonl", "as_parquet", "as_raw_zstd", "as_zstd", "packed_rows", "read", "snapshot_rows"]

BOUNDS = TableBounds(threads=1)


@dataclass(frozen=True)
class Read:
    version: TableVersion
    rows: list[dict[str, Any]]
    """Of the snapshot: key, group, s0, s1, …, and the fields by name."""

    @property
    def keys(self) -> list[str]:
        return [row["key"] for row in self.rows]

    def column(self, name: str) -> list[Any]:
        place = [column.name for column in self.version.schema.columns].index(name)
        return [row[f"f{place}"] for row in self.rows]

    def payloads(self) -> list[Any]:
        return [json.loads(row["payload"]) for row in self.rows]

    def kinds(self) -> dict[str, str]:
        return {column.name: column.kind.value for column in self.version.schema.columns}


def read(
    folder: Path,
    files: bytes | Mapping[str, bytes],
    *,
    name: str = "t.csv",
    key: Sequence[str] | str = (),
    bounds: TableBounds = BOUNDS,
    **wanted: Any,
) -> Read:
    """`files`: by name, or the bytes of one file `name`."""
    place = folder / f"upload-{len(list(folder.iterdir()))}"
    place.mkdir()
    sent = []
    for number, (one, data) in enumerate({name: files}.items() if isinstance(files, bytes) else files.items()):
        path = place / f"file-{number}"
        path.write_bytes(data)
        sent.append(TableFile(one, path))
    columns = (key,) if isinstance(key, str) else tuple(key)
    version = read_table(sent, Wanted(key=columns, **wanted), folder=place, bounds=replace(bounds))
    return Read(version, snapshot_rows(version.snapshot))


def snapshot_rows(snapshot: Path) -> list[dict[str, Any]]:
    found = duckdb.execute(f"SELECT * FROM read_parquet({literal(snapshot)})")
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def as_csv(rows: Sequence[Mapping[str, Any]], *, delimiter: str = ",", end: str = "\n") -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerow(names)
    for row in rows:
        writer.writerow([json.dumps(v) if isinstance(v, (list, dict)) else v for v in map(row.get, names)])
    return text.getvalue().encode()


def packed_rows(names: Sequence[str], rows: Sequence[Mapping[str, Any]], *, end: str = "\n") -> bytes:
    """Many rows as CSV. Only with `end` CR LF does Python 3.11 quote a cell for its CR."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end)
    writer.writerow(names)
    writer.writerows([str(cell) if type(cell) is list else cell for cell in row.values()] for row in rows)
    return text.getvalue().encode()


def as_jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_parquet(folder: Path, select: str, values: Mapping[str, Any] | None = None) -> bytes:
    """What a query gives, as Parquet."""
    place = folder / f"made-{len(list(folder.iterdir()))}.parquet"
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE made AS {select}", dict(values or {}))
    connection.execute(f"COPY made TO {literal(place)} (FORMAT parquet)")
    connection.close()
    return place.read_bytes()


def as_raw_zstd(data: bytes) -> bytes:
    """`data`, of any bytes and at most 128 KiB, as one zstd frame of one block that is not packed."""
    assert len(data) <= 128 << 10
    return b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little") + (1 | len(data) << 3).to_bytes(3, "little") + data


def as_zstd(folder: Path, text: bytes) -> bytes:
    """`text`, which ends with a line feed and has no carriage return, packed by DuckDB."""
    place = folder / f"made-{len(list(folder.iterdir()))}.zst"
    connection = duckdb.connect()
    source = place.with_suffix(".lines")
    source.write_bytes(text)
    options = "HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x1f'"
    connection.execute(
        f"COPY (SELECT * FROM read_csv({literal(source)}, columns = {{line: 'VARCHAR'}}, auto_detect = false, "
        "header = false, quote = '', escape = '', delim = '\x1f', strict_mode = false)) "
        f"TO {literal(place)} (FORMAT csv, {options}, COMPRESSION 'zstd')"
    )
    connection.close()
    return place.read_bytes()
