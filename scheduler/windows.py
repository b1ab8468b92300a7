"""Open stages and the windows through which they walk their plans.

An *open stage* is a running stage of a running run. Its window holds the items that were read from the plan and are
not granted yet; their seqs stand in Redis's ready set. The scheduler never copies a plan: it reads the next window
when half of one is left.

Opening a stage (at start, after a resume, after Redis was lost) is one path: from SQL's cursor on, and below it the
gaps and the rows that are startable. So a window that is lost costs a read, never an item. A window belongs to the
run's epoch in which it was opened: a run that was paused or stopped and goes on gets new ones, however short that was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import sqlalchemy as sa

from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.sql import Database
from penstock.v1 import common_pb2
from scheduler.domain.states import ItemState, RunState, StageState
from scheduler.plans import Plans
from scheduler.ready import Ready, StageKey
from scheduler.store.effects import Place
from scheduler.store.leases import due_rows, gaps, open_rows
from scheduler.store.schema import runs, stages
from scheduler.store.unit import STAGE_COLUMNS, StageRow

__all__ = ["OpenStage", "Windows"]

DUE_LIMIT = 2_000
SPARSE_ITEMS = 64
"""Read at once for a stage that has none while all windows together hold more bytes than they should."""
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 10.0

log = get_logger("windows")


@dataclass
class OpenStage:
    """A stage that may be leased from, and what was read of its plan."""

    key: StageKey
    run_id: str
    plan_id: str
    epoch: int
    row: StageRow
    after_seq: int
    at_end: bool = False
    ready: int = 0
    items: dict[int, common_pb2.Item] = field(default_factory=dict)
    fed_due: set[int] = field(default_factory=set)
    failures: int = 0
    not_before: float = 0.0

    def counted(self) -> int:
        """Payload bytes that the window holds."""
        return sum(len(item.payload) for item in self.items.values())


class Windows:
    """All open stages of this scheduler, oldest run first. Only the feeding loop and `open` read plans."""

    def __init__(self, database: Database, plans: Plans, ready: Ready, *, items: int, byte_limit: int) -> None:
        self._database = database
        self._plans = plans
        self._ready = ready
        self._limit = items
        self._byte_limit = byte_limit
        self._bytes = 0
        self._hungry = asyncio.Event()
        self._lock = asyncio.Lock()
        self.stages: dict[StageKey, OpenStage] = {}
        self.fed = asyncio.Event()

    def for_worker(self, worker_class: str, processors: dict[str, str]) -> list[OpenStage]:
        """Stages that this worker can serve: its class, and a processor in the version that the plan names."""
        return [
            stage
            for stage in self.stages.values()
            if stage.row.worker_class == worker_class
            and processors.get(stage.row.processor) == stage.row.processor_version
        ]

    async def refresh(self, number: int | None = None) -> None:
        """Opens and closes stages as SQL now says, for one run or for all."""
        async with self._lock:
            found = await asyncio.to_thread(self._running, number)
            wanted = {(row.run, row.stage): (run_id, plan_id, epoch, row) for run_id, plan_id, epoch, row in found}
            for key in [k for k in self.stages if number is None or k[0] == number]:
                if key not in wanted or self.stages[key].epoch != wanted[key][2]:
                    closed = self.stages.pop(key)
                    self._bytes -= closed.counted()
                    await self._ready.drop(key)
            for key in sorted(wanted):
                if key in self.stages:
                    self.stages[key].row = wanted[key][3]
                else:
                    await self._open(key, *wanted[key])
            self.stages = dict(sorted(self.stages.items()))
        self._hungry.set()

    async def reopen_all(self) -> None:
        """After Redis was rebuilt: every window starts again from SQL."""
        async with self._lock:
            self.stages.clear()
            self._bytes = 0
        await self.refresh()

    async def _open(self, key: StageKey, run_id: str, plan_id: str, epoch: int, row: StageRow) -> None:
        back = await asyncio.to_thread(self._below_cursor, row)
        stage = OpenStage(key, run_id, plan_id, epoch, row, after_seq=row.cursor - 1, at_end=row.cursor >= row.total)
        await self._ready.feed(key, back)
        stage.ready = len(back)
        self.stages[key] = stage

    def _running(self, number: int | None) -> list[tuple[str, str, int, StageRow]]:
        query = (
            sa.select(runs.c.run_id, runs.c.plan_id, runs.c.epoch, *STAGE_COLUMNS)
            .join(stages, stages.c.run == runs.c.number)
            .where(runs.c.state == RunState.RUNNING, stages.c.state == StageState.RUNNING)
            # What waits for money, or fails once nothing of it runs, is not proposed.
            .where(runs.c.waiting == "", stages.c.failing == "")
        )
        if number is not None:
            query = query.where(runs.c.number == number)
        with self._database.read() as connection:
            return [(row[0], row[1], row[2], StageRow(*row[3:])) for row in connection.execute(query)]

    def _below_cursor(self, row: StageRow) -> list[Place]:
        with self._database.read() as connection:
            lost = gaps(connection, row.run, row.stage, row.cursor)
            queued = open_rows(connection, row.run, row.stage, ItemState.QUEUED)
            return [(seq, "", seq) for seq in lost] + queued

    def took(self, stage: OpenStage, seqs: list[int], left: int) -> list[int]:
        """Notes that these were proposed and how many are ready still; answers those whose items are not here."""
        stage.ready = left
        stage.fed_due.difference_update(seqs)
        if stage.ready < self._limit // 2 and not stage.at_end:
            self._hungry.set()
        return [seq for seq in seqs if seq not in stage.items]

    async def read_missing(self, stage: OpenStage, seqs: list[int]) -> None:
        """Reads items that returned after they had left the window."""
        for item in await self._plans.items(stage.plan_id, stage.key[1], seqs):
            fresh = item.seq not in stage.items
            stage.items[item.seq] = item
            if fresh and self.stages.get(stage.key) is stage:
                self._bytes += len(item.payload)

    def granted(self, stage: OpenStage, seq: int) -> common_pb2.Item:
        """Takes a granted item out of the window."""
        item = stage.items.pop(seq)
        if self.stages.get(stage.key) is stage:
            self._bytes -= len(item.payload)
        return item

    def returned(self, key: StageKey, count: int) -> None:
        """Notes that seqs went back to the ready set."""
        if key in self.stages:
            self.stages[key].ready += count

    async def serve(self) -> None:
        """The feeding loop: keeps every window at least half full; runs until cancelled."""
        while True:
            await self._hungry.wait()
            self._hungry.clear()
            loop = asyncio.get_running_loop()
            for stage in list(self.stages.values()):
                if loop.time() < stage.not_before:
                    continue
                try:
                    await self._feed(stage)
                    stage.failures = 0
                except PenstockError as error:
                    log.warning("a window can't be read now", run_id=stage.run_id, error=error.message)
                    pause = min(FIRST_PAUSE_SECONDS * 2**stage.failures, MAX_PAUSE_SECONDS)
                    stage.failures += 1
                    stage.not_before = loop.time() + pause
                    loop.call_later(pause, self._hungry.set)

    async def _feed(self, stage: OpenStage) -> None:
        while not stage.at_end and stage.ready < self._limit // 2 and self.stages.get(stage.key) is stage:
            count = max(self._limit - stage.ready, 1)
            if self._bytes > self._byte_limit:
                if stage.ready > 0:
                    return
                count = min(count, SPARSE_ITEMS)
            window = await self._plans.window(stage.plan_id, stage.key[1], stage.after_seq, count)
            if self.stages.get(stage.key) is not stage:
                return
            for item in window.items:
                if item.seq not in stage.items:
                    stage.items[item.seq] = item
                    self._bytes += len(item.payload)
            await self._ready.feed(stage.key, [(item.seq, item.lane, item.seq) for item in window.items])
            stage.ready += len(window.items)
            if window.items:
                stage.after_seq = window.items[-1].seq
            stage.at_end = window.end or not window.items
            self.fed.set()

    async def feed_due(self, now_ms: int) -> int:
        """Makes items ready whose back-off is over; returns how many."""
        count = 0
        for key, places in (await asyncio.to_thread(self._due, now_ms)).items():
            stage = self.stages.get(key)
            fresh = [place for place in places if place[0] not in stage.fed_due] if stage else []
            if stage and fresh:
                await self._ready.feed(key, fresh)
                stage.fed_due.update(seq for seq, _, _ in fresh)
                stage.ready += len(fresh)
                count += len(fresh)
        if count:
            self.fed.set()
        return count

    def _due(self, now_ms: int) -> dict[StageKey, list[Place]]:
        with self._database.read() as connection:
            return due_rows(connection, now_ms, DUE_LIMIT)
