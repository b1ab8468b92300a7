"""Lanes of the rows of a plan, many at once: the processor is asked once for each combination of the values that its
limit keys hang on, and rows find their lane by a join in the statement that writes them.

It is for processors that say which fields of the payload these are (`Processor.limit_fields`), over snapshots of
tables: a field of their payload is made of its column alone, so rows with the same column have the same field. What
the processor is given comes out of the payload of the first such row, as JSON is read everywhere else. The lanes are
those that asking row by row gives, or there is no answer and that is what has to be done: where a processor does not
say, where there are too many combinations, and where anything is wrong with one, since the items concerned are known
only in the plan's order. Nothing is written to disk. Raises duckdb.Error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from planner.domain.schema import ColumnKind, Schema
from planner.lanes import Lanes

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["LaneTable", "LaneTables"]

_MOST_ASKED = 100_000
"""Combinations, as far as DuckDB estimates them (within some percent): asking for so many takes half a second."""

_MOST_BYTES = 32 << 20
"""Of their values together, and of their lanes."""

_VALUE_BYTES = 32  # of a number, a time or a truth as a text, at most
_AT_ONCE = 2_048


@dataclass(frozen=True)
class LaneTable:
    """join: puts `lanes.lane` (an enumeration) beside each row of `items`; empty: no row has keys. row_bytes: of one,
    on average."""

    join: str = ""
    row_bytes: float = 0.0


@dataclass(frozen=True)
class LaneTables:
    """The lanes of rows of snapshots with this schema."""

    lanes: Lanes
    schema: Schema

    def made(self, cursor: DuckDBPyConnection, rows: str, values: Mapping[str, object]) -> LaneTable | None:
        """Makes the temporary table `lanes`; None: ask row by row. rows: FROM … of the plan's rows, the snapshot's
        columns being `items.…`, with `items.file_row_number`; values: of its parameters, `snapshot` among them.
        """
        fields = self.lanes.fields
        if fields is None:
            return None
        columns = _columns(self.schema, fields)
        if columns and not _few(cursor, columns, rows, values):
            return None
        told = "".join(f"{column.sql} AS c{number}, " for number, column in enumerate(columns))
        grouped = ", ".join(f"c{number}" for number in range(len(columns)))
        cursor.execute(
            f"CREATE TEMP TABLE asked AS SELECT {told}min(items.file_row_number) AS row, count(*) AS count {rows}"
            + (f" GROUP BY {grouped}" if columns else ""),
            values,
        )
        found = self._asked(cursor, fields, values["snapshot"])
        if found is None:
            return None
        if not any(found.values()):
            return LaneTable()
        cursor.execute(
            "CREATE TEMP TABLE named AS SELECT unnest($rows::BIGINT[]) AS row, unnest($lanes::VARCHAR[]) AS lane",
            {"rows": list(found), "lanes": list(found.values())},
        )
        # As an enumeration a lane is a number wherever rows are moved.
        cursor.execute("CREATE TEMP TYPE lane_names AS ENUM (SELECT DISTINCT lane FROM named)")
        cursor.execute(
            "CREATE TEMP TABLE lanes AS SELECT asked.*, named.lane::lane_names AS lane "
            "FROM asked JOIN named USING (row)"
        )
        average = cursor.execute("SELECT sum(strlen(lane::VARCHAR) * count) / sum(count) FROM lanes").fetchone()
        assert average is not None
        same = " AND ".join(
            f"lanes.c{number} IS NOT DISTINCT FROM {column.sql}" for number, column in enumerate(columns)
        )
        return LaneTable(f" JOIN lanes ON {same or 'true'}", average[0])

    def _asked(self, cursor: DuckDBPyConnection, fields: Sequence[str], snapshot: object) -> dict[int, str] | None:
        """The lane of each combination, by its first row; None when one has none, or all are too long."""
        found, size = dict[int, str](), 0
        rows = cursor.execute(
            "SELECT asked.row, items.payload FROM read_parquet($snapshot, file_row_number = true) AS items "
            "JOIN asked ON asked.row = items.file_row_number",
            {"snapshot": snapshot},
        )
        while some := rows.fetchmany(_AT_ONCE):
            for row, text in some:
                payload = orjson.loads(text)
                lane = self.lanes.named({name: payload[name] for name in fields if name in payload})
                if lane is None:
                    return None
                found[row] = lane
                size += len(lane)
            if size > _MOST_BYTES:
                return None
        return found


@dataclass(frozen=True)
class _Column:
    """sql: equal where the payload's field is; size: bytes of it at most, an expression."""

    sql: str
    size: str


def _columns(schema: Schema, fields: Sequence[str]) -> list[_Column]:
    """Of the fields that the source has: no payload has the others."""
    found = []
    for place, column in enumerate(schema.columns):
        if column.name not in fields:
            continue
        value = f"items.f{place}"
        if column.kind in (ColumnKind.TEXT, ColumnKind.JSON):
            found.append(_Column(value, f"coalesce(strlen({value}), 0)"))
        else:
            # 0.0 and -0.0 are equal as numbers; their texts differ, as they do in payloads.
            number = column.kind is ColumnKind.NUMBER
            found.append(_Column(f"{value}::VARCHAR" if number else value, str(_VALUE_BYTES)))
    return found


def _few(cursor: DuckDBPyConnection, columns: Sequence[_Column], rows: str, values: Mapping[str, object]) -> bool:
    """Whether there are so few combinations that each can be asked for. Takes no memory, however many there are."""
    together = ", ".join(column.sql for column in columns)
    found = cursor.execute(
        f"SELECT approx_count_distinct(hash({together})), max({' + '.join(column.size for column in columns)}) {rows}",
        values,
    ).fetchone()
    assert found is not None
    count, longest = found
    return bool(count <= _MOST_ASKED and count * (longest or 0) <= _MOST_BYTES)
