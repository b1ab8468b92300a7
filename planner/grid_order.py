"""All rows of a source by a column, for a grid: what is equal stays in the order that it had.

A text has the place of its natural key among all keys of the column, asked of DuckDB for the different texts alone:
natural keys are dear, and most columns have few different texts. All else is sorted as the number that it is. What is
null is less than everything, and a text that is null counts as empty, as in the order of a plan
(`planner.domain.ordering`). A row that has no result has nulls in the columns of results. Raises Unavailable when the
file can't be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.domain.schema import ColumnKind
from planner.grid_results import Beside
from planner.grid_tables import FILE, Relation
from planner.natural_sql import natural_sql

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int32]

__all__ = ["Sorted", "moved", "numbers_of", "places_of", "sorted_by"]


@dataclass(frozen=True)
class Sorted:
    """A column that rows are sorted by: what stands after FROM, the place of a row, and the value. count: of the
    source's rows; stored: the value is a natural key already."""

    source: str
    row: str
    column: str
    kind: ColumnKind
    count: int
    values: dict[str, object]
    stored: bool = False

    @property
    def is_text(self) -> bool:
        """Whether it is sorted by `places_of`; else by `numbers_of`."""
        return self.kind in (ColumnKind.TEXT, ColumnKind.JSON)


def sorted_by(relation: Relation, beside: Beside | None, name: str) -> Sorted:
    """Of the source, or of the results beside it."""
    if beside is not None and name in beside.columns:
        column = beside.columns[name]
        return Sorted(f"{beside.table} AS results", '"row"', column.sql, column.kind, relation.count, {})
    schema = relation.schema
    kind = schema.kind(name)
    stored = name in schema.sort
    if kind in (ColumnKind.TEXT, ColumnKind.JSON):
        column_sql = f"s{schema.sort.index(name)}" if stored else f'"{schema.place(name)}"'
        snapshot: dict[str, object] = {"snapshot": str(relation.snapshot)}
        return Sorted(FILE, "file_row_number", column_sql, kind, relation.count, snapshot, stored)
    values = relation.values(relation.sql)
    return Sorted(relation.sql, relation.row, f'"{schema.place(name)}"', kind, relation.count, values)


def moved(
    order: Rows, values: NDArray[np.generic], *, descending: bool, lacks: NDArray[np.bool_] | None = None
) -> Rows:
    """The rows of `order` by their values; `lacks`: which rows have none."""
    import numpy as np

    nulls = order[:0] if lacks is None else order[lacks[order]]
    others = order if lacks is None else order[~lacks[order]]
    if descending:
        # Turned round twice: what is equal stays as it was.
        others = others[::-1][np.argsort(values[others[::-1]], kind="stable")][::-1]
        return np.concatenate((others, nulls))
    return np.concatenate((nulls, others[np.argsort(values[others], kind="stable")]))


def places_of(cursor: duckdb.DuckDBPyConnection, by: Sorted) -> Rows:
    """Of each row the place of its text."""
    import numpy as np

    key = "text" if by.stored else natural_sql("text")
    found = cursor.execute(
        f"WITH items AS (SELECT {by.row}::INTEGER AS row, coalesce({by.column}, '') AS text FROM {by.source}), "
        f"texts AS (SELECT text, (dense_rank() OVER (ORDER BY key))::INTEGER AS place "
        f"FROM (SELECT text, {key} AS key FROM (SELECT DISTINCT text FROM items UNION SELECT ''))) "
        "SELECT row, place FROM items JOIN texts USING (text)",
        by.values,
    ).fetchnumpy()
    # The place of the empty text, which is before all others, is 1.
    places = np.ones(by.count, dtype=np.int32)
    places[found["row"]] = found["place"]
    return places


def numbers_of(cursor: duckdb.DuckDBPyConnection, by: Sorted) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Of each row its number, and whether it has none."""
    import numpy as np

    number = f"epoch_ms({by.column})" if by.kind is ColumnKind.TIME else by.column
    none = "0.0" if by.kind is ColumnKind.NUMBER else "false" if by.kind is ColumnKind.BOOLEAN else "0"
    found = cursor.execute(
        f"SELECT {by.row}::INTEGER AS row, coalesce({number}, {none}) AS number, {by.column} IS NULL AS lacks "
        f"FROM {by.source}",
        by.values,
    ).fetchnumpy()
    numbers = np.zeros(by.count, dtype=found["number"].dtype)
    lacks = np.ones(by.count, dtype=np.bool_)
    numbers[found["row"]] = found["number"]
    lacks[found["row"]] = found["lacks"]
    return numbers, lacks
