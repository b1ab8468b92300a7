"""The ordered items of a selection as a plan's file, with what a preview tells of it.

Written by a DuckDB of its own, made for one request and closed after it, so that its memory goes back: two threads and
bounded memory, whatever the size; what does not fit is spilled beside the blobs. Of small sources one is ordered at a
time, of large ones one, too: so nobody waits for ten million rows with a hundred.
The file is what `Parquet.write_plan` makes (stage, seq, key, group, payload, then `lane` where any item has limit keys
and that is known here, then `size`, the bytes of the payload).
The order is total, so equal requests give the same rows in the same order on every machine. A selection that matches
nothing is refused (`selection_empty`); too little disk or memory is Unavailable; whatever fails leaves no file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.runtime.errors import InvalidInput
from penstock.runtime.parquet_files import ParquetFiles
from penstock.words import counted
from planner.domain.selection import LeftOut
from planner.gathering import gather
from planner.lane_tables import LaneTables
from planner.lanes import Lanes
from planner.parquet import BLOCK_ROWS, LaterItem
from planner.selecting import CUSTOM_SQL, Choosing, Wanted, problems_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["MOST_GROUPS", "GroupCount", "Ordered", "OrderedPlans", "groups_of", "is_grouped", "no_groups", "refuse"]

SMALL_BYTES, LARGE_BYTES = 32 << 20, 512 << 20
"""A snapshot's file of at most so many bytes is small; past the second it is large."""

SMALL_MEMORY, MEMORY, LARGE_MEMORY = "200MB", "560MB", "1200MB"
"""What DuckDB may take."""

THREADS = 2
MOST_GROUPS = 1_000
BLOCK_BYTES = 4 << 20
_SIZES = 100 * BLOCK_ROWS  # of payloads, read at once
_PAST_LIMIT = "past the limit"
_TOLD_GROUPS = 10


@dataclass(frozen=True)
class GroupCount:
    """`first_seq`: where its first item stands."""

    group: str
    count: int
    first_seq: int


@dataclass(frozen=True)
class Ordered:
    """What was written. groups: in the order of their first items, at most MOST_GROUPS of `group_count`; blocks: as
    `StageRow.blocks`; unknown_groups: pinned or ordered ones that the source has not; laned: as `Gathered.laned`."""

    count: int
    blocks: tuple[int, ...]
    groups: tuple[GroupCount, ...]
    group_count: int
    left_out: tuple[LeftOut, ...]
    unknown_groups: tuple[str, ...]
    laned: bool | None = False


def refuse(problems: Sequence[InvalidInput]) -> None:
    """Raises them as one, when there are any; one alone as it is, with its place."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        # One may stand for several itself.
        told = [code for problem in problems for code in problem.metadata.get("codes", problem.code).split(",")]
        codes = ",".join(dict.fromkeys(told))
        raise InvalidInput("; ".join(problem.message for problem in problems), code=problems[0].code, codes=codes)


class OrderedPlans:
    def __init__(self, folder: Path, *, memory: str = "", small_bytes: int = SMALL_BYTES) -> None:
        """`folder` is the blob store's; nothing outside it can be read or written. memory: by size, unless given."""
        self._folder = folder.resolve()
        self._memory = memory
        self._small_bytes = small_bytes
        self._small, self._others = _Turn("small"), _Turn("others")

    def write(
        self, wanted: Wanted, place: Path, later: Sequence[LaterItem] = (), *, lanes: Lanes | None = None
    ) -> Ordered:
        """Makes the file `place`: stage 0 is what is wanted, in order; `later` are the later stages' items. lanes: who
        is to be asked for those of stage 0.

        Raises InvalidInput with all that is wrong, Unavailable.
        """
        refuse(problems_of(wanted))
        size = _bytes_of(wanted.snapshot)
        small = size <= self._small_bytes
        turn = self._small if small else self._others
        usual = SMALL_MEMORY if small else MEMORY if size <= LARGE_BYTES else LARGE_MEMORY
        with turn.lock:
            # No two DuckDBs may spill into one folder. A killed planner's is swept with what else it left.
            spill = self._folder / ".planner" / f"spill-{os.getpid()}-{turn.name}"
            files = ParquetFiles(
                self._folder, memory=self._memory or usual, spill=spill, what="the blob store", threads=THREADS
            )
            turn.files = files
            try:
                with files.cursor() as cursor:
                    tables = LaneTables(lanes, wanted.schema) if lanes is not None else None
                    return _written(cursor, wanted, place.resolve(), later, at_once=small, lanes=tables)
            except BaseException:
                place.unlink(missing_ok=True)
                raise
            finally:
                turn.files = None
                files.close()

    def close(self) -> None:
        """Interrupts what is being written."""
        for turn in (self._small, self._others):
            files = turn.files
            if files is not None:
                files.close()


@dataclass
class _Turn:
    """Who holds the lock writes; `files` is what it writes with."""

    name: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    files: ParquetFiles | None = None


def _bytes_of(snapshot: Path) -> int:
    try:
        return snapshot.stat().st_size
    except OSError:
        return 0  # DuckDB says what is wrong with it


def _written(
    cursor: DuckDBPyConnection,
    wanted: Wanted,
    place: Path,
    later: Sequence[LaterItem],
    *,
    at_once: bool,
    lanes: LaneTables | None,
) -> Ordered:
    choosing = Choosing(cursor, wanted)
    limit = wanted.selection.limit
    left_out = choosing.left_out()
    gathered = gather(cursor, choosing, place, limit=limit, later=later, at_once=at_once, lanes=lanes)
    count = gathered.count
    if not count:
        raise _empty(cursor, wanted, left_out, choosing.unknown_groups())
    if limit and count == limit:
        total = cursor.execute(f"SELECT count(*) {choosing.chosen}", choosing.values).fetchone()
        assert total is not None
        if total[0] > count:
            left_out.append(LeftOut(_PAST_LIMIT, total[0] - count, ()))
    groups, group_count = groups_of(cursor, place)
    return Ordered(
        count=count,
        blocks=_blocks(cursor, place, count),
        groups=groups,
        group_count=group_count,
        left_out=tuple(left_out),
        unknown_groups=tuple(choosing.unknown_groups()),
        laned=gathered.laned,
    )


def groups_of(cursor: DuckDBPyConnection, plan: Path) -> tuple[tuple[GroupCount, ...], int]:
    """The groups of a plan's first stage in order of their first items, at most MOST_GROUPS; and how many it has."""
    rows = cursor.execute(
        'SELECT "group", count(*), min(seq), count(*) OVER () FROM read_parquet($plan) WHERE stage = 0 '
        f'GROUP BY "group" ORDER BY 3 LIMIT {MOST_GROUPS}',
        {"plan": str(plan)},
    ).fetchall()
    return tuple(GroupCount(group, count, first) for group, count, first, _ in rows), rows[0][3]


def is_grouped(groups: Sequence[GroupCount], *, group_count: int, count: int) -> bool:
    """Whether one group of `count` items stands after another, as far as `groups` lists them."""
    ends = [one.first_seq + one.count for one in groups]
    begins = [one.first_seq for one in groups[1:]]
    return begins == ends[:-1] and (group_count > len(groups) or ends[-1:] in ([], [count]))


def _blocks(cursor: DuckDBPyConnection, place: Path, count: int) -> tuple[int, ...]:
    """As `Parquet.blocks`, from the sizes alone: payloads need not be read again. The file's rows are in order."""
    import numpy as np

    found, before = list[int](), 0
    for first in range(0, count, _SIZES):
        sizes = cursor.execute(
            "SELECT size FROM read_parquet($plan) WHERE stage = 0 AND seq >= $first AND seq < $end",
            {"plan": str(place), "first": first, "end": first + _SIZES},
        ).fetchnumpy()["size"]
        ends = before + np.cumsum(sizes, dtype=np.int64)
        parts = (ends - sizes) // BLOCK_BYTES
        begins = np.append(True, parts[1:] != parts[:-1])  # the first of so many begins a block by its number
        begins[::BLOCK_ROWS] = True
        found += (first + np.flatnonzero(begins)).tolist()
        before = int(ends[-1])
    return tuple(found)


def _empty(
    cursor: DuckDBPyConnection, wanted: Wanted, left_out: Sequence[LeftOut], unknown_groups: Sequence[str]
) -> InvalidInput:
    """Why nothing is left: how many rows were looked at, what would have included them, what left them out."""
    row = cursor.execute(
        "SELECT count(*) FROM read_parquet($snapshot)", {"snapshot": str(wanted.snapshot.resolve())}
    ).fetchone()
    assert row is not None
    narrowed = "".join(f", {flag} {value}" for flag, value in wanted.selection.flags.named().items())
    rule = f"{wanted.rule}{narrowed}"
    if left_out:
        gone = "; ".join(f"{one.count:,} {one.reason}" for one in left_out)
        included = sum(one.count for one in left_out)
        why = f"of {counted(row[0], 'row')} it includes {included:,} ({rule}), and all of that is left out: {gone}"
    elif rule == CUSTOM_SQL:
        why = "the SELECT returned no key"
    else:
        why = f"of {counted(row[0], 'row')} it includes none ({rule})"
    if unknown_groups:
        why += f"; {no_groups(unknown_groups)}"
    return InvalidInput(f"the selection matches nothing: {why}", code="selection_empty")


def no_groups(names: Sequence[str]) -> str:
    """Of groups with a rank that no row has, in a sentence."""
    more = f" and {len(names) - _TOLD_GROUPS:,} more" if len(names) > _TOLD_GROUPS else ""
    return f"the source has no group {', '.join(map(repr, names[:_TOLD_GROUPS]))}{more}; they place nothing"
