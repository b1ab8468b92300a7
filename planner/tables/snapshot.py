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
from planner.tables.profile import GUARD, TypedColumn, guard_sql, matches, same_sql, utc_sql

__all__ = ["ROW_GROUP_ROWS", "SnapshotQuery", "text_sql", "value_sql"]

ROW_GROUP_ROWS = 30_720
_WRITE = f"FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, ROW_GROUP_SIZE_BYTES '32MB'"
_HASH_CHARACTERS = 32
_STOP = f"error({literal(GUARD)})"
_TEXTS = frozenset({ColumnKind.TEXT, ColumnKind.JSON})
"""Values of these are texts; those of the others have one made."""


@dataclass(frozen=True)
class SnapshotQuery:
    """raw: a relation of cells t0, t1, …: texts, or values of columns that are `typed`. empty: how many rows have no
    value, None where there may be none. by_key: order by the key."""

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
        """Selects within each other, since what an inner one has named is computed once: texts, values, their texts."""
        every = ", ".join(f"t{column.place}{'::VARCHAR' if column.typed else ''}" for column in self.columns)
        some = f" WHERE COALESCE({every}) IS NOT NULL" if self.empty else ""
        if self.empty is None:
            some = f" WHERE CASE WHEN COALESCE({every}) IS NULL THEN {_STOP} ELSE true END"
        cells = ", ".join(f"t{column.place}, {value_sql(column)} AS v{column.place}" for column in self.columns)
        said = [column for column in self.columns if column.kind not in _TEXTS]
        texts = "".join(f", {text_sql(column, f'v{column.place}')} AS x{column.place}" for column in said)
        values = ", ".join(f"{_guarded_sql(column)} AS f{column.place}" for column in self.columns)
        kept_texts = "".join(f", x{column.place}" for column in said)
        by_name = {column.name: column for column in self.columns}
        group = f"COALESCE({_said(by_name[self.parts.group])}, '')" if self.parts.group else "''"
        sorts = "".join(f", {natural_of_parts(f'n{place}')} AS s{place}" for place in range(len(self.parts.sort)))
        naturals = "".join(
            f", {natural_parts(_sort_text(by_name[name]))} AS n{place}" for place, name in enumerate(self.parts.sort)
        )
        kept = ", ".join(f"f{column.place}" for column in self.columns)
        keys = " || '/' || ".join(_said(by_name[name]) for name in self.parts.key)
        # A key that is missing becomes the empty text: it is found, and refused, in the snapshot.
        key = f"COALESCE({keys}, '')" if keys else f"left(sha256(payload), {_HASH_CHARACTERS})"
        typed = f"SELECT *{texts} FROM (SELECT {cells} FROM ({self.raw}){some})"
        typed = f"SELECT {values}{kept_texts} FROM ({typed})"
        made = f"SELECT *, {_payload_sql(self.columns, self.parts.key)} AS payload{naturals} FROM ({typed})"
        return f'SELECT {key} AS key, {group} AS "group", payload, {kept}{sorts} FROM ({made})'


def text_sql(column: TypedColumn, value: str = "") -> str:
    """A value of the snapshot as a text: in keys, groups and payloads. value: where it is, if not in the snapshot."""
    value = value or f"f{column.place}"
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


def _said(column: TypedColumn) -> str:
    """The text of a value, where it has been made."""
    return f"{'f' if column.kind in _TEXTS else 'x'}{column.place}"


def _sort_text(column: TypedColumn) -> str:
    return f"COALESCE({_said(column)}, '')"


def _guarded_sql(column: TypedColumn) -> str:
    cell, value = f"t{column.place}", f"v{column.place}"
    if not column.guarded or column.kind is ColumnKind.TEXT:
        return value
    # Most texts are written as we write their value: the long way is for the others.
    plain = column.typed or column.kind in _TEXTS
    short = "" if plain else f"WHEN {same_sql(column, value, _said(column))} THEN {value} "
    guard = guard_sql(column, value)
    return f"CASE WHEN {cell} IS NULL THEN NULL {short}WHEN {guard} THEN {value} ELSE {_STOP} END"


def value_sql(column: TypedColumn) -> str:
    """What a cell is when it is of its column's kind."""
    cell = f"t{column.place}"
    if column.typed:
        return _typed_value(column, cell)
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
            return f"TRY_CAST({cell} AS DOUBLE) + 0.0::DOUBLE"  # one zero of both
        case ColumnKind.TIME:
            return _to_the_millisecond(column, utc_sql(cell))
        case ColumnKind.JSON:
            return f"CASE WHEN json_valid({cell}) THEN json({cell})::VARCHAR END"


def _typed_value(column: TypedColumn, cell: str) -> str:
    match column.kind:
        case ColumnKind.NUMBER:
            return f"{cell} + 0.0::DOUBLE"
        case ColumnKind.TIME:
            return _to_the_millisecond(column, cell)
        case _:
            return cell


def _to_the_millisecond(column: TypedColumn, time: str) -> str:
    return time if column.counts.seconds == column.counts.times else f"date_trunc('millisecond', {time})"


def _payload_sql(columns: Sequence[TypedColumn], key: Sequence[str]) -> str:
    """A JSON object of what is not null.

    A column of the key is null in no row that is kept. So commas stand behind the fields before it and before those
    behind it, and one `concat` makes the whole; without such a column each field is made first, and then they are
    joined.
    """
    by_name = sorted(columns, key=lambda column: column.name)
    fields = [_field(column) for column in by_name]
    never = next((place for place, column in enumerate(by_name) if column.name in key), None)
    if never is None:
        return f"'{{' || concat_ws(',', {', '.join(' || '.join(field.pieces()) for field in fields)}) || '}}'"
    pieces = ["'{'"]
    for place, field in enumerate(fields):
        if place < never:
            pieces += field.where_there(behind=",")
        elif place > never:
            pieces += field.where_there(before=",")
        else:
            pieces += field.pieces()
    return f"concat({', '.join(pieces)}, '}}')"


@dataclass(frozen=True)
class _Field:
    """A field of a payload: what stands before the text of its value, SQL of that text, and what stands behind it."""

    opening: str
    text: str
    closing: str
    there: str
    """SQL of whether it has a value."""

    def pieces(self) -> list[str]:
        """SQL of its parts one after another; its text is null where there is no value."""
        return [literal(self.opening), self.text, *([literal(self.closing)] if self.closing else [])]

    def where_there(self, *, before: str = "", behind: str = "") -> list[str]:
        """The same, each of them null where there is no value; with a comma before or behind all of it."""

        def guarded(said: str) -> list[str]:
            return [f"CASE WHEN {self.there} THEN {literal(said)} END"] if said else []

        return [*guarded(before + self.opening), self.text, *guarded(self.closing + behind)]


def _field(column: TypedColumn) -> _Field:
    name, said, there = orjson.dumps(column.name).decode() + ":", _said(column), f"f{column.place} IS NOT NULL"
    match column.kind:
        case ColumnKind.TEXT:
            return _Field(name, f"to_json({said})::VARCHAR", "", there)
        case ColumnKind.TIME:
            # The text of a time is no JSON yet: its quotes stand around it.
            return _Field(name + '"', said, '"', there)
        case _:
            return _Field(name, said, "", there)
