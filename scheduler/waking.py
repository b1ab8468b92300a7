"""When retries are allowed again: makes due what waited for that, chunk by chunk.

The switch stands at `waking` until all is done, so that whoever starts next goes on with it; a chunk done twice changes
nothing.
"""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from penstock.runtime.sql import Database
from scheduler.engine import Engine
from scheduler.store import switches
from scheduler.store.effects import Effects, StageKey

__all__ = ["Waking"]

CHUNK = 2_000


class Waking:
    def __init__(self, engine: Engine, database: Database) -> None:
        self._engine = engine
        self._database = database

    async def go_on(self) -> None:
        """Wakes every held item, if retries were allowed since the last time. Raises Unavailable."""
        switch = await asyncio.to_thread(self._switch)
        if not switch.waking:
            return
        for key in await self._engine.commits.run(lambda connection, _: switches.held_stages(connection)):
            after = -1
            while (after := await self._chunk(key, after)) >= 0:
                pass

        def done(connection: sa.Connection, effects: Effects) -> None:
            switches.woken(connection, switch.change_ms)

        await self._engine.commits.run(done)

    async def _chunk(self, key: StageKey, after: int) -> int:
        def work(connection: sa.Connection, effects: Effects) -> int:
            now_ms = self._engine.now_ms()
            return switches.wake(connection, *key, after=after, now_ms=now_ms, limit=CHUNK)

        return await self._engine.commits.run(work)

    def _switch(self) -> switches.Switch:
        with self._database.read() as connection:
            return switches.retries(connection)
