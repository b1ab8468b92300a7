"""Files of plans that are gone: each is kept for an hour, then removed, unless a plan or source has it (again).

Files are named by what they hold, so two plans may share one, and a plan that is made again finds it. Whoever removes a
plan notes its files in the same transaction (`drop`); the sweep looks who else has them. The hour is for those who read
the plan before it went, or copy it: their call is over by then, and what they made of it is a row that the sweep sees.
Who writes a file anew names it in a row a moment later: one that was written since it was dropped stays an hour more.
A planner that dies at any point leaves a note that the next sweep takes up, or a file set aside that `BlobStore.clean`
removes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.runtime.blobs import BlobStore, blob_trouble
from penstock.runtime.clock import Clock
from penstock.runtime.sql import Database
from planner.results.rows import result_parts
from planner.store import metadata, plans, sources

__all__ = ["KEPT_MS", "DroppedFiles"]

KEPT_MS = 3_600_000
AT_ONCE = 1_000

dropped_files = sa.Table(
    "dropped_files",
    metadata,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("drop_ms", sa.BigInteger, nullable=False),
    sa.Column("written_ns", sa.BigInteger, nullable=False),  # when the file was written, as its disk says; 0: not there
)


class DroppedFiles:
    def __init__(self, database: Database, blobs: BlobStore, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._insert: Any = sqlite.insert if database.is_sqlite else postgresql.insert

    def drop(self, connection: sa.Connection, hashes: Iterable[str]) -> None:
        """Within the transaction that removes who had them; "" is none."""
        for sha256 in sorted({one for one in hashes if one}):
            self._note(connection, sha256)

    def sweep(self) -> int:
        """Removes files that were dropped an hour ago and that nobody has; answers how many. Raises Unavailable."""
        due = sa.select(dropped_files).where(dropped_files.c.drop_ms <= self._clock.now_ms() - KEPT_MS)
        with self._database.read() as connection:
            found = connection.execute(due.order_by(dropped_files.c.drop_ms).limit(AT_ONCE)).all()
        return sum(self._settle(row.sha256, row.drop_ms, row.written_ns) for row in found)

    def _settle(self, sha256: str, drop_ms: int, written_ns: int) -> bool:
        """Whether the file was removed. The note goes last, so that this is done again by whoever comes next; one that
        was made since, by the last who had the file, stays."""
        with self._database.write() as connection:
            wanted = _wanted(connection, sha256)
            if not wanted and _written_ns(self._blobs.path(sha256)) not in (0, written_ns):
                self._note(connection, sha256)
                return False
        gone = False if wanted else self._remove(sha256, written_ns)
        with self._database.write() as connection:
            it = sa.and_(dropped_files.c.sha256 == sha256, dropped_files.c.drop_ms == drop_ms)
            connection.execute(sa.delete(dropped_files).where(it))
        return gone

    def _remove(self, sha256: str, written_ns: int) -> bool:
        place = self._blobs.path(sha256)
        aside = self._blobs.folder / ".tmp" / secrets.token_hex(12)
        try:
            os.rename(place, aside)
            if _written_ns(aside) != written_ns:
                # Somebody has written it between the look and now: it is theirs.
                os.rename(aside, place)
                return False
            aside.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise blob_trouble(error, self._blobs.folder) from error
        return True

    def _note(self, connection: sa.Connection, sha256: str) -> None:
        values = {"drop_ms": self._clock.now_ms(), "written_ns": _written_ns(self._blobs.path(sha256))}
        insert = self._insert(dropped_files).values(sha256=sha256, **values)
        connection.execute(insert.on_conflict_do_update(index_elements=["sha256"], set_=values))


def _wanted(connection: sa.Connection, sha256: str) -> bool:
    """Whether a row has the file."""
    having = (
        (plans, plans.c.items_sha256),
        (plans, plans.c.lanes_sha256),
        (sources, sources.c.snapshot_sha256),
        (result_parts, result_parts.c.sha256),
    )
    return any(
        connection.execute(sa.select(sa.literal(1)).select_from(table).where(column == sha256).limit(1)).first()
        for table, column in having
    )


def _written_ns(place: Path) -> int:
    with suppress(FileNotFoundError):
        return place.stat().st_mtime_ns
    return 0
