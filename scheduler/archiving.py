"""Runs that ended long ago leave SQL: written as Parquet, marked, and purged in small bites.

    due ──written, part by part──▶ kept (its index is a blob) ──marked under the run's lock──▶ purged, bite by bite

Each step can be done again: a scheduler that dies leaves files that nobody names, or rows that the next one purges.
Two schedulers that archive the same run write the same bytes, and one of them sets the mark. Nothing here is in a
hurry: reads are chunks in a thread, every write is a short call of the shared writer, and one run goes at a time.

Events stay for their own time after that; then the archive alone has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.errors import Overloaded, Unavailable
from penstock.runtime.logs import get_logger
from penstock.runtime.sql import Database
from scheduler.archive_file import ArchiveFiles, Index, Part
from scheduler.commit import GroupCommit
from scheduler.observing import sweep
from scheduler.store import archive as store
from scheduler.store.effects import Effects
from scheduler.store.reads import load_run

__all__ = ["Archiving"]

PART_ROWS = 100_000
PART_BYTES = 24 << 20
FIRST_CHUNK, CHUNK = 100, 2_000
CHUNK_BYTES = 4 << 20
"""Read at once: first a few rows, then as many of that size as fit."""
PURGE_ROWS = 1_000
"""In one transaction: others wait for it."""
PURGES = 50
"""Bites between two looks for what else is due."""
HOUR_MS = 3_600_000

log = get_logger("archiving")

Chunk = list[dict[str, Any]]


class Archiving:
    """`leads` says whether this scheduler sweeps; two that both do are harmless."""

    def __init__(
        self,
        database: Database,
        commits: GroupCommit,
        files: ArchiveFiles,
        *,
        now_ms: Callable[[], int],
        archive_hours: float,
        event_hours: float,
        seconds: float,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._commits = commits
        self._files = files
        self._now_ms = now_ms
        self._archive_ms = int(archive_hours * HOUR_MS)
        self._event_ms = int(event_hours * HOUR_MS)
        self._seconds = seconds
        self._leads = leads
        self._unpurged: list[int] | None = None
        self._at = store.Bite()

    async def serve(self) -> None:
        """Archives, purges, forgets, `seconds` apart; runs until cancelled."""
        pause = self._seconds
        while True:
            await asyncio.sleep(pause)
            more = False
            if self._leads():
                try:
                    more = await self.turn()
                except (Unavailable, Overloaded) as error:
                    log.warning("nothing can be archived now", error=error.message)
            pause = self._seconds / 100 if more else self._seconds

    async def turn(self) -> bool:
        """One bounded step of each kind; whether there is more to do at once."""
        with sweep("archive"):
            archived = await self.archive()
        with sweep("purge"):
            purged = await self.purge()
        with sweep("forget"):
            return await self.forget() > 0 or archived or purged

    async def archive(self) -> bool:
        """Archives the run that ended first, if one is due; whether there was one."""
        due = await asyncio.to_thread(self._due)
        if due is None:
            return False
        index = await asyncio.to_thread(self._write, due)
        archive = await asyncio.to_thread(self._files.keep, index, due.run_id)
        now = self._now_ms()

        def work(connection: sa.Connection, effects: Effects) -> bool:
            marked = store.mark(connection, due, archive, now)
            if marked:
                effects.changed.add(due.number)
            return marked

        if await self._commits.run(work):
            rows = sum(part.rows for part in index.parts["items"])
            metrics.RUNS_ARCHIVED.inc()
            log.info("a run was archived", run=due.run_id, items=rows)
            self._unpurged = [*(self._unpurged or []), due.number]
        return True

    async def purge(self) -> bool:
        """Removes some rows of archived runs; whether some may be left."""
        if self._unpurged is None:
            self._unpurged = await asyncio.to_thread(self._find_unpurged)
        if not self._unpurged:
            return False
        number = self._unpurged[0]
        for _ in range(PURGES):
            at = self._at

            def work(connection: sa.Connection, effects: Effects, at: store.Bite = at) -> tuple[int, store.Bite | None]:
                return store.purge(connection, number, at, PURGE_ROWS)

            count, following = await self._commits.run(work)
            metrics.SWEEP_ITEMS.labels("purged").inc(count)
            self._at = following or store.Bite()
            if following is None:
                self._unpurged = [other for other in self._unpurged if other != number]
                break
        return bool(self._unpurged)

    async def forget(self) -> int:
        """Removes events whose time is over; how many."""
        before = self._now_ms() - self._event_ms

        def work(connection: sa.Connection, effects: Effects) -> int:
            return store.forget_events(connection, before, PURGE_ROWS)

        if not await asyncio.to_thread(self._events_to_forget, before):
            return 0
        count = await self._commits.run(work)
        metrics.SWEEP_ITEMS.labels("events").inc(count)
        return count

    def _due(self) -> store.Due | None:
        with self._database.read() as connection:
            found = store.due_runs(connection, self._now_ms() - self._archive_ms, 1)
        return found[0] if found else None

    def _find_unpurged(self) -> list[int]:
        with self._database.read() as connection:
            return store.unpurged(connection, PART_ROWS)

    def _events_to_forget(self, before_ms: int) -> bool:
        with self._database.read() as connection:
            return store.old_events(connection, before_ms) is not None

    def _write(self, due: store.Due) -> Index:
        with self._database.read() as connection:
            _, stages = load_run(connection, due.number)
        parts: dict[str, list[Part]] = {"items": [], "attempts": [], "events": [], "ledger": []}
        for stage in range(len(stages)):
            parts["items"] += self._parts("items", due.number, stage, "seq")
            parts["attempts"] += self._parts("attempts", due.number, stage, "seq")
        parts["events"] += self._parts("events", due.number, 0, "number")
        parts["ledger"] += self._parts("ledger", due.number, 0, "number")
        return Index(parts)

    def _parts(self, table: str, number: int, stage: int, place: str) -> Iterator[Part]:
        """Parts of bounded size. Chunks are read as they are written: no part is in memory whole."""
        chunks = self._chunks(table, number, stage)
        first = next(chunks, None)
        while first is not None:
            taken = _Taken(first, chunks)
            part = self._files.write(table, stage, first[0][place], 0, taken.rows())
            yield replace(part, last=taken.last[place])
            first = taken.next

    def _chunks(self, table: str, number: int, stage: int) -> Iterator[Chunk]:
        after, width = -1, FIRST_CHUNK
        while True:
            with self._database.read() as connection:
                rows, after = store.chunk(connection, table, number, stage, after=after, width=width)
            if not rows:
                return
            width = max(FIRST_CHUNK, min(CHUNK, CHUNK_BYTES * len(rows) // max(1, sum(map(_size, rows)))))
            yield rows


def _size(row: dict[str, Any]) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str))


class _Taken:
    """The chunks of one part: rows until there are enough of them; `next` is the chunk that begins the next part."""

    def __init__(self, first: Chunk, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self.next: Chunk | None = first
        self.last: dict[str, Any] = first[-1]

    def rows(self) -> Iterator[dict[str, Any]]:
        count = size = 0
        while self.next is not None and count < PART_ROWS and size < PART_BYTES:
            for row in self.next:
                size += _size(row)
                yield row
            count += len(self.next)
            self.last = self.next[-1]
            self.next = next(self._chunks, None)
