"""What is asked of the reading of a table, and what it answers: values that go to the child process and back as JSON.

`Wanted` names nothing that it does not need to: the format is told from names and contents, key and group from
well-known column names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from planner.domain.rows import MOST_OFFENDERS
from planner.domain.schema import Schema

__all__ = [
    "KINDS",
    "ColumnStatistics",
    "Database",
    "Difference",
    "Skipped",
    "TableBounds",
    "TableFile",
    "TableVersion",
    "Wanted",
]

KINDS = ("jsonl", "json", "csv", "tsv", "parquet")
DATABASES = ("duckdb", "sqlite", "postgresql")

_MIB, _GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class TableFile:
    """A file as it was sent: the name that it has for people, and where its bytes lie."""

    name: str
    path: Path


@dataclass(frozen=True)
class Database:
    """One table, or one query, of a database that is read and never written.

    kind: one of DATABASES. place: the file's path, or PostgreSQL's URL. table: may be `schema.table`.
    A table is read in the order of its key, since it has none of its own; a query in the order that it says.
    """

    kind: str
    place: str
    table: str = ""
    query: str = ""


@dataclass(frozen=True)
class Wanted:
    """kind: one of KINDS, empty to tell by name and content. key: columns, or `("hash",)` where no column has that name
    for a hash of the row; empty to guess. group: a column, empty for none, None to guess. sort: columns of the default
    order, empty to guess. skip_bad: leave out broken rows of JSONL and CSV, and report."""

    kind: str = ""
    key: tuple[str, ...] = ()
    group: str | None = None
    sort: tuple[str, ...] = ()
    skip_bad: bool = False


@dataclass(frozen=True)
class TableBounds:
    """Past these a table is refused. unpacked_bytes, ratio: of what gzip, zstd and zip become, all files together.

    memory_bytes, threads: DuckDB's in the child, which itself takes 100 MB beside it; with less memory the threads that
    write a snapshot wait for each other. address_bytes: of the child's address space, 0 for no bound.
    """

    files: int = 100_000
    unpacked_bytes: int = 16 * _GIB
    ratio: int = 100
    memory_bytes: int = 600 * _MIB
    threads: int = 2
    address_bytes: int = 0


@dataclass(frozen=True)
class ColumnStatistics:
    """Of one column. Values are texts as payloads have them, long ones cut.

    distinct: exact where `distinct_exact`, else within a few percent. frequent: the most frequent values with their
    exact counts, most frequent first; where the column has very many values, only candidates that an approximate count
    found, and none where it seems that no value is repeated.
    """

    name: str
    nulls: int
    distinct: int
    distinct_exact: bool
    least: str | None
    most: str | None
    frequent: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Skipped:
    """Rows that were left out because they are broken: how many, and the first of them with place and reason."""

    count: int = 0
    first: tuple[str, ...] = ()

    def __add__(self, other: Skipped) -> Skipped:
        return Skipped(self.count + other.count, (*self.first, *other.first)[:MOST_OFFENDERS])


@dataclass(frozen=True)
class TableVersion:
    """A complete version. `snapshot` lies in the folder that was given; notes: what a person should know of it.

    guessed: what was taken from well-known names, `key`, `group` or both.
    """

    version_id: str
    schema: Schema
    row_count: int
    snapshot: Path
    statistics: tuple[ColumnStatistics, ...]
    notes: tuple[str, ...] = ()
    skipped: Skipped = field(default_factory=Skipped)
    guessed: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "schema": self.schema.values(), "snapshot": str(self.snapshot)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TableVersion:
        """From what `values` made."""
        statistics = (ColumnStatistics(**{**one, "frequent": _pairs(one["frequent"])}) for one in values["statistics"])
        skipped = values["skipped"]
        return cls(
            version_id=values["version_id"],
            schema=Schema.of(values["schema"]),
            row_count=values["row_count"],
            snapshot=Path(values["snapshot"]),
            statistics=tuple(statistics),
            notes=tuple(values["notes"]),
            skipped=Skipped(skipped["count"], tuple(skipped["first"])),
            guessed=tuple(values["guessed"]),
        )


@dataclass(frozen=True)
class Difference:
    """Between two snapshots: how many keys, and the first of each, in the order of their snapshot."""

    added: int
    changed: int
    removed: int
    first_added: tuple[str, ...]
    first_changed: tuple[str, ...]
    first_removed: tuple[str, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Difference:
        """From what JSON made of it."""
        return cls(
            added=values["added"],
            changed=values["changed"],
            removed=values["removed"],
            first_added=tuple(values["first_added"]),
            first_changed=tuple(values["first_changed"]),
            first_removed=tuple(values["first_removed"]),
        )


def _pairs(values: Sequence[Sequence[Any]]) -> tuple[tuple[str, int], ...]:
    return tuple((value, count) for value, count in values)
