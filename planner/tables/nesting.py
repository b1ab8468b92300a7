"""Values within each other: more than MAX_DEPTH of them are refused, as in every other payload.

Who reads a payload behind us gives up at some depth. Brackets are counted first, so that nearly no value is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import duckdb
import orjson

from penstock.runtime.parquet_files import literal
from planner.domain.rows import MAX_DEPTH, TOO_DEEP, too_deep
from planner.domain.schema import ColumnKind
from planner.tables.profile import TypedColumn
from planner.tables.refusals import Problems, refused

__all__ = ["check_depth"]

_BATCH = 256


def check_depth(
    columns: Sequence[TypedColumn],
    snapshot: Path,
    *,
    places: Callable[[Iterable[int]], Mapping[int, str]],
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    """Raises InvalidInput."""
    deep: list[tuple[int, str]] = []
    for column in columns:
        if column.kind is not ColumnKind.JSON:
            continue
        value = f"f{column.place}"
        # The row itself is an object around its values.
        brackets = f"length({value}) - length(translate({value}, '[{{', '')) > {MAX_DEPTH - 1}"
        found = cursor.execute(
            f"SELECT file_row_number, {value} FROM read_parquet({literal(snapshot.resolve())}, file_row_number = true) "
            f"WHERE {brackets}"
        )
        while rows := found.fetchmany(_BATCH):
            deep += [(row, column.name) for row, text in rows if _is_deep(text)]
    if deep:
        deep.sort()
        problems = Problems()
        at = places(row for row, _ in deep[:100])
        for row, name in deep:
            problems.add(f"{at.get(row, '')}, column {name!r}: {TOO_DEEP}")
        raise refused("the rows are refused", problems, code="bad_rows")


def _is_deep(text: str) -> bool:
    try:
        return too_deep({"": orjson.loads(text)})
    except orjson.JSONDecodeError:
        return True
