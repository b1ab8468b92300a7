"""The columns of a source that is a table: a catalog, a table, a query.

A version of such a source is one Parquet file, its rows in the source's own order, with these columns:

- `key`: unique, never empty. Several key columns are joined with `/`.
- `group`: of the group column; the empty text where there is none, or where it is null.
- `payload`: the row as the text of a JSON object, its fields in the columns' order, nulls left out: what an item of a
  plan carries.
- `f0`, `f1`, …: the source's columns in their order, typed. Their names, however odd, never reach SQL.
- `s0`, `s1`, …: natural sort keys (`planner.domain.natural`) of the columns of the default order.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

__all__ = ["Column", "ColumnKind", "Schema"]


class ColumnKind(StrEnum):
    """What a column holds. TIME: UTC, to the millisecond; JSON: objects and lists, as their text."""

    TEXT = "text"
    WHOLE = "whole"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    JSON = "json"


@dataclass(frozen=True)
class Column:
    name: str
    kind: ColumnKind


@dataclass(frozen=True)
class Schema:
    """`key`: the key columns, none where the key is a hash of the row; `group`: the group column, empty for none;
    `sort`: the columns of the default order, those of `s0`, `s1`, …"""

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    group: str
    sort: tuple[str, ...]

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {column.name: place for place, column in enumerate(self.columns)}

    def place(self, name: str) -> str | None:
        """The snapshot's column of a name; `key` and `group` are themselves where no column has that name."""
        if name in self._places:
            return f"f{self._places[name]}"
        return name if name in ("key", "group") else None

    def kind(self, name: str) -> ColumnKind:
        """Of a name that has a place."""
        return self.columns[self._places[name]].kind if name in self._places else ColumnKind.TEXT

    @property
    def names(self) -> list[str]:
        """All that a filter or an order may name."""
        return [*(column.name for column in self.columns), *(n for n in ("key", "group") if n not in self._places)]

    def values(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "columns": [[column.name, column.kind.value] for column in self.columns],
            "key": list(self.key),
            "group": self.group,
            "sort": list(self.sort),
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Schema:
        """From what `values` made."""
        columns: Sequence[tuple[str, str]] = values["columns"]
        return cls(
            columns=tuple(Column(name, ColumnKind(kind)) for name, kind in columns),
            key=tuple(values["key"]),
            group=values["group"],
            sort=tuple(values["sort"]),
        )
