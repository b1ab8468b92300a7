"""Files that no row may name any more, or yet: kept for an hour, then removed, unless a plan or source has them.

    noted ──the next sweep sees it──▶ its hour runs ──▶ removed, or a row has it by now
                   ▲                       └── written anew meanwhile ──┐
                   └────────────────────────────────────────────────────┘

Files are named by what they hold, so two plans may share one, and a plan that is made again finds it. Whoever removes a
plan notes its files in the same transaction (`drop`); who writes a file for a row notes it before it is there. The
sweep looks when each was written, and an hour later who has it. The hour is for those who read the plan before it went,
or copy it: their call is over by then, and what they made of it is a row that the sweep sees. Who writes a file anew
names it in a row a moment later: one that was written since the look gets another look, and another hour. No
transaction waits for the disk; where a store can't remove just what was looked at (S3), one waits for a removal.

A planner that dies at any point leaves a note that the next sweep takes up, or a file set aside that `BlobStore.clean`
removes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock
from penstock.runtime.sql import Database
from planner.results.rows import result_parts
from planner.store import metadata, plans, sources

__all__ = ["KEPT_MS", "DroppedFiles"]

KEPT_MS = 3_600_000
AT_ONCE = 1_000
NOT_LOOKED_AT = 0

dropped_files = sa.Table(
    "dropped_files",
    metadata,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("drop_ms", sa.BigInteger, nullable=False),  # its hour begins: when it was dropped, then when it was seen
    sa.Column("written_ns", sa.BigInteger, nullable=False),  # when it was written, as its disk says, or NOT_LOOKED_AT
)

_NOTED = sa.and_(
    dropped_files.c.sha256 == sa.bindparam("noted_sha256"), dropped_files.c.drop_ms == sa.bindparam("noted_drop_ms")
)
"""A note as it was read: one that was made anew since has another `drop_ms`, and stays."""


@dataclass(frozen=True)
class _Note:
    sha256: str
    drop_ms: int
    written_ns: int


class DroppedFiles:
    def __init__(self, database: Database, blobs: BlobStore, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._insert: Any = sqlite.insert if database.is_sqlite else postgresql.insert

    def drop(self, connection: sa.Connection, hashes: Iterable[str]) -> None:
        """Within the transaction that removes who had them; "" is none."""
        now_ms = self._clock.now_ms()
        noted = [
            {"sha256": sha256, "drop_ms": now_ms, "written_ns": NOT_LOOKED_AT}
            for sha256 in sorted({one for one in hashes if one})
        ]
        if noted:
            insert = self._insert(dropped_files)
            again = {"drop_ms": insert.excluded.drop_ms, "written_ns": insert.excluded.written_ns}
            connection.execute(insert.on_conflict_do_update(index_elements=["sha256"], set_=again), noted)

    def announce(self, sha256: str) -> None:
        """A file is about to be written for a row: it goes as others where the row never comes."""
        with self._database.write() as connection:
            self.drop(connection, [sha256])

    def sweep(self) -> int:
        """Looks at what was dropped since the last one, and removes files that it saw an hour ago and that nobody has;
        answers how many. Raises Unavailable."""
        self._see()
        due = self._notes(
            dropped_files.c.written_ns != NOT_LOOKED_AT, dropped_files.c.drop_ms <= self._clock.now_ms() - KEPT_MS
        )
        if not due:
            return 0
        with self._database.read() as connection:
            wanted = _wanted(connection, [note.sha256 for note in due])
        ended: list[_Note] = []
        removed: list[_Note] = []
        again: list[_Note] = []
        for note in due:
            written_ns = self._blobs.written_ns(note.sha256)
            if note.sha256 in wanted or written_ns is None:
                ended.append(note)
            elif written_ns == note.written_ns and self._remove(note):
                removed.append(note)
            else:
                again.append(note)
        with self._database.write() as connection:
            self._end(connection, [*ended, *removed])
            self.drop(connection, (note.sha256 for note in again))
        return len(removed)

    def _see(self) -> None:
        """When the files were written that were noted since the last look, or written anew. What is not there may be
        about to come: its note stays for its hour."""
        fresh = self._notes(dropped_files.c.written_ns == NOT_LOOKED_AT)
        if not fresh:
            return
        now_ms = self._clock.now_ms()
        found = {note: self._blobs.written_ns(note.sha256) for note in fresh}
        there = [{**_as_noted(note), "found_ns": found_ns} for note, found_ns in found.items() if found_ns is not None]
        never_came = [note for note, found_ns in found.items() if found_ns is None and note.drop_ms <= now_ms - KEPT_MS]
        seen = sa.update(dropped_files).where(_NOTED).values(drop_ms=now_ms, written_ns=sa.bindparam("found_ns"))
        with self._database.write() as connection:
            self._end(connection, never_came)
            if there:
                connection.execute(seen, there)

    def _notes(self, *conditions: sa.ColumnElement[bool]) -> list[_Note]:
        query = sa.select(dropped_files).where(*conditions).order_by(dropped_files.c.drop_ms).limit(AT_ONCE)
        with self._database.read() as connection:
            return [_Note(row.sha256, row.drop_ms, row.written_ns) for row in connection.execute(query)]

    def _end(self, connection: sa.Connection, notes: Sequence[_Note]) -> None:
        """The notes go last, so that all of this is done again by whoever comes next; one that was made since, by the
        last who had the file, stays."""
        if notes:
            connection.execute(sa.delete(dropped_files).where(_NOTED), [_as_noted(note) for note in notes])

    def _remove(self, note: _Note) -> bool:
        """Whether it went; False where somebody has written or removed it since it was looked at."""
        if self._blobs.removes_what_it_saw:
            return self._blobs.remove(note.sha256, written_ns=note.written_ns)
        # Who writes it anew notes it before: either the note is another by now, or they wait for this transaction, and
        # write when the old one is gone.
        with self._database.write() as connection:
            mine = sa.select(dropped_files.c.sha256).where(_NOTED).with_for_update()
            if connection.execute(mine, _as_noted(note)).first() is None:
                return False
            return self._blobs.remove(note.sha256, written_ns=note.written_ns)


def _as_noted(note: _Note) -> dict[str, Any]:
    """What `_NOTED` asks for."""
    return {"noted_sha256": note.sha256, "noted_drop_ms": note.drop_ms}


def _wanted(connection: sa.Connection, hashes: Sequence[str]) -> set[str]:
    """Those that a row has."""
    having = (plans.c.items_sha256, plans.c.lanes_sha256, sources.c.snapshot_sha256, result_parts.c.sha256)
    return {
        found
        for column in having
        for found in connection.execute(sa.select(column).where(column.in_(hashes))).scalars()
    }
