"""A Parquet file as a part of a table: every type as the text that it would have in a CSV.

Times without a zone are UTC's; objects, lists and maps are JSON; bytes are base64; NaN is null. What has no other
form (enums, intervals, UUIDs) is DuckDB's own text for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import duckdb

from penstock.runtime.parquet_files import literal
from planner.tables.parts import Part, identifier, row_places
from planner.tables.refusals import of_duckdb, refused
from planner.tables.unpacking import Plain

__all__ = ["ParquetPart", "parquet_part", "text_of"]

MAX_LISTS = 12
"""DuckDB takes twice as long for each list around a value: a file of 1 kB with 30 of them would take an hour."""
_WORD = re.compile(r'"(?:[^"]|"")*"|MAP\(|[(),\[]')

_NESTED = ("STRUCT", "MAP", "UNION", "VARIANT")


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
    return ParquetPart(name=plain.name, columns=columns, relation=relation)


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
