"""A part of a table: one file, or one database's answer, as a relation of texts in DuckDB.

`columns` says of every column how its cells are told as texts (an empty text is null), `relation` what to read from.
`cleaned` is the slow pass, for a part that DuckDB did not take: it says what is wrong, or makes a part without the
broken rows. `places` says where rows stand in what was sent; rows are counted from 0, those without any value left
out, as they are everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from planner.domain.schema import ColumnKind
from planner.tables.wanted import Skipped

__all__ = ["Part", "Typed", "identifier", "raw_sql", "row_places"]


@dataclass(frozen=True)
class Typed:
    """SQL of a column's values, where they are of a kind without a look at them: a WHOLE is a BIGINT, a NUMBER a
    DOUBLE, a TIME a TIMESTAMP of UTC. Of a NUMBER and a TIME they may still be ones that no text of the kind says."""

    kind: ColumnKind
    sql: str


@dataclass(frozen=True, kw_only=True)
class Part(ABC):
    """name: for people. columns: SQL of a text or null by column name, in order. typed: the columns that need no text,
    by name."""

    name: str
    columns: Mapping[str, str]
    relation: str
    skipped: Skipped = field(default_factory=Skipped)
    typed: Mapping[str, Typed] = field(default_factory=dict)

    @abstractmethod
    def cleaned(self, *, skip_bad: bool) -> Part:
        """Raises InvalidInput with what is wrong, unless nothing is, or `skip_bad` leaves it out."""

    @abstractmethod
    def places(self, rows: Iterable[int]) -> Mapping[int, str]:
        """Where rows stand: `line 7`."""


def raw_sql(parts: Sequence[Part], names: Sequence[str], typed: Collection[str] = ()) -> str:
    """All parts as one relation with the columns t0, t1, …: a text that is not empty, or null. typed: the columns that
    are values instead, in every part that has them."""
    selects = []
    for part in parts:
        cells = (f"{_cell(part, name, name in typed)} AS t{place}" for place, name in enumerate(names))
        selects.append(f"SELECT {', '.join(cells)} FROM {part.relation}")
    return " UNION ALL ".join(selects)


def _cell(part: Part, name: str, typed: bool) -> str:
    if typed:
        return part.typed[name].sql if name in part.columns else "NULL"
    return f"NULLIF({part.columns[name]}, '')" if name in part.columns else "NULL::VARCHAR"


def identifier(name: str) -> str:
    """A column's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def row_places(rows: Iterable[int]) -> Mapping[int, str]:
    """Of what has no lines."""
    return {row: f"row {row + 1:,}" for row in rows}
