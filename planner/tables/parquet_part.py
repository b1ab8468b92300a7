"""A Parquet file as a part of a table: every type as the text that it would have in a CSV.

Times without a zone are UTC's; objects, lists and maps are JSON; bytes are base64; NaN is null. What has no other
form (enums, intervals, UUIDs) is DuckDB's own text for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import duckdb

from penstock.runtime.parquet_files import literal
from planner.tables.parts import Part, identifier, row_places
from planner.tables.refusals import of_duckdb, refused
from planner.tables.unpacking import Plain

__all__ = ["ParquetPart", "parquet_part", "text_of"]

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
    columns = {row[0]: text_of(identifier(row[0]), row[1]) for row in found}
    return ParquetPart(name=plain.name, columns=columns, relation=relation)


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
