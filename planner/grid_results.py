"""The latest results of a processor beside the rows of a source, for a grid: a table in memory, a row a result.

It is made once for each state of the copy of results, and names rows by their place in the snapshot; a row of the
source that has no result is not in it, and all its fields are null. What a result holds at its top level is a field,
too, read from its text when it is asked for; of what kind it is, the first results say. Where the texts are too much to
be held they are left out, and with them these fields. More results than can be held at all refuse the question.
Calls block. Raises InvalidInput (`too_many_results`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from penstock.filters import Field
from penstock.runtime.errors import InvalidInput
from penstock.runtime.parquet_files import literal
from planner.domain.schema import Column, ColumnKind
from planner.fields import FIELD_KINDS
from planner.filter_duckdb import SqlColumn
from planner.results.parts import OUTCOME_COLUMNS, latest_of

if TYPE_CHECKING:
    import duckdb

__all__ = ["PREFIX", "STATES", "Beside", "ResultsOf", "RowResult", "drop", "held", "results_of"]

PREFIX = "result."
VALUE_PREFIX = "result.value."
STATES = ("completed", "failed")
MOST_VALUES = 50
SHOWN_CHARACTERS = 1_000
_SAMPLE = 1_000
_ROW_BYTES = 200  # of a result without its texts

_FIXED: Mapping[str, tuple[ColumnKind, str]] = {
    "state": (ColumnKind.TEXT, "state"),
    "confidence": (ColumnKind.NUMBER, "confidence"),
    "cost_micros": (ColumnKind.WHOLE, "cost_micros"),
    "seconds": (ColumnKind.NUMBER, "(end_ms - start_ms) / 1000.0::DOUBLE"),
    "end_time": (ColumnKind.TIME, "epoch_ms(end_ms)"),
    "version": (ColumnKind.TEXT, "version"),
    "run": (ColumnKind.WHOLE, "number"),
    "run_id": (ColumnKind.TEXT, "run_id"),
    "kind": (ColumnKind.TEXT, "kind"),
    "error": (ColumnKind.TEXT, "error"),
    "tries": (ColumnKind.WHOLE, "tries"),
    "healed": (ColumnKind.BOOLEAN, "healed"),
}
"""What every result has: its kind, and where it stands among the outcomes."""

_CUT = (
    f"CASE WHEN length({{0}}) > {SHOWN_CHARACTERS} THEN substr({{0}}, 1, {SHOWN_CHARACTERS - 1}) || '…' ELSE {{0}} END"
)
_COLUMNS = ", ".join(f"{sql} AS r{at}" for at, (_, sql) in enumerate(_FIXED.values()))


@dataclass(frozen=True)
class ResultsOf:
    """Whose results are asked for. source: as outcomes name it; parts: the files of the copy."""

    processor: str
    source: str
    parts: tuple[Path, ...]


@dataclass(frozen=True)
class RowResult:
    """Of one row. end_ms: None where nobody knows; value: JSON, empty where there is none or it is not held. Long
    texts are cut: JSON that was cut is none."""

    state: str
    confidence: float | None
    cost_micros: int
    seconds: float | None
    end_ms: int | None
    version: str
    run: int
    run_id: str
    kind: str
    error: str
    tries: int
    healed: bool
    value: str


@dataclass(frozen=True)
class Beside:
    """A table of results. values: what they hold at their top level."""

    asked: ResultsOf
    table: str
    count: int
    values: tuple[Column, ...]

    @cached_property
    def columns(self) -> Mapping[str, SqlColumn]:
        """By name, for a statement that calls the table `results`."""
        fixed = {
            f"{PREFIX}{name}": SqlColumn(f"results.r{at}", kind) for at, (name, (kind, _)) in enumerate(_FIXED.items())
        }
        return fixed | {f"{VALUE_PREFIX}{one.name}": SqlColumn(_value_sql(one), one.kind) for one in self.values}

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """What a filter may name."""
        fields = {name: Field(FIELD_KINDS[column.kind]) for name, column in self.columns.items()}
        return fields | {f"{PREFIX}state": Field(fields[f"{PREFIX}state"].kind, STATES)}

    def rows(self, cursor: duckdb.DuckDBPyConnection, rows: Sequence[int]) -> dict[int, RowResult]:
        """Of these rows of the source, those that have one."""
        if not len(rows) or not self.count:
            return {}
        shown = {"end_time": "epoch_ms({})", "error": _CUT}
        fixed = [shown.get(name, "{}").format(f"r{at}") for at, name in enumerate(_FIXED)]
        found = cursor.execute(
            f'SELECT "row", {", ".join(fixed)}, {_CUT.format("value")} FROM {self.table} '
            'WHERE "row" >= $first AND "row" <= $last AND "row" IN (SELECT unnest($rows::INTEGER[]))',
            {"first": min(rows), "last": max(rows), "rows": list(rows)},
        ).fetchall()
        names = [name if name != "end_time" else "end_ms" for name in _FIXED]
        empty = {"cost_micros": 0, "kind": "", "error": "", "tries": 0, "healed": False}
        told = {}
        for row, *values, value in found:
            held: dict[str, Any] = {
                name: empty.get(name) if one is None else one for name, one in zip(names, values, strict=True)
            }
            told[row] = RowResult(**held, value=value or "")
        return told


def results_of(
    cursor: duckdb.DuckDBPyConnection, asked: ResultsOf, snapshot: Path, table: str, *, most_bytes: int
) -> Beside:
    """Makes the table. Raises InvalidInput where there are too many."""
    chosen = (
        latest_of(asked.parts, source=asked.source, processor=asked.processor) if asked.parts else f"({_nothing()})"
    )
    count, size = _one(cursor, f"SELECT count(*), coalesce(sum(strlen(result)), 0) FROM {chosen}")
    if count * _ROW_BYTES > most_bytes:
        raise InvalidInput(
            f"{count:,} results of {asked.processor} are more than a grid can hold beside its rows "
            f"({most_bytes // _ROW_BYTES:,}): look at the rows without them, or select by them",
            code="too_many_results",
        )
    value = "result" if count * _ROW_BYTES + size <= most_bytes else "NULL::VARCHAR"
    cursor.execute(
        f'CREATE TABLE {table} AS SELECT items.file_row_number::INTEGER AS "row", {_COLUMNS}, {value} AS value '
        f"FROM {chosen} AS outcomes JOIN "
        "(SELECT key, file_row_number FROM read_parquet($snapshot, file_row_number = true)) AS items USING (key) "
        'ORDER BY "row"',
        {"snapshot": str(snapshot)},
    )
    (count,) = _one(cursor, f"SELECT count(*) FROM {table}")
    return Beside(asked, table, count, _values(cursor, table))


def held(cursor: duckdb.DuckDBPyConnection, beside: Beside) -> int:
    """An estimate of the bytes of its table."""
    texts = "strlen(concat(r0, r5, r7, r8, r9, value))"
    return int(_one(cursor, f"SELECT coalesce(sum({texts} + {_ROW_BYTES}), 0) FROM {beside.table}")[0])


def drop(cursor: duckdb.DuckDBPyConnection, table: str) -> None:
    cursor.execute(f"DROP TABLE {table}")


def _values(cursor: duckdb.DuckDBPyConnection, table: str) -> tuple[Column, ...]:
    """What the first results hold at their top level, those first that most of them have; a field of several kinds is
    a text."""
    texts = cursor.execute(
        f'SELECT value FROM {table} WHERE value IS NOT NULL ORDER BY "row" LIMIT {_SAMPLE}'
    ).fetchall()
    kinds: dict[str, set[ColumnKind]] = {}
    times: dict[str, int] = {}
    for (text,) in texts:
        result = orjson.loads(text)
        for name, value in result.items() if isinstance(result, dict) else ():
            times[name] = times.get(name, 0) + 1
            if value is not None:
                kinds.setdefault(name, set()).add(_kind(value))
    first = sorted(times, key=lambda name: (-times[name], name))[:MOST_VALUES]
    return tuple(
        Column(name, next(iter(kinds[name])) if len(kinds.get(name, ())) == 1 else ColumnKind.TEXT) for name in first
    )


def _kind(value: object) -> ColumnKind:
    if isinstance(value, bool):
        return ColumnKind.BOOLEAN
    if isinstance(value, int | float):
        return ColumnKind.NUMBER
    return ColumnKind.TEXT if isinstance(value, str) else ColumnKind.JSON


def _value_sql(column: Column) -> str:
    """Reads a field out of a result's text; null where it is of another kind than the first ones. The text is parsed
    once: that is what costs."""
    pointer = literal("/" + column.name.replace("~", "~0").replace("/", "~1"))
    text = f"json_extract_string(results.value, {pointer})"
    match column.kind:
        case ColumnKind.BOOLEAN:
            return f"(CASE {text} WHEN 'true' THEN true WHEN 'false' THEN false END)"
        case ColumnKind.NUMBER:
            return f"TRY_CAST({text} AS DOUBLE)"
        case _:
            return text


def _nothing() -> str:
    """No outcome at all, with the columns of some."""
    kinds = {"source": "VARCHAR", "processor": "VARCHAR", "version": "VARCHAR", "run_id": "VARCHAR", "number": "BIGINT"}
    columns = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in (kinds | OUTCOME_COLUMNS).items())
    return f"SELECT {columns} WHERE false"


def _one(cursor: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    row = cursor.execute(query).fetchone()
    assert row is not None
    return tuple(row)
