"""Sweeps: what time alone brings about. Each is named, bounded, idempotent and safe to run twice.

due       items whose back-off is over become ready
marks     low-water marks rise to what has rows
overruns  what runs for longer than its stage allows ends as timed out
untold    rows that are queued again, and of which Redis may never have heard, are told once more
gates     gates whose time is over get their default answer
expired   leases that ran out end as lost, proposals that nobody granted are ready again; quiet for one term after a
          start, a rebuild, or a gap in which this process stood still
adopted   rows that say running without a lease get one for a term (an effect that Redis never heard of)
requests  request ids older than 24 h, and sessions unseen for as long, are forgotten
"""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.sql import Database
from scheduler.domain.states import ItemState
from scheduler.engine import Engine
from scheduler.low_water import LowWater
from scheduler.observing import sweep
from scheduler.ready import Lost, Ready, StageKey
from scheduler.store import gates, leaders, leases
from scheduler.store.due import any_due, release_due
from scheduler.store.effects import Effects, Slot
from scheduler.store.items import rows_of
from scheduler.store.schema import requests, sessions
from scheduler.windows import Windows

__all__ = ["Sweeps"]

LIMIT = 1_000
OVERRUN_LIMIT = 500
FORGET_LIMIT = 10_000
REQUEST_MS = 24 * 3600 * 1000
LEAD_TURNS = 5
MARK_EVERY = 2
OVERRUN_EVERY = 5
ADOPT_EVERY = 10
FORGET_EVERY = 600

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
            self._note_gap()
            try:
                if self._engine.granting and await self.leading():
                    turn += 1
                    await self._turn(turn)
            except (PenstockError, Lost) as error:
                if isinstance(error, Lost):
                    self._engine.redis_lost(str(error) or "its data is gone")
                log.warning("sweeps wait for the next turn", error=str(error))

    async def _turn(self, turn: int) -> None:
        with sweep("due"):
            await self.due()
        with sweep("gates"):
            await self.gates()
        if self._engine.now_ms() >= self._engine.quiet_until_ms:
            with sweep("expired"):
                await self.expired()
        if turn % MARK_EVERY == 0:
            with sweep("marks"):
                await self.marks()
        if turn % OVERRUN_EVERY == 0:
            with sweep("overruns"):
                await self.overruns()
        if turn % ADOPT_EVERY == 0:
            with sweep("adopted"):
                await self.adopted()
            with sweep("untold"):
                await self.untold()
        if turn % FORGET_EVERY == 1:
            with sweep("forgotten"):
                await self.forgotten()

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

    def _note_gap(self) -> bool:
        """Whether nobody served for a while (this process or its machine stood still): workers could not renew
        then, so for one term no lease is declared lost."""
        now, last = self._engine.now_ms(), self._seen_ms
        self._seen_ms = now
        gap = last is not None and now - last > max(self._engine.term_ms / 3, 3_000 * self._seconds)
        if gap:
            log.warning(
                "nobody served for a while; no lease is declared lost for one term", seconds=(now - last) / 1000
            )
            self._engine.quiet_until_ms = now + self._engine.term_ms
        return gap

    async def due(self) -> int:
        def work(connection: sa.Connection, effects: Effects) -> int:
            return release_due(connection, effects, self._engine.now_ms(), LIMIT)

        count = await self._engine.commits.run(work) if await asyncio.to_thread(self._any_due) else 0
        metrics.SWEEP_ITEMS.labels("due").inc(count)
        return count

    async def marks(self) -> int:
        """Moves low-water marks up to what has rows."""
        return await self._low_water.turn(self._engine.now_ms())

    async def overruns(self) -> int:
        """Ends what has run for longer than its stage allows, when its worker did not."""
        count = 0
        for key, seqs in (await asyncio.to_thread(self._overruns)).items():
            count += await self._engine.time_out(key, seqs)
        metrics.SWEEP_ITEMS.labels("overruns").inc(count)
        return count

    async def untold(self) -> int:
        """Tells Redis again what is startable by its row: the word of a commit may have been lost with its process."""
        count = await self._windows.tell_again()
        metrics.SWEEP_ITEMS.labels("untold").inc(count)
        return count

    async def gates(self) -> int:
        """Gives gates whose time is over their default answer."""

        def work(connection: sa.Connection, effects: Effects) -> int:
            return gates.time_out(connection, effects, self._engine.now_ms())

        count = await self._engine.commits.run(work) if await asyncio.to_thread(self._overdue) else 0
        metrics.SWEEP_ITEMS.labels("gates").inc(count)
        return count

    async def expired(self) -> int:
        """Ends leases that ran out, of paused and stopping runs too."""
        running = await asyncio.to_thread(self._stages)
        if not running:
            return 0
        read_ms = self._engine.now_ms()
        found = await self._ready.expired(running, read_ms, LIMIT)
        if self._note_gap():
            return 0
        count = 0
        for key, slots in found.items():
            reason = "the lease ran out: its worker gave no sign for a whole term"
            lost = await self._engine.lose(key, slots, reason, read_ms=read_ms)
            count += lost
            log.info("leases ran out", run=key[0], stage=key[1], leases=len(slots), lost=lost)
        metrics.SWEEP_ITEMS.labels("expired").inc(count)
        return count

    async def adopted(self) -> int:
        """Gives running rows that Redis does not know a lease for a term."""
        count = 0
        for key, slots in (await asyncio.to_thread(self._running)).items():
            for first in range(0, len(slots), LIMIT):
                unknown = await self._ready.unknown(key, slots[first : first + LIMIT])
                if unknown:
                    count += await self._adopt(key, unknown)
        metrics.SWEEP_ITEMS.labels("adopted").inc(count)
        return count

    async def _adopt(self, key: StageKey, unknown: list[Slot]) -> int:
        def work(connection: sa.Connection, effects: Effects) -> int:
            rows = rows_of(connection, *key, [seq for seq, _ in unknown])
            effects.renew[key] = [row.slot for row in rows.values() if row.state == ItemState.RUNNING]
            return len(effects.renew[key])

        return await self._engine.commits.run(work)

    async def forgotten(self) -> int:
        """Forgets old request ids and sessions."""
        before = self._engine.now_ms() - REQUEST_MS

        def work(connection: sa.Connection, effects: Effects) -> int:
            count = 0
            for table, key, old in (
                (requests, requests.c.request_id, requests.c.create_ms < before),
                (sessions, sessions.c.session, sessions.c.seen_ms < before),
            ):
                some = sa.select(key).where(old).limit(FORGET_LIMIT)
                count += connection.execute(sa.delete(table).where(key.in_(some))).rowcount
            return count

        return await self._engine.commits.run(work)

    def _overruns(self) -> dict[StageKey, list[int]]:
        with self._database.read() as connection:
            return leases.overdue(connection, self._engine.now_ms(), OVERRUN_LIMIT)

    def _any_due(self) -> bool:
        with self._database.read() as connection:
            return any_due(connection, self._engine.now_ms())

    def _overdue(self) -> list[int]:
        with self._database.read() as connection:
            return gates.overdue(connection, self._engine.now_ms())

    def _stages(self) -> list[StageKey]:
        with self._database.read() as connection:
            return leases.running_stages(connection)

    def _running(self) -> dict[StageKey, list[Slot]]:
        with self._database.read() as connection:
            return leases.all_running(connection)
