"""What lives in memory: who waits for a run's next change, which runs moved, what running items last said, which ones
have begun.

A scheduler that dies forgets it all: watchers come back with the number of the last event that they saw, and workers
say the rest again with their next renewal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

__all__ = ["Begun", "Lease", "Moved", "Phase", "Phases", "Watchers"]

FORGET_MS = 3_600_000
FRESH_MS = 60_000
"""What was said so long ago may be so no more."""


@dataclass(frozen=True)
class Phase:
    """What a running item last said of itself."""

    progress: float
    phase: str


Lease = tuple[str, int, int, int]
"""(run id, stage, seq, attempt)."""


class Begun:
    """What workers said that they had begun, session by session; each word replaces the session's last. Kept of each
    lease: when the session's words came between which it was begun."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[int, dict[Lease, tuple[int, int]]]] = {}

    def note(self, session: str, leases: Set[Lease], now_ms: int) -> None:
        before_ms, before = self._said.get(session, (0, {}))
        self._said = {name: said for name, said in self._said.items() if now_ms - said[0] < FORGET_MS}
        self._said[session] = now_ms, {lease: before.get(lease, (before_ms, now_ms)) for lease in leases}

    def has(self, session: str, lease: Lease) -> bool:
        return session in self._said and lease in self._said[session][1]

    def since(self, session: str, lease: Lease, start_ms: int, *, now_ms: int) -> int | None:
        """Since when a lease of `start_ms` is executed, at the latest; None: it waits for its turn in its worker. Of
        whom nothing was heard lately (another scheduler may have), it is taken to have begun at once."""
        last_ms, begun = self._said.get(session, (0, {}))
        if last_ms <= max(start_ms, now_ms - FRESH_MS):
            return start_ms
        if lease not in begun:
            return None
        unbegun_ms, begun_ms = begun[lease]
        return begun_ms if unbegun_ms > start_ms else start_ms


class Phases:
    """What workers said of the items that they run, session by session; each word replaces the session's last."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[int, Mapping[tuple[str, int, int], Phase]]] = {}

    def note(self, session: str, phases: Mapping[tuple[str, int, int], Phase], now_ms: int) -> None:
        """`phases` are by (run id, stage, seq)."""
        if not phases:
            self._said.pop(session, None)
            return
        self._said[session] = now_ms, phases
        for name in [name for name, said in self._said.items() if now_ms - said[0] > FORGET_MS]:
            del self._said[name]

    def of(self, item: tuple[str, int, int]) -> Phase | None:
        """The latest word about (run id, stage, seq)."""
        found = [(at, said[item]) for at, said in self._said.values() if item in said]
        return max(found, key=lambda word: word[0])[1] if found else None


class Moved:
    """Runs that a commit moved, until their stages are opened and closed as SQL says; `some`: there may be one."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.some = asyncio.Event()

    def add(self, number: int) -> None:
        self.numbers.add(number)
        self.some.set()


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
