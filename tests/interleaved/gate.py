"""A gate before each statement of a scheduler's writer: transactions of two schedulers advance one statement at a time.

The writer runs in a thread of its own. While its gate is shut it stops before every statement and before the commit,
until it is given a step. Whether a step that does not come back waits for a lock of the other is asked of PostgreSQL.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

__all__ = ["Gate", "Moved"]

WRITER = "sql-writer"
PATIENCE_SECONDS = 0.003
"""Before PostgreSQL is asked whether a statement waits for a lock."""
STEP_SECONDS = 10.0

Moved = str
"""What became of a step: `gate` (the next statement waits), `blocked` (it waits for a lock), `done`."""


class Gate:
    """Of one engine. `shut` before an operation, `open` after it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._shut = False
        self._waiting = threading.Event()
        self._permits = threading.Semaphore(0)
        self.pid = 0
        self.statements: list[str] = []
        sa.event.listen(engine, "before_cursor_execute", self._before)
        sa.event.listen(engine, "commit", self._commit)

    def shut(self) -> None:
        self._permits = threading.Semaphore(0)
        self.statements = []
        self._shut = True

    def open(self) -> None:
        self._shut = False
        self._permits.release()

    async def step(self, task: asyncio.Future[Any], blocked: Callable[[int], bool]) -> Moved:
        """Lets the writer do one statement (or come to its first)."""
        if self._waiting.is_set():
            self._waiting.clear()
            self._permits.release()
        return await self.settled(task, blocked)

    async def settled(self, task: asyncio.Future[Any], blocked: Callable[[int], bool]) -> Moved:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < began + STEP_SECONDS:
            if task.done():
                return "done"
            if self._waiting.is_set():
                return "gate"
            if self.statements and loop.time() > began + PATIENCE_SECONDS and blocked(self.pid):
                return "blocked"
            await asyncio.sleep(0.0002)
        raise AssertionError(f"no end of {self.statements[-1:]} in {STEP_SECONDS:g} s")

    def _before(self, connection: sa.Connection, _: Any, statement: str, *__: Any) -> None:
        self._pass(connection, " ".join(statement.split())[:80])

    def _commit(self, connection: sa.Connection) -> None:
        self._pass(connection, "COMMIT")

    def _pass(self, connection: sa.Connection, statement: str) -> None:
        if not self._shut or not threading.current_thread().name.startswith(WRITER):
            return
        driver: Any = connection.connection.dbapi_connection
        self.pid = driver.info.backend_pid
        self.statements.append(statement)
        permits = self._permits
        self._waiting.set()
        permits.acquire()
