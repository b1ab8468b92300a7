"""A Parquet file as a part of a table: every type as the text that it would have in a CSV.

Values of the types that are ours go without their texts, too (`typed`): of ten million rows, that took a tenth of the
time. Texts are what a column's kind is told from, and the way of all other types. Both give the same version.

Times without a zone are UTC's; objects, lists and maps are JSON; bytes are base64; NaN is null. What has no other
form (enums, intervals, UUIDs) is DuckDB's own text for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import duckdb

from penstock.runtime.parquet_files import literal
from planner.domain.schema import ColumnKind
from planner.tables.parts import Part, Typed, identifier, row_places
from planner.tables.refusals import of_duckdb, refused
from planner.tables.unpacking import Plain

__all__ = ["ParquetPart", "parquet_part", "text_of", "typed_of"]

MAX_LISTS = 12
"""DuckDB takes twice as long for each list around a value: a file of 1 kB with 30 of them would take an hour."""
_WORD = re.compile(r'"(?:[^"]|"")*"|MAP\(|[(),\[]')

_NESTED = ("STRUCT", "MAP", "UNION", "VARIANT")
_WHOLES = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")


@dataclass(frozen=True, kw_only=True)
class ParquetPart(Part):
    def cleaned(self, *, skip_bad: bool) -> Part:
        """There is no slow pass: what DuckDB does not read, nothing here reads."""
        return self

    def places(self, rows: Iterable[int]) -> Mapping[int, str]:
        return row_places(rows)


def parquet_part(plain: Plain, cursor: duckdb.DuckDBPyConnection) -> ParquetPart:
    """Raises InvalidInput."""
    relation = f"read_parquet({literal(plain.path.resolve())})"
    try:
        found = cursor.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    except duckdb.Error as error:
        raise of_duckdb(error, plain.name) from error
    if not found:
        raise refused(f"{plain.name} is refused", ["it has no columns"], code="bad_columns")
    deep = [name for name, kind, *_ in found if lists_within(kind) > MAX_LISTS]
    if deep:
        words = f"has more than {MAX_LISTS} lists or maps within each other"
        raise refused(f"{plain.name} is refused", [f"column {name!r} {words}" for name in deep], code="bad_columns")
    columns = {row[0]: text_of(identifier(row[0]), row[1]) for row in found}
    typed = {row[0]: value for row in found if (value := typed_of(identifier(row[0]), row[1])) is not None}
    return ParquetPart(name=plain.name, columns=columns, relation=relation, typed=typed)


def lists_within(kind: str) -> int:
    """How many lists and maps stand within each other in one of DuckDB's types."""
    most, own = [0], [0]  # by parenthesis: of the entries before, and that the parenthesis itself is
    entry = 0
    for word in _WORD.findall(kind):
        if word in ("(", "MAP("):
            most.append(0)
            own.append(int(word == "MAP("))
            entry = 0
        elif word == ",":
            most[-1], entry = max(most[-1], entry), 0
        elif word == ")":
            entry = max(most.pop(), entry) + own.pop()
        elif word == "[":
            entry += 1
    return max(most[0], entry)


def text_of(value: str, kind: str) -> str:
    """SQL of the text of a value of one of DuckDB's types."""
    kind = kind.upper()
    if kind in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN isnan({value}) THEN NULL ELSE {value}::VARCHAR END"
    if kind == "BLOB":
        return f"to_base64({value})"
    if kind == "JSON":
        return f"({value} ->> '$')"
    if kind.endswith("]") or kind.startswith(_NESTED):
        return f"to_json({value})::VARCHAR"
    return f"{value}::VARCHAR"


def typed_of(value: str, kind: str) -> Typed | None:
    """A value of one of DuckDB's types that needs no text: its text says nothing else than the value.

    None for all others: a FLOAT is another number than its text, a DECIMAL may be told with zeros at its end.
    """
    if kind in _WHOLES:
        return Typed(ColumnKind.WHOLE, f"{value}::BIGINT")
    match kind:
        case "BOOLEAN":
            return Typed(ColumnKind.BOOLEAN, value)
        case "DOUBLE":
            return Typed(ColumnKind.NUMBER, f"CASE WHEN isnan({value}) THEN NULL ELSE {value} END")
        case "TIMESTAMP":
            return Typed(ColumnKind.TIME, value)
        case "DATE":
            past = f"CASE WHEN {value} IS NOT NULL THEN TIMESTAMP 'infinity' END"  # of years that no timestamp has
            return Typed(ColumnKind.TIME, f"COALESCE(TRY_CAST({value} AS TIMESTAMP), {past})")
    return None
