"""Open stages and the windows through which they walk their plans.

An *open stage* is a running stage of a running run. Its window holds items that were read from the plan and are not
granted yet; they stand in Redis's ready set. The scheduler never copies a plan: it reads the next page when half a
window is left.

A stage is fed from several *fields*, each with a cursor that all schedulers share in Redis, so that a page is fed once:
`main` reads the plan; `rows` what is queued again and has a row; `lane:LANE` a lane of which so many items wait for a
limit that reading on past them would cost more than reading it apart. Nothing above the lowest cursor that matters is
proposed, so order holds whatever is read first.

Opening a stage (at start, after a resume, after Redis was lost) is one path: from SQL's low-water mark on, leaving out
what has a row. So a window that is lost costs a read, never an item. A window belongs to the run's epoch in which it
was opened: a run that was paused or stopped and goes on gets new ones, however short that was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.pauses import doubled
from penstock.runtime.sql import Database
from penstock.v1 import common_pb2, planner_pb2
from scheduler.commit import GroupCommit
from scheduler.domain.limits import lane_keys
from scheduler.open_stage import OpenStage
from scheduler.plans import Plans
from scheduler.proposals import Proposed
from scheduler.ready import END, MAIN, ROWS, Lost, Ready, StageKey, lane_field
from scheduler.store.effects import Effects, Place
from scheduler.store.low_water import split_lane
from scheduler.store.reading import Marks, marks, open_stages, queued_rows, with_rows
from scheduler.store.rows import Opening
from scheduler.store.stage_rules import stage_rules

__all__ = ["Windows"]

SPARSE_ITEMS = 64
"""Read at once for a stage that has none while all windows together hold more bytes than they should."""
MERGE_ITEMS = 5_000
"""Read at once where most items have rows already."""
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 10.0
AGAIN_ITEMS = 500
LOOK_SECONDS = 1.0
"""Between looks at how far a stage of which nothing is ready was fed."""
ASIDE_SECONDS = 0.02
"""Such a look comes so much later than the proposal that calls for it: what was proposed is granted first."""
MAX_LANES = 500
"""Read apart of one stage."""

log = get_logger("windows")


class Windows:
    """All open stages of this scheduler, oldest run first. Only the feeding loop and `open` read plans. shared: others
    may feed the same stages."""

    def __init__(
        self,
        database: Database,
        plans: Plans,
        ready: Ready,
        commits: GroupCommit,
        *,
        shared: bool,
        items: int,
        byte_limit: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._plans = plans
        self._ready = ready
        self._commits = commits
        self._shared = shared
        self._limit = items
        self._byte_limit = byte_limit
        self._now_ms = now_ms
        self._bytes = 0
        self._hungry = asyncio.Event()
        self.lock = asyncio.Lock()
        self.stages: dict[StageKey, OpenStage] = {}
        self._closing: dict[StageKey, int] = {}
        self.fed = asyncio.Event()

    def for_worker(self, worker_class: str, processors: Mapping[str, str]) -> list[OpenStage]:
        """Stages that this worker can serve: its class, and the processors in the versions that the plan names, those
        that heal and confirm included: what is leased next of a stage may be any of it."""
        return [
            stage
            for stage in self.stages.values()
            if stage.row.worker_class == worker_class
            and processors.get(stage.row.processor) == stage.row.processor_version
            and stage_rules(stage.row.rules).processors().items() <= processors.items()
        ]

    def waiting_keys(self) -> set[str]:
        """Limit keys of items that wait for a limit; which of an item's keys it is, is not told."""
        lanes = {lane for stage in self.stages.values() for lane, count in stage.waiting.items() if count}
        return {key for lane in lanes for key in lane_keys(lane)}

    # -- the first window of a run that was just made

    def full(self) -> bool:
        return self._bytes > self._byte_limit

    async def read_first(self, plan_id: str) -> planner_pb2.ReadPlanItemsResponse:
        return await self._plans.window(plan_id, 0, -1, self._limit)

    def begun(self, stage: OpenStage, items: Sequence[common_pb2.Item]) -> None:
        """Takes up a stage that stands in Redis with these items; the feeding loop reads what follows them."""
        self.stages = dict(sorted([*self.stages.items(), (stage.key, stage)]))
        for item in items:
            self._keep(stage, item)
        if self._wants(stage):
            self._hungry.set()

    # -- opening and closing

    async def refresh(self, number: int | None = None) -> None:
        """Opens and closes stages as SQL now says, for one run or for all. Raises Lost, Unavailable."""
        async with self.lock:
            found = await asyncio.to_thread(self._open_stages, number)
            wanted = {(one.row.run, one.row.stage): one for one in found}
            for key in [k for k in self.stages if number is None or k[0] == number]:
                if key not in wanted or self.stages[key].epoch != wanted[key].epoch:
                    self._forget(key)
            for key in sorted(wanted):
                if key in self.stages:
                    stage, one = self.stages[key], wanted[key]
                    stage.row, stage.owner, stage.priority = one.row, one.owner, one.priority
                else:
                    await self._open(key, wanted[key])
            self.stages = dict(sorted(self.stages.items()))
            await self._drop_closed()
        self._hungry.set()

    async def astray(self) -> set[int]:
        """Runs whose open stages are not those that SQL tells of: a commit that nobody here heard of moved them."""
        found = await asyncio.to_thread(self._open_stages, None)
        wanted = {((one.row.run, one.row.stage), one.epoch) for one in found}
        known = {(key, stage.epoch) for key, stage in self.stages.items()}
        return {key[0] for key, _ in wanted ^ known}

    async def reopen_all(self) -> None:
        """After Redis was rebuilt: every window starts again from SQL. Raises Lost, Unavailable."""
        async with self.lock:
            self.stages.clear()
            self._bytes = 0
        await self.refresh()

    def reopen(self, keys: Sequence[StageKey]) -> None:
        """Lets go of stages that are not open in Redis as we know them; `refresh` opens them again."""
        for key in keys:
            if key in self.stages:
                self._forget(key)

    def _forget(self, key: StageKey) -> None:
        closed = self.stages.pop(key)
        self._bytes -= closed.counted()
        self._closing[key] = max(closed.epoch, self._closing.get(key, closed.epoch))

    async def _drop_closed(self) -> None:
        for key, epoch in list(self._closing.items()):
            if key not in self.stages or self.stages[key].epoch != epoch:
                await self._ready.drop(key, epoch, now_ms=self._now_ms())
            self._closing.pop(key, None)

    async def _open(self, key: StageKey, one: Opening) -> None:
        stage = OpenStage(key, one.run_id, one.plan_id, one.epoch, one.row, one.owner, one.priority)
        found = await asyncio.to_thread(self._marks, key, one.row.cursor)
        stage.high, stage.lane_marks = found.high, dict(found.lanes)
        low = found.low
        cursors = {MAIN: END if low >= one.row.total else low - 1, ROWS: -1}
        cursors |= {lane_field(lane): cursor - 1 for lane, cursor in found.lanes.items()}
        fed = await self._ready.open(
            key, one.epoch, owner=one.owner, cursors=cursors, places=found.moved, now_ms=self._now_ms()
        )
        if not fed.done and fed.epoch == one.epoch:
            # Another scheduler has opened it. What one that died made startable, and told nobody, is told again.
            again = await asyncio.to_thread(self._queued, key, -1, self._limit)
            fed = await self._ready.add(key, one.epoch, again, now_ms=self._now_ms())
        stage.take(fed)
        self.stages[key] = stage

    def _open_stages(self, number: int | None) -> list[Opening]:
        with self._database.read() as connection:
            return open_stages(connection, number)

    def _marks(self, key: StageKey, low: int) -> Marks:
        with self._database.read() as connection:
            return marks(connection, *key, low)

    # -- what was proposed

    def took(self, stage: OpenStage, proposed: Proposed) -> list[int]:
        """Notes what was proposed and what is left; answers the seqs whose items are not here."""
        stage.ready = proposed.left
        stage.waiting.update(proposed.waiting)
        if self._wants(stage):
            self._hungry.set()
        elif self._shared and not proposed.left:
            # Others may have read on.
            asyncio.get_running_loop().call_later(ASIDE_SECONDS, self._hungry.set)
        if proposed.places and len(stage.items) > max(stage.prune_at, 2 * self._limit):
            self._prune(stage, proposed.places[0][0])
        return [seq for seq, _, _ in proposed.places if seq not in stage.items]

    def _prune(self, stage: OpenStage, seq: int) -> None:
        """Lets go of what lies before what is proposed now and waits for no limit: other schedulers have leased it."""
        held = {lane for lane, count in stage.waiting.items() if count}
        for old in [old for old, item in stage.items.items() if old < seq and item.lane not in held]:
            self._bytes -= len(stage.items.pop(old).payload)
        stage.prune_at = 2 * len(stage.items)

    def _wants(self, stage: OpenStage) -> bool:
        if stage.ready < self._limit // 2 and not stage.at_end():
            return True
        heavy = self._limit // 8
        return any(count >= heavy and lane_field(lane) not in stage.cursors for lane, count in stage.waiting.items())

    async def read_missing(self, stage: OpenStage, seqs: Sequence[int]) -> None:
        """Reads items that are not in the window: another scheduler fed them, or they returned."""
        for item in await self._plans.items(stage.plan_id, stage.key[1], seqs):
            self._keep(stage, item)

    def _keep(self, stage: OpenStage, item: common_pb2.Item) -> None:
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

    def learned(self, uses: Mapping[StageKey, bytes]) -> None:
        """Notes what items of these stages use of rates: estimates give way to it."""
        for key, kept in uses.items():
            if key in self.stages:
                self.stages[key].row.uses = kept

    def some_left(self) -> bool:
        """Whether there may be anything to lease: ready, or held back by limits."""
        return any(stage.ready or any(stage.waiting.values()) for stage in self.stages.values())

    def returned(self, key: StageKey, count: int) -> None:
        """Notes that items went back to the ready set."""
        if key in self.stages:
            self.stages[key].ready += count

    # -- feeding

    async def serve(self, lost: Callable[[Exception], None]) -> None:
        """The feeding loop: keeps every window at least half full; runs until cancelled. `lost` is told when Redis is
        not what we left it."""
        while True:
            await self._hungry.wait()
            self._hungry.clear()
            loop = asyncio.get_running_loop()
            for stage in list(self.stages.values()):
                if loop.time() < stage.not_before:
                    continue
                try:
                    await self._fill(stage)
                    stage.failures = 0
                except Lost as error:
                    lost(error)
                except PenstockError as error:
                    log.warning("a window can't be read now", run_id=stage.run_id, error=error.message)
                    pause = doubled(FIRST_PAUSE_SECONDS, stage.failures, MAX_PAUSE_SECONDS)
                    stage.failures += 1
                    stage.not_before = loop.time() + pause
                    loop.call_later(pause, self._hungry.set)

    async def tell_again(self) -> int:
        """Adds queued rows of every open stage once more, the first ones; what is known already stays as it is. Returns
        how many were told. Raises Lost, Unavailable."""
        count = 0
        for stage in list(self.stages.values()):
            rows = await asyncio.to_thread(self._queued, stage.key, -1, AGAIN_ITEMS)
            rows = [place for place in rows if place[0] <= stage.cursors.get(ROWS, END)]
            if rows and self.stages.get(stage.key) is stage:
                stage.take(await self._ready.add(stage.key, stage.epoch, rows, now_ms=self._now_ms()))
                count += len(rows)
        return count

    async def _look(self, stage: OpenStage) -> None:
        """Asks how far a stage was fed of which nothing is ready, and what waits of it: each scheduler hears only what
        its own calls brought about, of two at once not always the later one last, and none might read on."""
        now = asyncio.get_running_loop().time()
        if not stage.ready and (self._shared or not stage.at_end()) and now >= stage.look_at:
            stage.look_at = now + LOOK_SECONDS
            fed = await self._ready.add(stage.key, stage.epoch, (), now_ms=self._now_ms())
            if fed.epoch == stage.epoch:
                stage.take(fed)

    async def _fill(self, stage: OpenStage) -> None:
        await self._look(stage)
        await self._split(stage)
        while self.stages.get(stage.key) is stage:
            name = self._next_field(stage)
            if name is None:
                return
            count = max(self._limit - stage.ready, 1) if name in (MAIN, ROWS) else self._limit // 8
            if self._bytes > self._byte_limit:
                self._evict()
            if self._bytes > self._byte_limit:
                if stage.ready > 0:
                    return
                count = min(count, SPARSE_ITEMS)
            after, without = stage.cursors[name], stage.lanes() if name == MAIN else ()
            places, to = await self._read(stage, name, count, without)
            if self.stages.get(stage.key) is not stage:
                return
            fed = await self._ready.feed(
                stage.key,
                stage.epoch,
                places,
                field=name,
                after=after,
                to=to,
                without=without,
                now_ms=self._now_ms(),
            )
            if fed.epoch != stage.epoch:
                # Another scheduler has closed it, or opened a later one: whoever follows the run's states refreshes.
                return
            stage.take(fed)
            if stage.ready:
                self.fed.set()

    def _next_field(self, stage: OpenStage) -> str | None:
        """What to read next: lanes of which little waits, else what holds the rest up."""
        lanes = stage.hungry_lanes(max(self._limit // 16, 1))
        if lanes:
            return lane_field(min(lanes, key=lambda lane: (stage.cursors[lane_field(lane)], lane)))
        if stage.ready >= self._limit // 2:
            return None
        left = [name for name in (ROWS, MAIN) if stage.cursors.get(name, END) < END]
        return min(left, key=lambda name: stage.cursors[name]) if left else None

    async def _read(self, stage: OpenStage, name: str, count: int, without: Sequence[str]) -> tuple[list[Place], int]:
        """The next page of a field, but for some lanes: what of it can start, and how far it went."""
        after = stage.cursors[name]
        if name == ROWS:
            found = await asyncio.to_thread(self._queued, stage.key, after, count)
            # What was moved has been fed when the stage was opened; once more changes nothing.
            return found, found[-1][0] if len(found) == count else END
        merging = after + 1 < stage.high
        only = None if name == MAIN else [name[5:]]
        window = await self._plans.window(
            stage.plan_id,
            stage.key[1],
            after,
            max(count, MERGE_ITEMS) if merging and count > SPARSE_ITEMS else count,
            only_lanes=only,
            without_lanes=without,
        )
        items = list(window.items)
        low = [item.seq for item in items if item.seq < stage.high]
        if low:
            known = await asyncio.to_thread(self._with_rows, stage.key, low)
            items = [item for item in items if item.seq not in known]
        for item in items:
            self._keep(stage, item)
        last = max(window.last_seq, window.items[-1].seq if window.items else -1)
        to = END if window.end or last <= after else last
        return [(item.seq, item.lane, item.seq) for item in items], to

    async def _split(self, stage: OpenStage) -> None:
        """Lanes of which much waits for a limit are read apart from now on."""
        for lane, count in list(stage.waiting.items()):
            if count >= self._limit // 8:
                await self.split(stage, lane)

    async def split(self, stage: OpenStage, lane: str) -> None:
        """Reads a lane apart from now on; what is to be read again of it is kept in SQL first."""
        name = lane_field(lane)
        if name in stage.cursors or stage.cursors[MAIN] >= END or len(stage.cursors) > MAX_LANES:
            return
        low = stage.row.cursor

        def work(connection: sa.Connection, effects: Effects) -> None:
            split_lane(connection, stage.key, lane, low)

        await self._commits.run(work)
        fed = await self._ready.split(stage.key, stage.epoch, name, now_ms=self._now_ms())
        if fed.epoch == stage.epoch:
            stage.take(fed)
            stage.lane_marks.setdefault(lane, low)
            log.info("a lane is read apart", run_id=stage.run_id, stage=stage.key[1], lane=lane)

    def _evict(self) -> None:
        """Lets payloads of items go that limits hold back: they are read again when their time comes."""
        for stage in self.stages.values():
            held = {lane for lane, count in stage.waiting.items() if count}
            for seq in [seq for seq, item in stage.items.items() if item.lane in held]:
                self._bytes -= len(stage.items.pop(seq).payload)

    def _queued(self, key: StageKey, after: int, count: int) -> list[Place]:
        with self._database.read() as connection:
            return queued_rows(connection, *key, after, count)

    def _with_rows(self, key: StageKey, seqs: Sequence[int]) -> set[int]:
        with self._database.read() as connection:
            return with_rows(connection, *key, seqs)
