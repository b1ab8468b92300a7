"""Opens and closes windows after runs moved, and wakes waiting acquires when a window was filled.

A commit tells which runs it moved; now and then SQL is asked for those that a commit moved which was taken for failed,
or that nobody here heard of. Nothing is decided here: while SQL or Redis is away it waits and asks again.
"""

from __future__ import annotations

import asyncio
import contextlib

from penstock.runtime.errors import Unavailable
from scheduler.engine import Engine
from scheduler.ready import Lost
from scheduler.redis_errors import AWAY, OUT_OF_MEMORY
from scheduler.watching import Moved
from scheduler.windows import Windows

__all__ = ["Following"]

POLL_SECONDS = 1.0
AGAIN_SECONDS = 0.2


class Following:
    """`serve` and `fed` run until cancelled."""

    def __init__(self, engine: Engine, windows: Windows, moved: Moved) -> None:
        self._engine = engine
        self._windows = windows
        self._moved = moved

    async def serve(self) -> None:
        """Opens and closes stages after states moved."""
        while True:
            await self._some_moved()
            if not self._moved.numbers:
                continue
            while self._moved.numbers:
                number = self._moved.numbers.pop()
                try:
                    await self._windows.refresh(number)
                except Lost as error:
                    self._engine.feeding_lost(error)  # all stages are opened again when it is back
                except Unavailable as error:
                    self._moved.numbers.add(number)
                    if error.code in (AWAY, OUT_OF_MEMORY):
                        self._engine.redis_lost(error)
                    await asyncio.sleep(AGAIN_SECONDS)
            if self._windows.some_left():
                self._engine.wake()

    async def _some_moved(self) -> None:
        """Waits for a run that moved; looks now and then for those that a commit moved which was taken for failed."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._moved.some.wait()
        except TimeoutError:
            with contextlib.suppress(Unavailable):
                self._moved.numbers |= await self._windows.astray() if self._engine.granting else set()
        self._moved.some.clear()

    async def fed(self) -> None:
        """Wakes waiting acquires when a window was filled."""
        while True:
            await self._windows.fed.wait()
            self._windows.fed.clear()
            if self._windows.some_left():
                self._engine.wake()
