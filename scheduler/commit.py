"""Group commit: calls that arrive together share one SQL transaction.

`run(work)` puts a call into a bounded queue; one writer takes what waits, runs the calls one after another in one
transaction and commits. After the commit, and before any call is answered or the next group begins, what each call
asks of Redis (`Effects`) is done in the order of the commits: so Redis never hears of two commits in the wrong order.

Calls that share a transaction say which runs they lock (`runs`): the rows are locked together, in order of number,
before the first call begins. Locked one call after another, two schedulers' groups would wait for each other; so on
PostgreSQL a call that does not say has a transaction of its own.

Failure story:

- A call of the group raises: the group is rolled back and every call runs in a transaction of its own. So does a call
  that remembered what is not so any more: nothing of it is remembered then.
- The commit is ambiguous (the connection broke while committing): each call runs again by itself. Calls are written so
  that a repetition is answered from the rows: a fence that no longer holds, a request id or a grant that is known. Such
  an answer has no effects, so what the first attempt would have made ready is made ready all the same: if it did not
  come through, a grant refuses it. Limits that it would have set are told by the next transaction, as their rows are
  then: one that was not raised must not be passed, and one that was lowered is known to Redis before anybody hears of
  it.
- Redis fails afterwards: the commit stands; leases are rebuilt from SQL under a new generation.
- The database is full or away: calls are told so. Readiness is false until a call is recorded; where there is none, or
  calls fail again, until nothing has failed for some seconds.
- The queue is full: RESOURCE_EXHAUSTED, nothing was begun.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from penstock.runtime import metrics, tracing
from penstock.runtime.errors import Overloaded, Unavailable
from penstock.runtime.sql import Database
from scheduler.store.effects import Effects
from scheduler.store.items import Stale
from scheduler.store.limit_rows import states_of
from scheduler.store.locking import hold
from scheduler.store.schema import requests
from scheduler.store.statements import finish, together
from scheduler.trouble import Trouble

__all__ = ["Apply", "GroupCommit", "Runs", "Work", "ambiguous"]

T = TypeVar("T")

MAX_GROUP = 64
PROBE_BYTES = 1 << 16
STALE_LOOKS = 256
"""A call of several stages may find for each of them, one after another, that it was remembered wrongly."""


Work = Callable[[sa.Connection, Effects], T]
Runs = Callable[[sa.Connection], Iterable[int]]
"""The numbers of the runs that a call will lock."""
Apply = Callable[[list[Effects]], Awaitable[None]]
"""Carries out what a committed group asks of Redis; it must not raise."""


@dataclass
class _Call(Generic[T]):
    work: Work[T]
    future: asyncio.Future[T]
    runs: Runs | None
    probe: bool


class GroupCommit:
    """The queue, and its one writer: `serve`.

    The queue is there before the writer: what carries effects out wakes and fills the windows, and these record through
    the queue themselves. So `apply` comes with the writer's loop; until it serves, calls wait.
    """

    def __init__(self, database: Database, *, queue_size: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._queue: asyncio.Queue[_Call[Any]] = asyncio.Queue(queue_size)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sql-writer")
        self._trouble = Trouble("nothing is recorded", patience_seconds=0.0, monotonic=monotonic)
        self._trouble.restored()
        self._over = False
        self.doubted: set[str] = set()
        """Limits that Redis may know otherwise than SQL: a transaction that changed them perhaps came through."""

    async def run(self, work: Work[T], runs: Runs | None = None, *, probe: bool = False) -> T:
        """The call's answer, once it is durable. Raises what the call raises; Overloaded; Unavailable. probe: it is
        made only to see whether it can be."""
        if self._over:
            raise _stopping()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Call(work, future, runs, probe))
        except asyncio.QueueFull:
            raise Overloaded("the scheduler has too many calls waiting to be recorded; try again in a second") from None
        with tracing.step("record"):
            return await future

    async def check(self) -> None:
        """Raises Unavailable when SQL does not answer, when writing fails, and for a while after it did, unless a call
        was recorded first: what is small may come through while nothing else does. Some pages are written to see."""
        try:
            await asyncio.to_thread(self._database.ping)
            if not self._trouble.over():
                mark = f"probe-{time.monotonic_ns()}"
                await self.run(partial(_probe, mark), probe=True)
                await self.run(partial(_forget, mark), probe=True)
        except Unavailable as error:
            self._trouble.lost(error)
            raise
        self._trouble.check()

    async def serve(self, apply: Apply) -> None:
        """The writer's loop; runs until cancelled. Calls that it leaves behind are told so: nobody waits for ever."""
        group: list[_Call[Any]] = []
        self._over = False
        try:
            while True:
                group = [await self._queue.get()]
                while len(group) < MAX_GROUP and not self._queue.empty():
                    group.append(self._queue.get_nowait())
                await self._record(group, apply)
        finally:
            self._over = True
            while not self._queue.empty():
                group.append(self._queue.get_nowait())
            for call in group:
                if not call.future.done():
                    call.future.set_exception(_stopping())

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    async def _record(self, group: list[_Call[Any]], apply: Apply) -> None:
        if len(group) > 1 and not self._database.is_sqlite:
            for call in group:
                if call.runs is None:
                    await self._alone(call, apply)
            group = [call for call in group if call.runs is not None]
            if not group:
                return
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        shared = len(group) > 1
        made: list[Effects] = []
        try:
            answers = await loop.run_in_executor(self._thread, self._transaction, group, made)
        except Exception as error:
            if ambiguous(error):
                await self._doubt(made, apply)
            if shared or ambiguous(error) or isinstance(error, Stale):
                for call in group:
                    await self._alone(call, apply)
            else:
                self._fail(group[0], error)
            return
        self._trouble.restored(surely=not all(call.probe for call in group))
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
        metrics.COMMIT_CALLS.observe(len(group))
        await apply([effects for _, effects in answers])
        for call, (answer, _) in zip(group, answers, strict=True):
            if not call.future.done():
                call.future.set_result(answer)

    async def _alone(self, call: _Call[Any], apply: Apply) -> None:
        loop = asyncio.get_running_loop()
        for left in reversed(range(STALE_LOOKS)):
            made: list[Effects] = []
            try:
                answers = await loop.run_in_executor(self._thread, self._transaction, [call], made)
                break
            except Exception as error:
                if isinstance(error, Stale) and left:
                    continue  # what was remembered wrongly is remembered no more
                if ambiguous(error):
                    await self._doubt(made, apply)
                self._fail(call, error)
                return
        self._trouble.restored(surely=not call.probe)
        await apply([answers[0][1]])
        if not call.future.done():
            call.future.set_result(answers[0][0])

    async def _doubt(self, made: list[Effects], apply: Apply) -> None:
        """A transaction perhaps came through. Told is what a grant decides about anyway."""
        self.doubted.update(*(effects.limits for effects in made))
        await apply([Effects(ready=one.ready, changed=one.changed, moved=one.moved) for one in made])

    def _fail(self, call: _Call[Any], error: Exception) -> None:
        if isinstance(error, Unavailable):
            self._trouble.lost(error)
        if not call.future.done():
            call.future.set_exception(error)

    def _transaction(self, group: list[_Call[Any]], made: list[Effects]) -> list[tuple[Any, Effects]]:
        """Answers and effects of the calls; `made` keeps the effects where the commit fails."""
        with self._database.write() as connection:
            if len(group) > 1 and not self._database.is_sqlite:
                numbers = {number for call in group if call.runs is not None for number in call.runs(connection)}
                if numbers:
                    hold(connection, numbers)
            answers = []
            for call in group:
                if made:
                    together(connection, made[-1].writes)
                effects = Effects()
                made.append(effects)
                answers.append((call.work(connection, effects), effects))
            doubted = set(self.doubted)
            if doubted:
                made[-1].limits.update(states_of(connection, doubted))
            finish(connection, made[-1].writes)
        self.doubted -= doubted
        return answers


def _stopping() -> Unavailable:
    return Unavailable("the scheduler is stopping; ask again when it is back", code="stopping")


def ambiguous(error: Exception) -> bool:
    """Whether a transaction that failed in this way may have come through."""
    return isinstance(error, Unavailable) and error.code == "sql_unavailable"


def _probe(mark: str, connection: sa.Connection, effects: Effects) -> None:
    """Writes what changes nothing for anybody, and can't be packed. If it stays, it is forgotten with old requests."""
    pages = hashlib.shake_256(mark.encode()).digest(PROBE_BYTES)
    values = {"method": "probe", "digest": pages, "run_id": "", "changed": False, "create_ms": 0}
    connection.execute(sa.insert(requests).values(request_id=mark, **values))


def _forget(mark: str, connection: sa.Connection, effects: Effects) -> None:
    # In a transaction of its own: pages that one both takes and leaves are never written.
    connection.execute(sa.delete(requests).where(requests.c.request_id == mark))
