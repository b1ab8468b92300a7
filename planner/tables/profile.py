"""The kinds of a table's columns.

`planner.domain.table_kinds` has the rules; this says them to DuckDB. The first rows tell what the kinds seem to be:
the snapshot is written with these kinds, each value checked by `guard_sql`, and the table is read once. Where a guard
stops it, or the first rows leave something open, all rows are counted first. Whatever else fails, fails in DuckDB: the
caller goes to the slow pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from penstock.runtime.parquet_files import literal
from planner.domain.schema import ColumnKind
from planner.domain.table_kinds import BOOLEAN, NAN, NO_JSON_NUMBER, NUMBER, TIME, Counts, candidates, count, kind_of

__all__ = [
    "GUARD",
    "Profile",
    "TypedColumn",
    "class_sql",
    "guard_sql",
    "matches",
    "profile",
    "same_sql",
    "seeming",
    "utc_sql",
]

GUARD = "another kind than the first rows have"

_SAMPLE_ROWS, _SAMPLE_CELLS = 2_048, 100_000
_NUMBERS = frozenset({ColumnKind.WHOLE, ColumnKind.NUMBER})
_NAN = "nan"
_FIRST, _LAST = "TIMESTAMP '1000-01-01'", "TIMESTAMP '10000-01-01'"
"""What a zone moves past the last is no time of the years that are taken."""
_FIELDS = {
    ColumnKind.BOOLEAN: "booleans",
    ColumnKind.WHOLE: "wholes",
    ColumnKind.NUMBER: "numbers",
    ColumnKind.TIME: "times",
    ColumnKind.JSON: "jsons",
}


@dataclass(frozen=True)
class TypedColumn:
    """A column of the snapshot: `f{place}`, made of the cells `t{place}`: texts, or values if it is `typed`. guarded:
    its kind seems so only."""

    name: str
    place: int
    kind: ColumnKind
    counts: Counts
    guarded: bool = False
    typed: bool = False

    @property
    def nans(self) -> int:
        """Cells that are null because the column is of numbers."""
        return self.counts.nans if self.kind in _NUMBERS else 0


@dataclass(frozen=True)
class Profile:
    """empty: how many rows have no value, which are passed over; None where there may be none."""

    columns: tuple[TypedColumn, ...]
    empty: int | None


def seeming(raw: str, names: Sequence[str], cursor: duckdb.DuckDBPyConnection) -> tuple[list[Counts], Profile | None]:
    """The counts of the first rows of `raw`, a relation of texts t0, t1, …, and what they make the table seem to be.

    None where they leave it open. Raises duckdb.Error.
    """
    some = max(20, min(_SAMPLE_ROWS, _SAMPLE_CELLS // len(names)))
    rows = cursor.execute(f"SELECT * FROM ({raw}) LIMIT {some}").fetchall()
    counts = [count(row[place] for row in rows if row[place] is not None) for place in range(len(names))]
    empty = any(all(cell is None for cell in row) for row in rows)
    if empty or any(not one.cells or one.nans for one in counts):
        return counts, None
    columns = (
        TypedColumn(name, place, kind_of(counts[place]), counts[place], guarded=True)
        for place, name in enumerate(names)
    )
    return counts, Profile(tuple(columns), None)


def profile(raw: str, names: Sequence[str], sample: Sequence[Counts], cursor: duckdb.DuckDBPyConnection) -> Profile:
    """Reads all rows. `sample`: of `seeming`. Raises duckdb.Error."""
    looked = [candidates(counts) for counts in sample]
    classes, details, counted = list[str](), list[str](), list[tuple[int, str, str]]()
    for place, kinds in enumerate(looked):
        counted.append((place, "cells", f"count(t{place})"))
        if kinds:
            classes.append(f"{class_sql(f't{place}', kinds)} AS c{place}")
            counted += _counted(place, kinds, details)
    every = ", ".join(f"t{place}" for place in range(len(names)))
    layers = raw
    for added in (classes, details):
        layers = f"SELECT {', '.join(['*', *added])} FROM ({layers})"
    sums = ", ".join(sql for _, _, sql in counted)
    found = cursor.execute(f"SELECT {sums}, count(*) FILTER (COALESCE({every}) IS NULL) FROM ({layers})").fetchone()
    assert found is not None
    by_column: list[dict[str, int]] = [{} for _ in names]
    for (place, name, _), number in zip(counted, found, strict=False):
        by_column[place][name] = number or 0
    counts = [Counts(**values) for values in by_column]
    columns = (TypedColumn(name, place, kind_of(counts[place]), counts[place]) for place, name in enumerate(names))
    return Profile(tuple(columns), found[-1])


def class_sql(cell: str, kinds: frozenset[ColumnKind]) -> str:
    """What a text is, of some kinds: the kind's name, `nan`, or null."""
    whens = [f"WHEN {_test(cell, kind)} THEN {literal(kind.value)}" for kind in _FIELDS if kind in kinds]
    if kinds & _NUMBERS:
        whens.append(f"WHEN {matches(cell, NAN)} THEN '{_NAN}'")
    return f"CASE {' '.join(whens)} END"


def guard_sql(column: TypedColumn, value: str) -> str:
    """Whether a cell is what its column seems to be; a text may be anything. value: what the cell is when it is."""
    cell, counts = f"t{column.place}", column.counts
    if column.typed:
        return _typed_guard(column, value)
    match column.kind:
        case ColumnKind.TEXT:
            return "true"
        case ColumnKind.WHOLE:
            return f"{value}::VARCHAR = {cell}"
        case ColumnKind.NUMBER:
            even = counts.least_decimals == counts.most_decimals > 1
            fraction = f"{_decimals(cell)} = {counts.most_decimals}" if even else f"NOT ({_padded(cell)})"
            number = f"{matches(cell, NUMBER)} AND ({fraction} OR {_has_exponent(cell)})"
            return f"isfinite({value}) AND ({number} OR {_test(cell, ColumnKind.WHOLE)})"
        case ColumnKind.TIME:
            return f"{matches(cell, TIME)} AND {value} < {_LAST}{_same_unit(counts, value)}"
        case kind:
            return _test(cell, kind)


def _typed_guard(column: TypedColumn, value: str) -> str:
    match column.kind:
        case ColumnKind.NUMBER:
            return f"isfinite({value})"
        case ColumnKind.TIME:
            return f"{value} >= {_FIRST} AND {value} < {_LAST}{_same_unit(column.counts, value)}"
        case _:
            return "true"


def _same_unit(counts: Counts, value: str) -> str:
    """That a time is a whole day, or second, where all that were seen are."""
    unit = "day" if counts.midnights == counts.times else "second" if counts.seconds == counts.times else ""
    return f" AND {value} = date_trunc('{unit}', {value})" if unit else ""


def same_sql(column: TypedColumn, value: str, text: str) -> str:
    """Whether a cell is written as we write its value: then `guard_sql` would say yes. For neither texts nor JSON.

    value, text: what the cell is when it is of the column's kind, and the text that we write for it.
    """
    cell, counts = f"t{column.place}", column.counts
    same = f"{text} = {cell}"
    match column.kind:
        case ColumnKind.NUMBER:
            even = counts.least_decimals == counts.most_decimals > 1
            decimals = f" AND {_decimals(cell)} = {counts.most_decimals}" if even else ""
            return f"{same} AND isfinite({value}) AND NOT {_has_exponent(cell)}{decimals}"
        case ColumnKind.TIME:
            return f"{same} AND {value} >= {_FIRST} AND {value} < {_LAST}"
        case _:
            return same


def matches(cell: str, pattern: str) -> str:
    """Whether all of a text matches. Never `IN`: DuckDB makes a join of a list, and joins lose the order of rows."""
    return f"regexp_full_match({cell}, {literal(pattern)})"


def utc_sql(cell: str) -> str:
    """The time that a text says, in UTC; the session's zone is UTC. A date, and a text with a Z, need no calendar."""
    plain = f"strlen({cell}) = 10 OR ends_with({cell}, 'Z') AND NOT ends_with({cell}, ' Z')"
    zoned = f"TRY_CAST({cell} AS TIMESTAMPTZ) AT TIME ZONE 'UTC'"
    return f"(CASE WHEN {plain} THEN TRY_CAST({cell} AS TIMESTAMP) ELSE {zoned} END)"


def _test(cell: str, kind: ColumnKind) -> str:
    match kind:
        case ColumnKind.BOOLEAN:
            return matches(cell, BOOLEAN)
        case ColumnKind.WHOLE:
            return f"TRY_CAST({cell} AS BIGINT)::VARCHAR = {cell}"
        case ColumnKind.NUMBER:
            return f"{matches(cell, NUMBER)} AND isfinite(TRY_CAST({cell} AS DOUBLE))"
        case ColumnKind.TIME:
            return f"{matches(cell, TIME)} AND {utc_sql(cell)} < {_LAST}"
        case ColumnKind.JSON:
            strange = f"regexp_matches({cell}, {literal(NO_JSON_NUMBER)})"
            return f"regexp_matches({cell}, '^[{{[]') AND json_valid({cell}) AND NOT {strange}"
        case ColumnKind.TEXT:
            return "true"


def _has_exponent(cell: str) -> str:
    return f"(contains({cell}, 'e') OR contains({cell}, 'E'))"


def _decimals(cell: str) -> str:
    """Of a number with a fraction."""
    return f"(strlen({cell}) - strpos({cell}, '.'))"


def _padded(cell: str) -> str:
    return f"ends_with({cell}, '0') AND {_decimals(cell)} > 1"


def _counted(place: int, kinds: frozenset[ColumnKind], details: list[str]) -> list[tuple[int, str, str]]:
    """(column, field of Counts, SQL); what the SQL needs beside the class goes to `details`."""
    cell = f"t{place}"

    def among(kind: ColumnKind | str, condition: str = "true") -> str:
        return f"count(*) FILTER (c{place} = {literal(kind)} AND {condition})"

    counted = [(place, _FIELDS[kind], among(kind)) for kind in _FIELDS if kind in kinds]
    if kinds & _NUMBERS:
        decimals = f"d{place}"
        fraction = f"c{place} = 'number' AND NOT {_has_exponent(cell)}"
        details.append(f"CASE WHEN {fraction} THEN {_decimals(cell)} END AS {decimals}")
        counted += [
            (place, "nans", among(_NAN)),
            (place, "padded", f"count(*) FILTER ({decimals} > 1 AND ends_with({cell}, '0'))"),
            (place, "least_decimals", f"min({decimals})"),
            (place, "most_decimals", f"max({decimals})"),
        ]
    if ColumnKind.TIME in kinds:
        utc = f"u{place}"
        details.append(f"CASE WHEN c{place} = 'time' THEN {utc_sql(cell)} END AS {utc}")
        counted += [
            (place, "midnights", f"count(*) FILTER ({utc} = date_trunc('day', {utc}))"),
            (place, "seconds", f"count(*) FILTER ({utc} = date_trunc('second', {utc}))"),
        ]
    return counted
