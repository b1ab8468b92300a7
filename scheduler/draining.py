"""Telling workers to drain: by their sessions, which is how any worker of any backend hears it.

Failure story: the word is a row, so that it outlives this process and holds for every scheduler: from its commit on the
session is granted nothing. Its worker hears it with its next call, which does not wait for work where it waits here;
one that waits at another scheduler hears it when that wait is over.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from penstock.runtime.sql import Database
from scheduler.engine import Engine
from scheduler.store import workers
from scheduler.store.effects import Effects

__all__ = ["Draining"]


class Draining:
    def __init__(self, engine: Engine, database: Database) -> None:
        self._engine = engine
        self._database = database

    async def tell(self, named: Mapping[str, str]) -> list[str]:
        """Tells these sessions, by class, to drain; those that had not been told before."""

        def work(connection: sa.Connection, effects: Effects) -> list[str]:
            return workers.drain(connection, list(named.items()), self._engine.now_ms())

        told = await self._engine.commits.run(work)
        self._engine.draining.update(told)
        self._engine.wake()
        return told
