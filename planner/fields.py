"""What a filter may name of a source that is a table: its columns, and `key` and `group`. Pure.

The schema stands in `domain/`, which knows nothing of filters; this is the one place where a column's kind becomes the
kind of a field. Fails never: every schema has its fields.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.filters import Field, Kind
from planner.domain.schema import ColumnKind, Schema
from planner.filter_duckdb import SqlColumn

__all__ = ["FIELD_KINDS", "columns_of", "fields_of"]

FIELD_KINDS = {
    ColumnKind.TEXT: Kind.TEXT,
    ColumnKind.WHOLE: Kind.NUMBER,
    ColumnKind.NUMBER: Kind.NUMBER,
    ColumnKind.BOOLEAN: Kind.BOOLEAN,
    ColumnKind.TIME: Kind.TIME,
    ColumnKind.JSON: Kind.TEXT,
}


def fields_of(schema: Schema) -> Mapping[str, Field]:
    """The fields of a filter over rows of this schema; JSON is asked as the text that it is kept as."""
    return {name: Field(FIELD_KINDS[schema.kind(name)]) for name in schema.names}


def columns_of(schema: Schema, prefix: str = "") -> Mapping[str, SqlColumn]:
    """The same names as columns of its snapshot, for `filter_duckdb`; `prefix` as `items.`."""
    return {name: SqlColumn(f'{prefix}"{schema.place(name)}"', schema.kind(name)) for name in schema.names}
