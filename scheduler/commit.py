"""Group commit: calls that arrive together share one SQL transaction.

`run(work)` puts a call into a bounded queue; one writer takes what waits, runs the calls one after another in one
transaction and commits. After the commit, and before any call is answered or the next group begins, what each call
asks of Redis (`Effects`) is done in the order of the commits: so Redis never hears of two commits in the wrong order.

Failure story:

- A call of the group raises: the group is rolled back and every call runs in a transaction of its own.
- The commit is ambiguous (the connection broke while committing): each call runs again by itself. Calls are written so
  that a repetition is answered from the rows: a fence that no longer holds, a request id or a grant that is known. Such
  an answer has no effects, so what the first attempt would have made ready is made ready all the same: if it did not
  come through, a grant refuses it.
- Redis fails afterwards: the commit stands; leases are rebuilt from SQL under a new generation.
- The queue is full: RESOURCE_EXHAUSTED, nothing was begun.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from penstock.runtime import metrics, tracing
from penstock.runtime.errors import Overloaded, Unavailable
from penstock.runtime.sql import Database
from scheduler.store.effects import Effects
from scheduler.store.schema import requests

__all__ = ["GroupCommit", "Work", "ambiguous"]

T = TypeVar("T")

MAX_GROUP = 64


Work = Callable[[sa.Connection, Effects], T]


@dataclass
class _Call(Generic[T]):
    work: Work[T]
    future: asyncio.Future[T]


class GroupCommit:
    """`apply` carries the effects of a committed group out; it must not raise. `begin` is called first in every
    transaction."""

    def __init__(
        self,
        database: Database,
        apply: Callable[[list[Effects]], Awaitable[None]],
        begin: Callable[[sa.Connection], None] = lambda connection: None,
        *,
        queue_size: int,
    ) -> None:
        self._database = database
        self._apply = apply
        self._begin = begin
        self._queue: asyncio.Queue[_Call[Any]] = asyncio.Queue(queue_size)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sql-writer")
        self._problem: Unavailable | None = None
        self._over = False

    async def run(self, work: Work[T]) -> T:
        """The call's answer, once it is durable. Raises what the call raises; Overloaded; Unavailable."""
        if self._over:
            raise _stopping()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Call(work, future))
        except asyncio.QueueFull:
            raise Overloaded("the scheduler has too many calls waiting to be recorded; try again in a second") from None
        with tracing.step("record"):
            return await future

    async def check(self) -> None:
        """Raises Unavailable when writing fails: after a failure, by writing once more."""
        if self._problem is not None:
            await self.run(_probe)

    async def serve(self) -> None:
        """The writer's loop; runs until cancelled. Calls that it leaves behind are told so: nobody waits for ever."""
        group: list[_Call[Any]] = []
        self._over = False
        try:
            while True:
                group = [await self._queue.get()]
                while len(group) < MAX_GROUP and not self._queue.empty():
                    group.append(self._queue.get_nowait())
                await self._record(group)
        finally:
            self._over = True
            while not self._queue.empty():
                group.append(self._queue.get_nowait())
            for call in group:
                if not call.future.done():
                    call.future.set_exception(_stopping())

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    async def _record(self, group: list[_Call[Any]]) -> None:
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        shared = len(group) > 1
        made: list[Effects] = []
        try:
            answers = await loop.run_in_executor(self._thread, self._transaction, group, made)
        except Exception as error:
            if shared or ambiguous(error):
                for call in group:
                    await self._alone(call)
            else:
                self._fail(group[0], error)
            if ambiguous(error):
                await self._apply([_perhaps(effects) for effects in made])
            return
        self._problem = None
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
        metrics.COMMIT_CALLS.observe(len(group))
        await self._apply([effects for _, effects in answers])
        for call, (answer, _) in zip(group, answers, strict=True):
            if not call.future.done():
                call.future.set_result(answer)

    async def _alone(self, call: _Call[Any]) -> None:
        made: list[Effects] = []
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, [call], made)
        except Exception as error:
            if ambiguous(error):
                await self._apply([_perhaps(effects) for effects in made])
            self._fail(call, error)
            return
        self._problem = None
        await self._apply([answers[0][1]])
        if not call.future.done():
            call.future.set_result(answers[0][0])

    def _fail(self, call: _Call[Any], error: Exception) -> None:
        if isinstance(error, Unavailable):
            self._problem = error
        if not call.future.done():
            call.future.set_exception(error)

    def _transaction(self, group: list[_Call[Any]], made: list[Effects]) -> list[tuple[Any, Effects]]:
        """Answers and effects of the calls; `made` keeps the effects where the commit fails."""
        with self._database.write() as connection:
            self._begin(connection)
            answers = []
            for call in group:
                effects = Effects()
                made.append(effects)
                answers.append((call.work(connection, effects), effects))
            return answers


def _stopping() -> Unavailable:
    return Unavailable("the scheduler is stopping; ask again when it is back", code="stopping")


def _perhaps(effects: Effects) -> Effects:
    """What may be told of a transaction that perhaps came through: what a grant decides about anyway, and what limits
    are then; they are compared with SQL now and then."""
    return Effects(ready=effects.ready, limits=effects.limits, changed=effects.changed, moved=effects.moved)


def ambiguous(error: Exception) -> bool:
    """Whether a transaction that failed in this way may have come through."""
    return isinstance(error, Unavailable) and error.code == "sql_unavailable"


def _probe(connection: sa.Connection, effects: Effects) -> None:
    """A write that changes nothing for anybody."""
    mark = f"probe-{time.monotonic_ns()}"
    values = {"method": "probe", "digest": b"", "run_id": "", "changed": False, "create_ms": 0}
    connection.execute(sa.insert(requests).values(request_id=mark, **values))
    connection.execute(sa.delete(requests).where(requests.c.request_id == mark))
