"""Results with all that they say, written in an order: first their places, then they themselves, a share at a time.

Results may be of many kB, and a million of them past any memory; sorted whole they are past what DuckDB can spill, too.
So the rows are put in order by what is narrow, and gathered by their numbers, as many at once as memory holds; each
share reads the parts once more. Files of shares are laid end to end. What fails leaves no share. Raises Unavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.runtime.parquet_files import literal
from planner.parquet_parts import join_parts
from planner.results.parts import LATER, listed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["WRITE", "place_latest", "write_placed"]

WRITE = "FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 20480, ROW_GROUP_SIZE_BYTES '16MB'"
_SHARE = 0.2
"""Of DuckDB's memory, for the rows of a share: they wait in it once more while they are sorted and written."""
_ROW_BYTES = 64  # of a row, beside its values
_MOST_SHARES = 32


def place_latest(cursor: DuckDBPyConnection, parts: Sequence[Path], *, source: str) -> int:
    """Makes the table `placed` (place, file, row) of a source's results by key and processor; how many they are."""
    latest = (
        f"SELECT file_index AS file, file_row_number AS row FROM read_parquet({listed(parts)}, file_row_number = true) "
        f"WHERE source = {literal(source)} "
        f'QUALIFY row_number() OVER (PARTITION BY "key", processor ORDER BY {LATER}) = 1 ORDER BY "key", processor'
    )
    made = cursor.execute(
        f"CREATE TEMP TABLE placed AS SELECT row_number() OVER () - 1 AS place, file, row FROM ({latest})"
    ).fetchone()
    assert made is not None
    return int(made[0])


def write_placed(
    cursor: DuckDBPyConnection, parts: Sequence[Path], columns: Sequence[str], place: Path, *, count: int
) -> None:
    """Makes the file `place` of these columns of the `count` rows that are placed, at least one."""
    rows = _share(cursor, parts, count)
    shares = [place.with_name(f"{place.name}.{first}") for first in range(0, count, rows)]
    chosen = ", ".join(f'outcomes."{name}"' for name in columns)
    try:
        for number, share in enumerate(shares):
            first = number * rows
            cursor.execute(
                f"COPY (SELECT {chosen} FROM read_parquet({listed(parts)}, file_row_number = true) AS outcomes "
                f"JOIN (SELECT * FROM placed WHERE place >= {first} AND place < {first + rows}) AS placed "
                "ON placed.file = outcomes.file_index AND placed.row = outcomes.file_row_number "
                f"ORDER BY placed.place) TO {literal(share.resolve())} ({WRITE})"
            )
        join_parts(shares, place)
    finally:
        for share in shares:
            share.unlink(missing_ok=True)


def _share(cursor: DuckDBPyConnection, parts: Sequence[Path], count: int) -> int:
    """How many rows memory holds at once."""
    found = cursor.execute(
        "SELECT sum(total_uncompressed_size) / sum(num_values) FILTER (path_in_schema = 'key'), "
        f"parse_formatted_bytes(current_setting('memory_limit')) FROM parquet_metadata({listed(parts)})"
    ).fetchone()
    assert found is not None
    row_bytes, memory = float(found[0]), int(found[1])
    return ceil(count / min(ceil(count * (row_bytes + _ROW_BYTES) / (memory * _SHARE)), _MOST_SHARES))
