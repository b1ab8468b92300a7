"""What schedulers tell each other: which runs moved or changed, and that there is something to lease.

Over Redis's pub/sub, a message for all commits of a few milliseconds. A message may be lost: everything that it says is
asked of SQL once a second too.
"""

from __future__ import annotations

import asyncio

import orjson

from penstock.runtime.errors import Unavailable
from penstock.runtime.logs import get_logger
from scheduler.engine import Engine
from scheduler.ready import Lost, Ready
from scheduler.windows import Windows

__all__ = ["Hearing", "Telling"]

COALESCE_SECONDS = 0.005
POLL_SECONDS = 1.0

log = get_logger("wakes")


class Telling:
    """What commits of this scheduler moved and changed; `serve` runs until cancelled. `name` is this scheduler's among
    the others."""

    def __init__(self, ready: Ready, *, name: str) -> None:
        self._ready = ready
        self._name = name
        self._told = asyncio.Event()
        self._moved: set[int] = set()
        self._changed: set[int] = set()

    def committed(self, moved: set[int], changed: set[int]) -> None:
        self._moved |= moved
        self._changed |= changed
        self._told.set()

    async def serve(self) -> None:
        while True:
            await self._told.wait()
            await asyncio.sleep(COALESCE_SECONDS)
            self._told.clear()
            message = {"from": self._name, "moved": sorted(self._moved), "changed": sorted(self._changed)}
            self._moved, self._changed = set(), set()
            try:
                await self._ready.publish(orjson.dumps(message))
            except Unavailable:
                await asyncio.sleep(POLL_SECONDS)  # the others ask SQL meanwhile


class Hearing:
    """What the others tell; `serve` and `poll` run until cancelled. `name` is this scheduler's among the others."""

    def __init__(self, engine: Engine, ready: Ready, windows: Windows, *, name: str) -> None:
        self._engine = engine
        self._ready = ready
        self._windows = windows
        self._name = name

    async def serve(self) -> None:
        while True:
            try:
                async for message in self._ready.messages():
                    self._heard(orjson.loads(message))
            except Unavailable:
                await asyncio.sleep(POLL_SECONDS)

    def _heard(self, message: dict[str, object]) -> None:
        if message.get("from") == self._name:
            return
        for number in message["moved"]:  # type: ignore[attr-defined]
            self._engine.moved(number)
        self._engine.watchers.wake(message["changed"])  # type: ignore[arg-type]
        self._engine.wake()

    async def poll(self) -> None:
        """The net below the messages."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._engine.granting:
                continue
            try:
                await self._windows.refresh()
            except Lost as error:
                self._engine.redis_lost(error)
            except Unavailable as error:
                log.warning("runs can't be looked at now", error=error.message)
            self._engine.wake()
