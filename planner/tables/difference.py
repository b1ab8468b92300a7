"""What has changed between two snapshots, by key: for `refresh`.

A row has changed when its payload or its group has. Both files are read once, row by row into a join over 128-bit
hashes (40 bytes a row), so ten million rows stay within the memory of the child; what does not fit is spilled.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from penstock.runtime.parquet_files import literal
from planner.tables.wanted import Difference

__all__ = ["compare"]


def compare(old: Path, new: Path, cursor: duckdb.DuckDBPyConnection, *, most: int = 100) -> Difference:
    """Counts, and up to `most` keys of each, those added and changed in the new order. Raises duckdb.Error."""
    added, changed, removed = "old.k IS NULL", "old.k = new.k AND old.v <> new.v", "new.k IS NULL"
    found = cursor.execute(
        f"SELECT {', '.join(f'count(*) FILTER ({which})' for which in (added, changed, removed))}, "
        f"min(new.n, {most}) FILTER ({added}), min(new.n, {most}) FILTER ({changed}), "
        f"min(old.n, {most}) FILTER ({removed}) "
        f"FROM ({_hashed(old)}) AS old FULL OUTER JOIN ({_hashed(new)}) AS new ON old.k = new.k"
    ).fetchone()
    assert found is not None
    return Difference(
        added=found[0],
        changed=found[1],
        removed=found[2],
        first_added=_keys(new, found[3], cursor),
        first_changed=_keys(new, found[4], cursor),
        first_removed=_keys(old, found[5], cursor),
    )


def _hashed(snapshot: Path) -> str:
    # A payload has no NUL, so what follows one is the group.
    return (
        'SELECT file_row_number AS n, md5_number(key) AS k, md5_number(payload || chr(0) || "group") AS v '
        f"FROM read_parquet({literal(snapshot.resolve())}, file_row_number = true)"
    )


def _keys(snapshot: Path, rows: list[int] | None, cursor: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    if not rows:
        return ()
    found = cursor.execute(
        f"SELECT key FROM read_parquet({literal(snapshot.resolve())}, file_row_number = true) "
        "WHERE file_row_number IN (SELECT unnest($rows::BIGINT[])) ORDER BY file_row_number",
        {"rows": rows},
    ).fetchall()
    return tuple(row[0] for row in found)
