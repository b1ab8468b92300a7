"""Acquires that wait for work: when they look, and which of them need not.

Those that are woken together ask Redis one after another, and no more once one of their kind was given less than it
asked for: nothing is left until the next wake. Nothing here is the only way to work: who waits looks once a second all
the same, so that a wake that is lost costs that second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from penstock.v1 import scheduler_pb2 as pb
from scheduler.ready import StageKey
from scheduler.store.leases import Offer

__all__ = ["Kind", "Waiting"]

Offers = dict[StageKey, Offer]


@dataclass(frozen=True)
class Kind:
    """What decides which stages a worker can serve: its class, and (processor, version) of each that it has."""

    worker_class: str
    processors: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, session: pb.WorkerSession) -> Kind:
        return cls(session.worker_class, frozenset(session.processors.items()))

    def serves(self, worker_class: str, processor: str, version: str) -> bool:
        return self.worker_class == worker_class and (processor, version) in self.processors


class Waiting:
    """`word` is set by the next wake, and another one follows it."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.word = asyncio.Event()
        self._turn = asyncio.Lock()
        self._dry: set[Kind] = set()
        self._look: asyncio.TimerHandle | None = None

    async def asked(self, kind: Kind, most: int, ask: Callable[[], Awaitable[Offers]], *, look: bool) -> Offers:
        """What `ask` brings, at most `most` items. look: in any case; else a wake has brought this call here."""
        if look:
            return await self._asked(kind, most, ask)
        async with self._turn:
            return {} if kind in self._dry else await self._asked(kind, most, ask)

    async def _asked(self, kind: Kind, most: int, ask: Callable[[], Awaitable[Offers]]) -> Offers:
        since = self.word
        found = await ask()
        if since is self.word and sum(len(offer.proposals) for offer in found.values()) < most:
            self._dry.add(kind)
        return found

    def wake(self) -> None:
        """Lets every one of them look again."""
        self.word.set()
        self.word = asyncio.Event()
        self._dry.clear()

    def wake_at(self, time_ms: int) -> None:
        """The same, when something that limits hold back is worth a look."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max(time_ms - self._now_ms(), 0) / 1000
        if self._look is not None and loop.time() < self._look.when() <= at and not self._look.cancelled():
            return
        if self._look is not None:
            self._look.cancel()
        self._look = loop.call_at(at, self.wake)

    def has_room(self, worker_class: str, processor: str, version: str) -> bool:
        """Whether a worker that can serve this was given less than it asked for since all were woken: it has a free
        slot. For any thread."""
        return any(kind.serves(worker_class, processor, version) for kind in tuple(self._dry))
