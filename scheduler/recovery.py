"""What a scheduler does when Redis is not what it left it: it adopts what another one has made, or makes it anew.

    lost ──▶ is what Redis holds the generation of SQL? ── yes ──▶ has it leases without a row, and nobody else listens?
                     │ no                                             │ yes             │ no
                     │◀───────────────────────────────────────────────┘                 ▼
                     ▼                                           adopted: windows are opened as they stand
             new generation in SQL (every grant before it is in the rows, every one after is refused) ──▶ leases, limits
             and shares from the rows ──▶ what ended meanwhile is forgotten ──▶ windows are opened from SQL

Leases that no row has, and no other scheduler is about to grant, are proposals of one that died, or that this one was
not told of, and ends that Redis never heard of: they would keep their room for a term. Where others are they do.

A Redis that is out of memory is not touched until it has some again. Then a scheduler that could not tell it of a
commit makes it anew: what stands in it is whole, and not what SQL says. What is lost again as soon as it is back is
tried again ever later (`trouble.py`).

One scheduler at a time makes Redis anew; the others wait for it, and take over when its term is over. On SQLite there
is one scheduler, and it always makes Redis anew. Nothing is granted meanwhile, and nothing that runs is revoked: for a
term no lease is declared lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.clock import IdSource
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from scheduler.adopting import adopt_running
from scheduler.engine import Engine
from scheduler.limits import compare_limits
from scheduler.ready import Lost, Ready
from scheduler.store import held, leaders
from scheduler.store.effects import Effects, Slot, StageKey
from scheduler.store.limit_rows import all_states
from scheduler.store.limits import Caution
from scheduler.windows import Windows

__all__ = ["Recovery"]

RETRY_SECONDS = 0.5
ROOM_BYTES = 1 << 18
"""Of memory that Redis must have: what one call takes, or it would be out of it again at once."""
LEASED_LIMIT = 100_000
"""Leases of a stage that are looked at for their rows."""
REBUILD_MS = 10_000
"""A scheduler that has begun to make Redis anew and says nothing for so long is given up."""

log = get_logger("recovery")


class Recovery:
    """`name` is this scheduler's among the others; `shared`: there may be others."""

    def __init__(
        self, engine: Engine, ready: Ready, windows: Windows, *, name: str, shared: bool, new_id: IdSource
    ) -> None:
        self._engine = engine
        self._ready = ready
        self._windows = windows
        self._name = name
        self._shared = shared
        self._new_id = new_id

    async def serve(self) -> None:
        """Waits for the loss of Redis and recovers; runs until cancelled."""
        lost = self._engine.lost
        while True:
            await lost.wait()
            await asyncio.sleep(self._engine.trouble.pause())
            lost.clear()
            try:
                await self._ready.check(ROOM_BYTES)
                if not (self._shared and await self._adopt()):
                    await self._rebuild()
            except (Lost, PenstockError) as error:
                log.warning("leases can't be rebuilt yet", error=str(error))
                self._engine.redis_lost(error)
            except Exception as error:
                self._engine.redis_lost(error)  # whoever starts this loop again finds that there is work
                raise
            if lost.is_set():
                await asyncio.sleep(RETRY_SECONDS)

    async def _adopt(self) -> bool:
        def work(
            connection: sa.Connection, effects: Effects
        ) -> tuple[leaders.Leader | None, dict[StageKey, list[Slot]]]:
            self._engine.caution.become(Caution.read(connection))
            return leaders.leader(connection, leaders.REDIS), held.all_running(connection)

        found, running = await self._engine.commits.run(work)
        if found is None or (self._engine.unsaid and found.value == self._ready.generation):
            return False
        if not await self._ready.adopt(found.value):
            return False
        self._engine.unsaid = False
        if not await self._ready.others() and (left := await self._rowless(running)):
            log.warning("Redis holds leases that nobody was granted; it is made anew", leases=left)
            return False
        # Whether anybody served until now is not known: workers could not renew if not.
        self._engine.quiet_until_ms = self._engine.now_ms() + self._engine.term_ms
        # What was committed about limits while Redis could not be told, by this scheduler or one that died.
        await compare_limits(self._engine.commits, self._ready)
        # Whoever would know that this is an older copy may be dead: what runs holds its slots before more is granted.
        await adopt_running(self._engine.commits, self._ready, running)
        await self._open()
        log.info("went on with what another scheduler has made of Redis", maker=found.holder)
        return True

    async def _rowless(self, running: Mapping[StageKey, Sequence[Slot]]) -> int:
        """How many leases stand in Redis that none of these rows has."""
        stages = await self._engine.commits.run(lambda connection, _: held.running_stages(connection))
        leased = await self._ready.leased(stages, LEASED_LIMIT)
        return sum(len(set(slots).difference(running.get(key, ()))) for key, slots in leased.items())

    async def _rebuild(self) -> None:
        # In the writer's queue: every grant before this is in the rows, every one after sees the new generation, and
        # what is reported after it is forgotten after it.
        generation = self._new_id("generation")
        engine = self._engine

        def work(connection: sa.Connection, effects: Effects) -> dict[StageKey, list[Slot]] | None:
            now = engine.now_ms()
            until = now + REBUILD_MS
            if self._shared and not leaders.begin_rebuild(
                connection, self._name, generation, now_ms=now, until_ms=until
            ):
                return None
            engine.caution.become(Caution.read(connection))
            self._ready.generation = generation
            effects.rebuild = held.all_running(connection)
            effects.owners = held.owners(connection)
            effects.limits.update(all_states(connection))
            return effects.rebuild

        leased = await engine.commits.run(work)
        if leased is None:
            engine.lost.set()  # another is at it: its work is adopted
            return
        if engine.lost.is_set():
            return
        engine.unsaid = False
        if self._shared:
            await self._catch_up(generation, leased)
        engine.quiet_until_ms = engine.now_ms() + engine.term_ms
        metrics.REDIS_REBUILDS.inc()
        await self._open()
        log.info("leases were rebuilt", leased=sum(len(slots) for slots in leased.values()))

    async def _catch_up(self, generation: str, leased: dict[StageKey, list[Slot]]) -> None:
        """Lets go of what other schedulers settled while Redis was made: they may have said so too early."""

        def work(connection: sa.Connection, effects: Effects) -> None:
            running = held.all_running(connection)
            for key, slots in leased.items():
                still = set(running.get(key, ()))
                effects.forget[key] = [slot for slot in slots if slot not in still]
            leaders.end_rebuild(connection, self._name, generation)

        await self._engine.commits.run(work)

    async def _open(self) -> None:
        await self._windows.reopen_all()
        self._engine.redis_back()
