"""A gate before each statement of a scheduler's writer: transactions of two schedulers advance one statement at a time.

The writer runs in a thread of its own. While its gate is shut it stops before every statement, before the commit, and
before Redis is told of what was committed, until it is given a step. Whether a step that does not come back waits for a
lock of the other is asked of PostgreSQL.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

__all__ = ["BLOCKED", "COMMIT", "DONE", "GATE", "REDIS", "Gate", "Moved"]

WRITER = "sql-writer"
COMMIT, REDIS = "COMMIT", "REDIS"
PATIENCE_SECONDS = 0.002
"""Before PostgreSQL is asked whether a statement waits for a lock."""
STEP_SECONDS = 10.0

Moved = str
"""What became of a step: the next statement waits, it waits for a lock, its operation is over."""
GATE, BLOCKED, DONE = "gate", "blocked", "done"


class Gate:
    """Of one engine. `shut` before an operation, `open` after it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._shut = False
        self._waits = False
        self._permits = threading.Semaphore(0)
        self._passed: asyncio.Future[None] | None = None
        self._moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.pid = 0
        self.statements: list[str] = []
        sa.event.listen(engine, "before_cursor_execute", self._before)
        sa.event.listen(engine, "commit", self._commit)

    def shut(self) -> None:
        self._permits = threading.Semaphore(0)
        self.statements = []
        self._waits = False
        self._moved.clear()
        self._shut = True

    def open(self) -> None:
        self._shut = False
        self._let()

    async def step(self, task: asyncio.Future[Any], blocked: Callable[[int], bool]) -> Moved:
        """Lets the writer do one statement (or come to its first)."""
        if self._waits:
            self._let()
        return await self.settled(task, blocked)

    async def settled(self, task: asyncio.Future[Any], blocked: Callable[[int], bool]) -> Moved:
        task.add_done_callback(self._over)
        deadline = self._loop.time() + STEP_SECONDS
        try:
            while self._loop.time() < deadline:
                if task.done():
                    return DONE
                if self._waits:
                    return GATE
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        await self._moved.wait()
                except TimeoutError:
                    if self.statements and blocked(self.pid):
                        return BLOCKED
                self._moved.clear()
        finally:
            task.remove_done_callback(self._over)
        raise AssertionError(f"no end of {self.statements[-1:]} in {STEP_SECONDS:g} s")

    async def tell_redis(self) -> None:
        """Stops before what was committed is told."""
        if self._shut:
            self.statements.append(REDIS)
            self._passed = self._loop.create_future()
            self._stops()
            await self._passed

    def _let(self) -> None:
        self._waits = False
        if self._passed is not None:
            self._passed.set_result(None)
            self._passed = None
        else:
            self._permits.release()

    def _over(self, _: object) -> None:
        self._moved.set()

    def _stops(self) -> None:
        if self._shut:  # else it was let go before this was heard
            self._waits = True
            self._moved.set()

    def _before(self, connection: sa.Connection, _: Any, statement: str, *__: Any) -> None:
        self._pass(connection, " ".join(statement.split()))

    def _commit(self, connection: sa.Connection) -> None:
        self._pass(connection, COMMIT)

    def _pass(self, connection: sa.Connection, statement: str) -> None:
        if not self._shut or not threading.current_thread().name.startswith(WRITER):
            return
        driver: Any = connection.connection.dbapi_connection
        self.pid = driver.info.backend_pid
        self.statements.append(statement)
        permits = self._permits
        self._loop.call_soon_threadsafe(self._stops)
        permits.acquire()
