"""Sweeps: what time alone brings about. Each is named, bounded, idempotent and safe to run twice.

due       items whose back-off is over become ready
marks     low-water marks rise to what has rows
timed_out what runs for longer than its stage allows ends as timed out
untold    rows that are queued again, and of which Redis may never have heard, are told once more
gates     gates whose time is over get their default answer
expired   leases that ran out end as lost, proposals that nobody granted are ready again; quiet for one term after a
          start, a rebuild, or a gap in which this process stood still
ended     leases that Redis still holds of stages that have ended are let go (an end that Redis never heard of)
adopted   rows that say running without a lease get one for a term (an effect that Redis never heard of)
forgotten request ids older than 24 h, sessions unseen for as long, and buckets of rates untouched for as long
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.sql import Database
from scheduler.adopting import adopt_running
from scheduler.engine import Engine
from scheduler.low_water import LowWater
from scheduler.observing import sweep
from scheduler.ready import Lost, Ready, StageKey
from scheduler.store import closed, gates, held, leaders
from scheduler.store.due import any_due, release_due
from scheduler.store.effects import Effects, Slot
from scheduler.store.schema import requests, sessions
from scheduler.windows import Windows

__all__ = ["Sweeps"]

LIMIT = 1_000
DUE_ROUNDS = 100
TIMED_OUT_LIMIT = 500
FORGET_LIMIT, FORGET_ROUNDS = 10_000, 100
TIDY_TURNS = 100
REQUEST_MS = 24 * 3600 * 1000
LEAD_TURNS = 5
MARK_EVERY = 2
TIMED_OUT_EVERY = 5
ENDED_EVERY = 4
ADOPT_EVERY = 10
FORGET_EVERY = 600
ENDED_MS = 600_000
"""So long Redis knows whose a run was: one that is opened again in the same moment is not mistaken for it."""

log = get_logger("sweeps")


class Sweeps:
    """Runs every sweep in turn, `seconds` apart, while the engine grants."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        low_water: LowWater,
        windows: Windows,
        ready: Ready,
        *,
        name: str,
        seconds: float,
    ) -> None:
        self._engine = engine
        self._database = database
        self._low_water = low_water
        self._windows = windows
        self._ready = ready
        self._name = name
        self._seconds = seconds
        self._seen_ms = engine.now_ms()
        self.led = database.is_sqlite
        """Whether this scheduler led the sweeps when it last asked."""

    async def serve(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(self._seconds)
            try:
                if self._engine.granting and await self.leading():
                    turn += 1
                    await self._turn(turn)
            except PenstockError as error:
                log.warning("sweeps wait for the next turn", error=str(error))

    async def mark(self) -> None:
        """The loop of low-water marks: they ask the planner, which may be away, and no sweep waits for it."""
        while True:
            await asyncio.sleep(MARK_EVERY * self._seconds)
            if self._engine.granting and self.led:
                await self._swept("marks", self.marks)

    async def watch_time(self) -> None:
        """The loop that finds gaps in which nobody served, however long a sweep takes."""
        while True:
            await asyncio.sleep(self._seconds)
            self._note_gap()

    async def _turn(self, turn: int) -> None:
        await self._swept("due", self.due)
        await self._swept("gates", self.gates)
        if not self._engine.quiet:
            await self._swept("expired", self.expired)
        if turn % TIMED_OUT_EVERY == 0:
            await self._swept("timed_out", self.timed_out)
        if turn % ENDED_EVERY == 0:
            await self._swept("ended", self.ended)
        if turn % ADOPT_EVERY == 0:
            await self._swept("adopted", self.adopted)
            await self._swept("untold", self.untold)
        if turn % FORGET_EVERY == 1:
            await self._swept("forgotten", self.forgotten)

    async def _swept(self, name: str, work: Callable[[], Awaitable[int]]) -> None:
        """One sweep, unless Redis is being made anew. What stands in its way stands in no other's."""
        if not self._engine.granting:
            return
        try:
            with sweep(name):
                count = await work()
            metrics.SWEEP_ITEMS.labels(name).inc(count)
        except Lost as error:
            self._engine.redis_lost(error)
        except PenstockError as error:
            log.warning("a sweep waits for its next turn", sweep=name, error=str(error))

    async def leading(self) -> bool:
        """Whether this scheduler leads the sweeps. Two that believe it harm nothing: a sweep done twice changes
        nothing."""
        if self._database.is_sqlite:
            return True
        now = self._engine.now_ms()
        until = now + int(LEAD_TURNS * 1000 * self._seconds)

        def work(connection: sa.Connection, effects: Effects) -> bool:
            return leaders.take(connection, leaders.SWEEPS, self._name, now_ms=now, until_ms=until)

        self.led = await self._engine.commits.run(work)
        return self.led

    def _note_gap(self) -> None:
        """Where nobody served for a while (this process or its machine stood still) workers could not renew, so for
        one term no lease is declared lost."""
        now, last = self._engine.now_ms(), self._seen_ms
        self._seen_ms = now
        if now - last > max(self._engine.term_ms / 3, 3_000 * self._seconds):
            log.warning(
                "nobody served for a while; no lease is declared lost for one term", seconds=(now - last) / 1000
            )
            self._engine.quiet_until_ms = now + self._engine.term_ms

    async def due(self) -> int:
        def work(connection: sa.Connection, effects: Effects) -> int:
            return release_due(connection, effects, self._engine.now_ms(), LIMIT)

        count = 0
        if await asyncio.to_thread(self._any_due):
            for _ in range(DUE_ROUNDS):
                found = await self._engine.commits.run(work)
                count += found
                if found < LIMIT:
                    break
        return count

    async def marks(self) -> int:
        """Moves low-water marks up to what has rows."""
        return await self._low_water.turn(self._engine.now_ms())

    async def timed_out(self) -> int:
        """Ends what has run for longer than its stage allows, when its worker did not."""
        count = 0
        for key, seqs in (await asyncio.to_thread(self._running_too_long)).items():
            count += await self._engine.time_out(key, seqs)
        return count

    async def untold(self) -> int:
        """Tells Redis again what is startable by its row: the word of a commit may have been lost with its process."""
        return await self._windows.tell_again()

    async def gates(self) -> int:
        """Gives gates whose time is over their default answer."""

        def work(connection: sa.Connection, effects: Effects) -> int:
            return gates.time_out(connection, effects, self._engine.now_ms())

        return await self._engine.commits.run(work) if await asyncio.to_thread(self._overdue) else 0

    async def expired(self) -> int:
        """Ends leases that ran out, of paused and stopping runs too."""
        running = await asyncio.to_thread(self._stages)
        if not running:
            return 0
        read_ms = self._engine.now_ms()
        found = await self._ready.expired(running, read_ms, LIMIT)
        # The watch may have seen a gap first, after this turn began.
        self._note_gap()
        if self._engine.quiet:
            return 0
        count = 0
        for key, slots in found.items():
            reason = "the lease ran out: its worker gave no sign for a whole term"
            lost = await self._engine.lose(key, slots, reason, read_ms=read_ms)
            count += lost
            log.info("leases ran out", run=key[0], stage=key[1], leases=len(slots), lost=lost)
        return count

    async def ended(self) -> int:
        """Lets go of what Redis holds of stages that have ended: the word of it may have been lost with the scheduler
        that ended them, and their leases run out unseen."""
        known = await self._ready.known_runs()
        count = 0
        for first in range(0, len(known), LIMIT):
            ended, over = await asyncio.to_thread(self._closed, known[first : first + LIMIT])
            found = await self._ready.leased(ended, LIMIT) if ended else {}
            for key, slots in found.items():
                count += await self._let_go(key, slots)
            gone = [run for run in over if run not in {key[0] for key in found}]
            if gone:
                await self._ready.forget_runs(gone)
        return count

    async def _let_go(self, key: StageKey, slots: list[Slot]) -> int:
        def work(connection: sa.Connection, effects: Effects) -> int:
            return closed.let_go(connection, effects, key, slots)

        count = await self._engine.commits.run(work)
        log.info("leases of a stage that has ended were let go", run=key[0], stage=key[1], leases=count)
        return count

    async def adopted(self) -> int:
        """Gives running rows that Redis does not know a lease for a term."""
        running = await asyncio.to_thread(self._running)
        return await adopt_running(self._engine.commits, self._ready, running)

    async def forgotten(self) -> int:
        """Forgets old request ids and sessions, and in Redis buckets of rates that have long been full again."""
        before = self._engine.now_ms() - REQUEST_MS

        def work(connection: sa.Connection, effects: Effects) -> list[int]:
            counts = []
            for table, key, old in (
                (requests, requests.c.request_id, requests.c.create_ms < before),
                (sessions, sessions.c.session, sessions.c.seen_ms < before),
            ):
                # The first of what is old enough, at most so many.
                some = sa.select(key).where(old).limit(FORGET_LIMIT)
                counts.append(connection.execute(sa.delete(table).where(key.in_(some))).rowcount)
            return counts

        count = 0
        for _ in range(FORGET_ROUNDS):
            counts = await self._engine.commits.run(work)
            count += sum(counts)
            if max(counts) < FORGET_LIMIT:
                break
        cursor = 0
        for _ in range(TIDY_TURNS):
            cursor, gone = await self._ready.tidy(cursor, idle_ms=REQUEST_MS, now_ms=self._engine.now_ms())
            count += gone
            if not cursor:
                break
        return count

    def _running_too_long(self) -> dict[StageKey, list[int]]:
        now = self._engine.now_ms()
        with self._database.read() as connection:
            return held.overdue(connection, now, partial(self._engine.begun.since, now_ms=now), TIMED_OUT_LIMIT)

    def _any_due(self) -> bool:
        with self._database.read() as connection:
            return any_due(connection, self._engine.now_ms())

    def _overdue(self) -> list[int]:
        with self._database.read() as connection:
            return gates.overdue(connection, self._engine.now_ms())

    def _closed(self, numbers: list[int]) -> tuple[list[StageKey], list[int]]:
        with self._database.read() as connection:
            return closed.closed_stages(connection, numbers, self._engine.now_ms() - ENDED_MS)

    def _stages(self) -> list[StageKey]:
        with self._database.read() as connection:
            return held.running_stages(connection)

    def _running(self) -> dict[StageKey, list[Slot]]:
        with self._database.read() as connection:
            return held.all_running(connection)
