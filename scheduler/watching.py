"""What lives in memory for those who watch: who waits for a run's next change, what running items last said.

A scheduler that dies forgets both: watchers come back with the number of the last event that they saw, and items say it
again with their next renewal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Phase", "Watchers"]


@dataclass(frozen=True)
class Phase:
    """What the running item of a stage last said of itself."""

    progress: float
    phase: str


class Watchers:
    """Wakes whoever watches a run when a commit changed it."""

    def __init__(self) -> None:
        self._events: dict[int, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def watching(self, number: int) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._events.setdefault(number, set()).add(event)
        try:
            yield event
        finally:
            self._events[number].discard(event)
            if not self._events[number]:
                del self._events[number]

    def wake(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            for event in self._events.get(number, ()):
                event.set()
