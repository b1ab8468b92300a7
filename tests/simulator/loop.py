"""The simulator's event loop: one thread, virtual time, processes that can die between any two steps.

Time moves only when nothing is ready, to the next timer. What asyncio would give to a thread (`run_in_executor`) runs
here, later, on the same thread. A *process* is whatever runs under `Process.context`: once it is dead, nothing of it
runs any more; no `finally`, no handler: as after SIGKILL. A fuse lets it die after its n-th step from now, so that in
the course of many seeds it dies at every `await`.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import inspect
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Process", "VirtualLoop"]

_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)

MAX_STEPS = 2_000_000
"""Steps of one seed; one that needs more turns in circles."""


class Process:
    """What lives and dies together. `fuse`: steps until it dies; None: it lives on. `stalled_until`: stopped, as by
    SIGSTOP: what happens to it waits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.fuse: int | None = None
        self.stalled_until = 0.0
        self.on_death: list[Callable[[], None]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)

    def die(self) -> None:
        if self.alive:
            self.alive = False
            for told in self.on_death:
                told()


class _Handle:
    """What `asyncio.Handle` and `TimerHandle` are, for a loop that runs millions of them."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_when")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        when: float = 0.0,
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = contextvars.copy_context() if context is None else context
        self._when = when
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when


class VirtualLoop(asyncio.AbstractEventLoop):
    """`random` draws how long what runs aside takes; `now` is in seconds, from 0."""

    def __init__(self, source: random.Random) -> None:
        self.now = 0.0
        self.steps = 0
        self.slow_share = 0.25
        self._random = source
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []
        self.raised: list[dict[str, Any]] = []

    # -- what asyncio asks for

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # a dead process leaves them behind
        self._tasks.append(task)  # else the collector would run their `finally`, at a moment of its own choosing
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        """At once when there is nothing to wait for: after all that is ready."""
        if delay <= 0.0:
            return self.call_soon(callback, *args, context=context)
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.raised.append(context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """`func` runs in one go, a moment from now; its answer comes a moment later. In between its process may die:
        before it, and nothing was done; after it, and nobody heard."""
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except BaseException as error:
                self.call_later(self.hop(), _fail, future, error)
            else:
                self.call_later(self.hop(), _succeed, future, result)

        self.call_later(self.hop(), work)
        return future

    def hop(self) -> float:
        """How long a message or a thread takes: mostly no time at all."""
        draw = self._random.random()
        if draw >= self.slow_share:
            return 0.0
        return draw * 0.08 if draw > 0.01 else draw * 40

    # -- running

    def run(self, *, until: float | None = None, done: Callable[[], bool] | None = None) -> None:
        """Runs until a time, or until `done` says so (asked whenever time would move), or until nothing is left."""
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        ready = self._ready
        try:
            while ready or self._wait(until, done):
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                context = handle._context
                process = context.get(_PROCESS)
                if process is None or self._lets(process, handle):
                    self.steps += 1
                    if self.steps > MAX_STEPS:
                        raise AssertionError(f"{MAX_STEPS:,} steps and no end: something turns in circles")
                    try:
                        context.run(handle._callback, *handle._args)
                    except Exception as error:
                        self.call_exception_handler({"message": "a callback raised", "exception": error})
        finally:
            asyncio._set_running_loop(running)

    def end(self) -> None:
        """At the end of a play, once nothing of it will run any more: closes the tasks that never began, most of them
        since their process died first. Of such a coroutine nothing runs then, no `finally` either, and nobody is told
        that it was never awaited. Those that had begun stay as they are: their `finally` would run."""
        for task in self._tasks:
            made = task.get_coro()
            if (
                not task.done()
                and inspect.iscoroutine(made)
                and inspect.getcoroutinestate(made) == inspect.CORO_CREATED
            ):
                made.close()

    def _wait(self, until: float | None, done: Callable[[], bool] | None) -> bool:
        """Moves time to the next timer; false when it comes too late, or there is none."""
        if done is not None and done():
            return False
        timers, ready = self._timers, self._ready
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers or (until is not None and timers[0][0] > until):
            if until is not None:
                self.now = max(self.now, until)
            return False
        when, _, first = heapq.heappop(timers)
        self.now = max(self.now, when)
        ready.append(first)
        while timers and timers[0][0] <= self.now:
            ready.append(heapq.heappop(timers)[2])
        return True

    def _lets(self, process: Process, handle: _Handle) -> bool:
        """Whether a process runs what is its turn: it lives, and does not stand still."""
        if not process.alive:
            return False
        if process.stalled_until > self.now:
            heapq.heappush(self._timers, (process.stalled_until, next(self._numbers), handle))
            return False
        if process.fuse is not None:
            process.fuse -= 1
            if process.fuse < 0:
                process.die()
                return False
        return True


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _succeed(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)
