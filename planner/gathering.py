"""The chosen rows of a snapshot, in order, as the file of a plan.

Few are sorted with their payloads, in one statement. Of many, first the numbers of the rows are put in order, without
their payloads; then the rows are gathered, a part of the plan after another, each of which memory holds. In one sort,
ten million payloads of 260 bytes were written to the disk and read again, which took two thirds of the time; a part
costs that all payloads are read once more. Parts are laid end to end by `planner.parquet_parts`.
Lanes are written with the rows, where they can be known before (`planner.lane_tables`).

Both ways write the same rows. What fails may leave the file or its parts `PLACE.0`, …: parts are removed here, the file
by the caller. Raises duckdb.Error and Unavailable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.runtime.parquet_files import literal
from planner.lane_tables import LaneTable, LaneTables
from planner.parquet import BLOCK_ROWS, COPY_OPTIONS, LaterItem
from planner.parquet_parts import join_parts
from planner.selecting import Choosing

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Gathered", "gather"]

_KEYED, _SIZE = 'items.key AS key, items."group" AS "group", items.payload AS payload', "strlen(items.payload)::INTEGER"
_COLUMNS, _LANED = f"{_KEYED}, {_SIZE} AS size", f"{_KEYED}, lanes.lane AS lane, {_SIZE} AS size"

_NAMES = 'key, "group", payload'
_WRITTEN, _WRITTEN_LANED = f"{_NAMES}, size", f"{_NAMES}, lane::VARCHAR AS lane, size"
"""Of these columns, once they are in order: sorts move a lane as a number."""

_NO_LANES = LaneTable()
_SNAPSHOT = "read_parquet($snapshot, file_row_number = true) AS items"

_PART_SHARE = 0.57
"""Of DuckDB's memory, for the rows of a part: what is written waits in it, too. With larger parts they spill."""

_ROW_BYTES = 64  # of a row in a sort, beside its payload
_MOST_PARTS = 16
"""Past so many it costs less to spill than to read the snapshot again."""


@dataclass(frozen=True)
class Gathered:
    """count: rows of the source in the file. laned: whether the file has lanes, because some row has limit keys; None:
    it has none since nobody knows, and the processor is to be asked row by row."""

    count: int
    laned: bool | None = False


def gather(
    cursor: DuckDBPyConnection,
    choosing: Choosing,
    place: Path,
    *,
    limit: int,
    later: Sequence[LaterItem],
    at_once: bool,
    lanes: LaneTables | None = None,
) -> Gathered:
    """Makes the file `place`, which may be there; without any row there may be none. lanes: who knows those of the
    source's rows, if any may have limit keys."""
    bound = f" LIMIT {limit}" if limit else ""
    table: LaneTable | None = _NO_LANES
    if at_once:
        rows = f"FROM (SELECT items.* {choosing.chosen} {choosing.order}{bound}) AS items" if limit else choosing.chosen
        if lanes:
            table = lanes.made(cursor, rows, choosing.values)
        # With a limit this join leaves out what is past it, and nothing else.
        joined = choosing.joined(table.join if table else "")
        chosen = f"SELECT {_columns(table)} {joined} {choosing.order}{bound}"
        rows = f"SELECT 0::INTEGER AS stage, row_number() OVER () - 1 AS seq, {_written(table)} FROM ({chosen})"
        rows += _rest(later, table)
        count = _counted(cursor, f"COPY ({rows}) TO {literal(place)} ({COPY_OPTIONS})", choosing.values) - len(later)
        return Gathered(count, _laned(table))
    ordered = f"SELECT items.file_row_number::UINTEGER AS row {choosing.chosen} {choosing.order}{bound}"
    numbered = f"SELECT (row_number() OVER () - 1)::UINTEGER AS seq, row FROM ({ordered})"
    count = _counted(cursor, f"CREATE TEMP TABLE placed AS {numbered}", choosing.values)
    if not count:
        return Gathered(0)
    snapshot = choosing.values["snapshot"]
    if lanes:
        within = f"FROM {_SNAPSHOT} JOIN placed ON placed.row = items.file_row_number"
        rows, values = (within, {"snapshot": snapshot}) if limit else (choosing.chosen, choosing.values)
        table = lanes.made(cursor, rows, values)
    _in_parts(cursor, snapshot, place, count, later, table)
    return Gathered(count, _laned(table))


def _laned(table: LaneTable | None) -> bool | None:
    return None if table is None else bool(table.join)


def _columns(table: LaneTable | None) -> str:
    return _LANED if _laned(table) else _COLUMNS


def _written(table: LaneTable | None) -> str:
    return _WRITTEN_LANED if _laned(table) else _WRITTEN


def _rest(later: Sequence[LaterItem], table: LaneTable | None) -> str:
    return "".join(
        f" UNION ALL SELECT {stage}, {seq}, {literal(key)}, {literal(group)}, {literal(payload)}, "
        + (f"{literal(lane)}, " if _laned(table) else "")
        + str(len(payload.encode()))
        for stage, seq, key, group, payload, lane in later
    )


def _in_parts(
    cursor: DuckDBPyConnection,
    snapshot: object,
    place: Path,
    count: int,
    later: Sequence[LaterItem],
    table: LaneTable | None,
) -> None:
    rows = _part_rows(cursor, snapshot, count, beside=_ROW_BYTES + (table.row_bytes if table else 0))
    parts = [place.with_name(f"{place.name}.{first}") for first in range(0, count, rows)]

    def made() -> Iterator[Path]:
        for number, part in enumerate(parts):
            first = number * rows
            placed = f"(SELECT * FROM placed WHERE seq >= {first} AND seq < {first + rows}) AS placed"
            gathered = (
                f"SELECT 0::INTEGER AS stage, placed.seq::BIGINT AS seq, {_columns(table)} FROM {_SNAPSHOT} "
                f"JOIN {placed} ON placed.row = items.file_row_number{table.join if table else ''} ORDER BY placed.seq"
            )
            last = _rest(later, table) if part == parts[-1] else ""
            cursor.execute(
                f"COPY (SELECT stage, seq, {_written(table)} FROM ({gathered}){last}) "
                f"TO {literal(part)} ({COPY_OPTIONS})",
                {"snapshot": snapshot},
            )
            yield part

    try:
        if len(parts) == 1:
            next(made()).replace(place)
        else:
            join_parts(made(), place)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _part_rows(cursor: DuckDBPyConnection, snapshot: object, count: int, *, beside: float) -> int:
    """Rows of a part: whole blocks, of about the same number each. beside: bytes of a row that are not its payload."""
    found = cursor.execute(
        "SELECT sum(total_uncompressed_size) / sum(num_values), parse_formatted_bytes(current_setting('memory_limit')) "
        "FROM parquet_metadata($snapshot) WHERE path_in_schema = 'payload'",
        {"snapshot": snapshot},
    ).fetchone()
    assert found is not None
    payload_bytes, memory = found
    parts = min(ceil(count * (payload_bytes + beside) / (memory * _PART_SHARE)), _MOST_PARTS)
    return int(ceil(count / parts / BLOCK_ROWS) * BLOCK_ROWS)


def _counted(cursor: DuckDBPyConnection, statement: str, values: dict[str, object]) -> int:
    """Executes what makes a file or a table; how many rows it has."""
    found = cursor.execute(statement, values).fetchone()
    assert found is not None
    return int(found[0])
