"""All rows of a source by a column, for a grid: what is equal stays in the order that it had.

A text has the place of its natural key among all keys of the column, asked of DuckDB for the different texts alone:
natural keys are dear, and most columns have few different texts. All else is sorted as the number that it is. What is
null is less than everything, and a text that is null counts as empty, as in the order of a plan
(`planner.domain.ordering`). Raises Unavailable when the file can't be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.domain.schema import ColumnKind
from planner.grid_tables import FILE, Relation
from planner.natural_sql import natural_sql

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int32]

__all__ = ["is_text", "moved", "numbers_of", "places_of"]


def is_text(relation: Relation, name: str) -> bool:
    """Whether a column is sorted by `places_of`; else by `numbers_of`."""
    return relation.schema.kind(name) in (ColumnKind.TEXT, ColumnKind.JSON)


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


def places_of(cursor: duckdb.DuckDBPyConnection, relation: Relation, name: str) -> Rows:
    """Of each row the place of its text."""
    import numpy as np

    schema = relation.schema
    stored = name in schema.sort
    column = f"s{schema.sort.index(name)}" if stored else f'"{schema.place(name)}"'
    key = "text" if stored else natural_sql("text")
    found = cursor.execute(
        f"WITH items AS (SELECT file_row_number::INTEGER AS row, coalesce({column}, '') AS text FROM {FILE}), "
        f"texts AS (SELECT text, (dense_rank() OVER (ORDER BY key))::INTEGER AS place "
        f"FROM (SELECT text, {key} AS key FROM (SELECT DISTINCT text FROM items))) "
        "SELECT row, place FROM items JOIN texts USING (text)",
        {"snapshot": str(relation.snapshot)},
    ).fetchnumpy()
    places = np.zeros(relation.count, dtype=np.int32)
    places[found["row"]] = found["place"]
    return places


def numbers_of(
    cursor: duckdb.DuckDBPyConnection, relation: Relation, name: str
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Of each row its number, and whether it has none."""
    import numpy as np

    column = f'"{relation.schema.place(name)}"'
    kind = relation.schema.kind(name)
    number = f"epoch_ms({column})" if kind is ColumnKind.TIME else column
    none = "0.0" if kind is ColumnKind.NUMBER else "false" if kind is ColumnKind.BOOLEAN else "0"
    found = cursor.execute(
        f"SELECT {relation.row}::INTEGER AS row, coalesce({number}, {none}) AS number, {column} IS NULL AS lacks "
        f"FROM {relation.sql}",
        relation.values(relation.sql),
    ).fetchnumpy()
    numbers = np.zeros(relation.count, dtype=found["number"].dtype)
    lacks = np.zeros(relation.count, dtype=np.bool_)
    numbers[found["row"]] = found["number"]
    lacks[found["row"]] = found["lacks"]
    return numbers, lacks
