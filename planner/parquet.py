"""Snapshots and plans as Parquet files, written and read by DuckDB.

A snapshot has the columns key, group, payload (JSON text) in the source's order; a plan has stage and seq before them,
and, when any of its items has limit keys, lane and size (bytes of the payload) after them. Rows of a plan stand in the
order of stage and seq: what a window leaves out is skipped by row groups, or by those two narrow columns.
DuckDB is loaded on first use (a planner that only waits stays small), has one thread and bounded memory, and may open
files in the blob folder alone (it compares resolved paths, so those are what it is given). Cursors are made per call,
so calls from several threads are safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.runtime.parquet_files import ParquetFiles, literal
from planner.domain.rows import MAX_PAYLOAD_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BLOCK_ROWS", "COPY_OPTIONS", "ItemTuple", "LaneFilter", "LaterItem", "Parquet"]

ItemTuple = tuple[int, str, str, bytes, str]
"""seq, key, group, payload, lane."""

LaterItem = tuple[int, int, str, str, str, str]
"""stage, seq, key, group, payload, lane: an item of a later stage."""

BLOCK_ROWS = 10_240
"""Rows of a row group, and of a block that is read at once: a multiple of DuckDB's vector of 2,048."""

_MEMORY = "256MB"
COPY_OPTIONS = f"FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {BLOCK_ROWS}, ROW_GROUP_SIZE_BYTES '16MB'"
"""Of every COPY that writes items."""
_ROWS = (
    "read_json($rows, format='newline_delimited', "
    "columns={key: 'VARCHAR', \"group\": 'VARCHAR', payload: 'VARCHAR'}, "
    f"maximum_object_size={4 * MAX_PAYLOAD_BYTES})"
)


_LINES = "auto_detect = false, header = false, quote = '', escape = '', delim = '\x1f', strict_mode = false"
"""Of read_csv: each line is one value as it stands."""

_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class LaneFilter:
    """Items of these lanes alone, or of all but these."""

    lanes: tuple[str, ...]
    without: bool = False

    def sql(self, values: dict[str, object]) -> str:
        """The condition; its parameters are put into `values`."""
        names = {f"lane{place}": lane for place, lane in enumerate(self.lanes)}
        values.update(names)
        listed = ", ".join(f"${name}" for name in names)
        return f"lane {'NOT IN' if self.without else 'IN'} ({listed})"


class Parquet:
    def __init__(self, folder: Path) -> None:
        """`folder` is the blob store's; nothing outside it can be read or written."""
        folder = folder.resolve()
        self._files = ParquetFiles(folder, memory=_MEMORY, spill=folder / ".planner" / "spill", what="the blob store")

    def write_snapshot(self, rows: Path, place: Path) -> None:
        """`rows` are lines of `planner.domain.rows`; makes the file `place`."""
        with self._files.cursor() as cursor:
            cursor.execute(
                f'COPY (SELECT key, "group", payload FROM {_ROWS}) TO {literal(place.resolve())} ({COPY_OPTIONS})',
                {"rows": str(rows.resolve())},
            )

    def payloads(self, snapshot: Path) -> Iterator[list[tuple[str, str]]]:
        """(key, payload) of every row of a snapshot, in order, many at a time."""
        with self._files.cursor() as cursor:
            rows = cursor.execute(
                "SELECT key, payload FROM read_parquet($snapshot)", {"snapshot": str(snapshot.resolve())}
            )
            while some := rows.fetchmany(BLOCK_ROWS):
                yield some

    def write_plan(self, snapshot: Path, place: Path, later: Sequence[LaterItem], *, lanes: Path | None = None) -> None:
        """Stage 0 is the snapshot in its order; `later` are the later stages' items.

        lanes: a file with a line `=LANE` for each row of the snapshot; None: no item has limit keys.
        """
        values = {"snapshot": str(snapshot.resolve())}
        columns, first = "", "read_parquet($snapshot, file_row_number = true)"
        if lanes is not None:
            # Two readers of one thread go row by row together: nothing is held, whatever the sizes.
            columns = ", substr(line, 2) AS lane, strlen(payload)::INTEGER AS size"
            first += f" POSITIONAL JOIN read_csv($lanes, columns = {{line: 'VARCHAR'}}, {_LINES})"
            values["lanes"] = str(lanes.resolve())
        rest = "".join(
            f" UNION ALL SELECT {stage}, {seq}, {literal(key)}, {literal(group)}, {literal(payload)}"
            + (f", {literal(lane)}, {len(payload.encode())}" if lanes is not None else "")
            for stage, seq, key, group, payload, lane in later
        )
        with self._files.cursor() as cursor:
            cursor.execute(
                f'COPY (SELECT 0::INTEGER AS stage, file_row_number AS seq, key, "group", payload{columns} '
                f"FROM {first}{rest}) TO {literal(place.resolve())} ({COPY_OPTIONS})",
                values,
            )

    def derive_plan(self, plan: Path, place: Path, *, stage: int, seqs: Path, laned: bool) -> None:
        """A plan of some items of a plan's stage, and of the stages after it. `seqs`: a line each, rising."""
        lane = ", lane, size" if laned else ""
        with self._files.cursor() as cursor:
            cursor.execute(
                f'COPY (SELECT 0::INTEGER AS stage, chosen.place AS seq, key, "group", payload{lane} '
                "FROM (SELECT row_number() OVER () - 1 AS place, seq "
                f"FROM read_csv($seqs, columns = {{seq: 'BIGINT'}}, {_LINES})) AS chosen "
                "JOIN read_parquet($plan) AS items ON items.seq = chosen.seq AND items.stage = $stage "
                f'UNION ALL SELECT stage - $stage, seq, key, "group", payload{lane} '
                "FROM read_parquet($plan) WHERE stage > $stage ORDER BY 1, 2) "
                f"TO {literal(place.resolve())} ({COPY_OPTIONS})",
                {"plan": str(plan.resolve()), "seqs": str(seqs.resolve()), "stage": stage},
            )

    def blocks(self, plan: Path, *, stage: int) -> list[int]:
        """The first seq of each block of a stage: at most BLOCK_ROWS rows and about _BLOCK_BYTES of payload."""
        with self._files.cursor() as cursor:
            rows = cursor.execute(
                "SELECT min(seq) FROM (SELECT seq, (sum(strlen(payload)) OVER (ORDER BY seq) - strlen(payload)) "
                f"// {_BLOCK_BYTES} AS part FROM read_parquet($plan) WHERE stage = $stage) "
                f"GROUP BY seq // {BLOCK_ROWS}, part ORDER BY 1",
                {"plan": str(plan.resolve()), "stage": stage},
            ).fetchall()
        return [row[0] for row in rows]

    def group_numbers(self, plan: Path, count: int) -> NDArray[np.int64]:
        """For each of the `count` items of the first stage, in order: a number that those of its group have alike."""
        import numpy as np

        with self._files.cursor() as cursor:
            found = cursor.execute(
                'SELECT items.seq::BIGINT AS seq, groups.first FROM read_parquet($plan) AS items JOIN (SELECT "group", '
                'min(seq)::BIGINT AS first FROM read_parquet($plan) WHERE stage = 0 GROUP BY "group") AS groups '
                'ON groups."group" IS NOT DISTINCT FROM items."group" WHERE items.stage = 0',
                {"plan": str(plan.resolve())},
            ).fetchnumpy()
        # A join keeps no order.
        numbers = np.empty(count, np.int64)
        numbers[found["seq"]] = found["first"]
        return numbers

    def write_lanes(self, plan: Path, place: Path) -> dict[int, int]:
        """The lane table of a plan with lanes: stage, lane, count, first_seq. Answers how many each stage has."""
        with self._files.cursor() as cursor:
            cursor.execute(
                "COPY (SELECT stage, lane, count(*) AS count, min(seq) AS first_seq FROM read_parquet($plan) "
                f"GROUP BY ALL ORDER BY stage, first_seq) TO {literal(place.resolve())} ({COPY_OPTIONS})",
                {"plan": str(plan.resolve())},
            )
            rows = cursor.execute(
                "SELECT stage, count(*) FROM read_parquet($lanes) GROUP BY stage", {"lanes": str(place.resolve())}
            ).fetchall()
        return dict(rows)

    def read_lanes(self, lanes: Path, *, stage: int, after: int, limit: int) -> list[tuple[str, int, int]]:
        """(lane, count, first seq) of a stage's lanes with a first seq > `after`, in its order."""
        with self._files.cursor() as cursor:
            return cursor.execute(
                "SELECT lane, count, first_seq FROM read_parquet($lanes) "
                f"WHERE stage = $stage AND first_seq > $after ORDER BY first_seq LIMIT {limit}",
                {"lanes": str(lanes.resolve()), "stage": stage, "after": after},
            ).fetchall()

    def count_lanes(self, lanes: Path, *, stage: int, limit: int) -> list[tuple[str, int]]:
        """(lane, how many items) of a stage's lanes with keys, the largest first."""
        with self._files.cursor() as cursor:
            return cursor.execute(
                "SELECT lane, count FROM read_parquet($lanes) WHERE stage = $stage AND lane <> '' "
                f"ORDER BY count DESC, first_seq LIMIT {limit}",
                {"lanes": str(lanes.resolve()), "stage": stage},
            ).fetchall()

    def count_groups(self, plan: Path, *, limit: int) -> list[tuple[str, int, int, int]]:
        """(group, how many items, first seq, last seq) of a plan's first stage, in the order of the first."""
        with self._files.cursor() as cursor:
            return cursor.execute(
                'SELECT "group", count(*), min(seq) AS first, max(seq) FROM read_parquet($plan) WHERE stage = 0 '
                f"GROUP BY ALL ORDER BY first LIMIT {limit}",
                {"plan": str(plan.resolve())},
            ).fetchall()

    def read_items(self, plan: Path, *, stage: int, first: int, end: int, laned: bool = False) -> list[ItemTuple]:
        """Items of a stage with first <= seq < end, in order."""
        lane = "lane" if laned else "''"
        with self._files.cursor() as cursor:
            return cursor.execute(
                f'SELECT seq, key, "group", encode(payload), {lane} FROM read_parquet($plan) '
                "WHERE stage = $stage AND seq >= $first AND seq < $end ORDER BY seq",
                {"plan": str(plan.resolve()), "stage": stage, "first": first, "end": end},
            ).fetchall()

    def read_seqs(self, plan: Path, *, stage: int, seqs: Sequence[int], laned: bool = False) -> list[ItemTuple]:
        """These items of a stage (rising, at least one), in order."""
        lane = "lane" if laned else "''"
        values = {"plan": str(plan.resolve()), "stage": stage, "first": seqs[0], "last": seqs[-1], "seqs": list(seqs)}
        with self._files.cursor() as cursor:
            return cursor.execute(
                f'SELECT seq, key, "group", encode(payload), {lane} FROM read_parquet($plan) WHERE stage = $stage '
                "AND seq >= $first AND seq <= $last AND seq IN (SELECT unnest($seqs::BIGINT[])) ORDER BY seq",
                values,
            ).fetchall()

    def find_items(
        self, plan: Path, *, stage: int, first: int, end: int, lanes: LaneFilter, limit: int
    ) -> list[tuple[int, int]]:
        """(seq, size) of the first of a stage's items with first <= seq < end that the filter takes, in order."""
        values: dict[str, object] = {"plan": str(plan.resolve()), "stage": stage, "first": first, "end": end}
        with self._files.cursor() as cursor:
            return cursor.execute(
                "SELECT seq, size FROM read_parquet($plan) WHERE stage = $stage AND seq >= $first AND seq < $end "
                f"AND {lanes.sql(values)} ORDER BY seq LIMIT {limit}",
                values,
            ).fetchall()

    def read_filtered(self, plan: Path, *, stage: int, first: int, end: int, lanes: LaneFilter) -> list[ItemTuple]:
        """Items of a stage with first <= seq < end that the filter takes, in order."""
        values: dict[str, object] = {"plan": str(plan.resolve()), "stage": stage, "first": first, "end": end}
        with self._files.cursor() as cursor:
            return cursor.execute(
                'SELECT seq, key, "group", encode(payload), lane FROM read_parquet($plan) '
                f"WHERE stage = $stage AND seq >= $first AND seq < $end AND {lanes.sql(values)} ORDER BY seq",
                values,
            ).fetchall()

    def has_duplicates(self, snapshot: Path) -> bool:
        """Whether a key stands twice in the snapshot."""
        with self._files.cursor() as cursor:
            found = cursor.execute(
                "SELECT 1 FROM read_parquet($snapshot) GROUP BY key HAVING count(*) > 1 LIMIT 1",
                {"snapshot": str(snapshot.resolve())},
            ).fetchone()
        return found is not None

    def duplicates(self, rows: Path, *, most: int) -> list[tuple[int, int, str]]:
        """Of keys that stand twice in `rows`: second row, first row (from 0), key; in order of the first rows."""
        with self._files.cursor() as cursor:
            found = cursor.execute(
                f"WITH r AS (SELECT row_number() OVER () - 1 AS row, key FROM {_ROWS}), "
                "twice AS (SELECT key, min(row) AS first FROM r GROUP BY key HAVING count(*) > 1 "
                f"ORDER BY first LIMIT {most}) SELECT min(r.row), t.first, t.key FROM r "
                "JOIN twice AS t ON r.key = t.key AND r.row > t.first GROUP BY t.first, t.key ORDER BY 2",
                {"rows": str(rows.resolve())},
            ).fetchall()
        return [(second, first, key) for second, first, key in found]

    def warm(self) -> None:
        """Loads DuckDB now."""
        with self._files.cursor() as cursor:
            cursor.execute("SELECT 1")

    def close(self) -> None:
        self._files.close()
