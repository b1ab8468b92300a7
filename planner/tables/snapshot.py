"""The snapshot of a version: one Parquet file with the columns that `planner.domain.schema` tells of.

Rows stand in the source's order (a table's in the order of its key). The payload names its fields in the order of
their names, so that the same row has the same payload however its file ordered the columns: what was done for an item
is found again by its payload's hash. Times in payloads are dates where all of the column are whole days, else UTC with
a `Z`, with milliseconds where any has some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import orjson

from penstock.runtime.parquet_files import literal
from planner.domain.schema import ColumnKind
from planner.domain.table_columns import Parts
from planner.domain.table_kinds import NAN
from planner.natural_sql import natural_of_parts, natural_parts
from planner.tables.profile import GUARD, TypedColumn, guard_sql, matches, utc_sql

__all__ = ["ROW_GROUP_ROWS", "SnapshotQuery", "text_sql"]

ROW_GROUP_ROWS = 30_720
_WRITE = f"FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, ROW_GROUP_SIZE_BYTES '32MB'"
_HASH_CHARACTERS = 32
_STOP = f"error({literal(GUARD)})"


@dataclass(frozen=True)
class SnapshotQuery:
    """raw: a relation of texts t0, t1, …. empty: how many rows have no value, None where there may be none.
    by_key: order by the key."""

    raw: str
    columns: Sequence[TypedColumn]
    parts: Parts
    empty: int | None = 0
    by_key: bool = False

    def write(self, place: Path, cursor: duckdb.DuckDBPyConnection, *, most_bytes: int | None = None) -> None:
        """Makes the file `place`; of payloads up to `most_bytes`. Raises duckdb.Error, with GUARD in it where the
        columns are not what they seemed."""
        where = f" WHERE strlen(payload) <= {most_bytes}" if most_bytes else ""
        order = " ORDER BY key" if self.by_key else ""
        cursor.execute(f"COPY (SELECT * FROM ({self._sql()}){where}{order}) TO {literal(place.resolve())} ({_WRITE})")

    def _sql(self) -> str:
        every = ", ".join(f"t{column.place}" for column in self.columns)
        some = f" WHERE COALESCE({every}) IS NOT NULL" if self.empty else ""
        if self.empty is None:
            some = f" WHERE CASE WHEN COALESCE({every}) IS NULL THEN {_STOP} ELSE true END"
        cells = ", ".join(f"t{column.place}, {_value_sql(column)} AS v{column.place}" for column in self.columns)
        values = ", ".join(f"{_guarded_sql(column)} AS f{column.place}" for column in self.columns)
        by_name = {column.name: column for column in self.columns}
        fields = ", ".join(_field_sql(by_name[name]) for name in sorted(by_name))
        group = f"COALESCE({text_sql(by_name[self.parts.group])}, '')" if self.parts.group else "''"
        sorts = "".join(f", {natural_of_parts(f'n{place}')} AS s{place}" for place in range(len(self.parts.sort)))
        texts = "".join(
            f", {natural_parts(_sort_text(by_name[name]))} AS n{place}" for place, name in enumerate(self.parts.sort)
        )
        kept = ", ".join(f"f{column.place}" for column in self.columns)
        keys = " || '/' || ".join(text_sql(by_name[name]) for name in self.parts.key)
        # A key that is missing becomes the empty text: it is found, and refused, in the snapshot.
        key = f"COALESCE({keys}, '')" if keys else f"left(sha256(payload), {_HASH_CHARACTERS})"
        typed = f"SELECT {values} FROM (SELECT {cells} FROM ({self.raw}){some})"
        made = f"SELECT *, '{{' || concat_ws(',', {fields}) || '}}' AS payload{texts} FROM ({typed})"
        return f'SELECT {key} AS key, {group} AS "group", payload, {kept}{sorts} FROM ({made})'


def text_sql(column: TypedColumn) -> str:
    """A value of the snapshot as a text: in keys, groups and payloads."""
    value = f"f{column.place}"
    match column.kind:
        case ColumnKind.TEXT | ColumnKind.JSON:
            return value
        case ColumnKind.WHOLE | ColumnKind.BOOLEAN:
            return f"{value}::VARCHAR"
        case ColumnKind.NUMBER:
            return f"to_json({value})::VARCHAR"
        case ColumnKind.TIME:
            counts = column.counts
            if counts.midnights == counts.times:
                return f"{value}::DATE::VARCHAR"
            if counts.seconds == counts.times:
                return f"strftime({value}, '%Y-%m-%dT%H:%M:%SZ')"
            return f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%gZ')"


def _guarded_sql(column: TypedColumn) -> str:
    cell, value = f"t{column.place}", f"v{column.place}"
    kept = value
    if column.kind is ColumnKind.TIME:
        kept = value if column.counts.seconds == column.counts.times else f"date_trunc('millisecond', {value})"
    elif column.kind is ColumnKind.NUMBER:
        kept = f"{value} + 0.0::DOUBLE"  # one zero of both
    if not column.guarded or column.kind is ColumnKind.TEXT:
        return kept
    return f"CASE WHEN {cell} IS NULL THEN NULL WHEN {guard_sql(column, value)} THEN {kept} ELSE {_STOP} END"


def _sort_text(column: TypedColumn) -> str:
    return f"COALESCE({text_sql(column)}, '')"


def _value_sql(column: TypedColumn) -> str:
    cell = f"t{column.place}"
    if column.nans:
        cell = f"CASE WHEN NOT {matches(cell, NAN)} THEN {cell} END"
    match column.kind:
        case ColumnKind.TEXT:
            return cell
        case ColumnKind.BOOLEAN:
            return f"lower({cell}) = 'true'"
        case ColumnKind.WHOLE:
            return f"TRY_CAST({cell} AS BIGINT)"
        case ColumnKind.NUMBER:
            return f"TRY_CAST({cell} AS DOUBLE)"
        case ColumnKind.TIME:
            return utc_sql(cell)
        case ColumnKind.JSON:
            return f"CASE WHEN json_valid({cell}) THEN json({cell})::VARCHAR END"


def _field_sql(column: TypedColumn) -> str:
    """`"name":value`, null where the value is."""
    name = literal(orjson.dumps(column.name).decode() + ":")
    text = text_sql(column)
    match column.kind:
        case ColumnKind.TEXT:
            return f"{name} || to_json({text})::VARCHAR"
        case ColumnKind.TIME:
            return f"{name} || '\"' || {text} || '\"'"
        case _:
            return f"{name} || {text}"
