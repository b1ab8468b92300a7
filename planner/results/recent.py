"""The copy of results for those who look at rows: young enough, and told at once even while the scheduler is away.

A selection waits until the copy is complete (`Results.catch_up`), since it would leave out or do twice what nobody
could tell. Who looks waits WAIT_SECONDS at most, and less when others wait already: then the copy is told as it
stands, with the time up to which it is complete and why it is not newer. What is FRESH_SECONDS old is not asked again,
so that a grid of many users costs the scheduler one question a second.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from penstock.runtime.clock import Clock
from penstock.runtime.errors import Unavailable
from penstock.runtime.logs import get_logger
from planner.results.copying import Results

__all__ = ["Known", "Recent"]

FRESH_SECONDS = 1.0
WAIT_SECONDS = 2.0

log = get_logger("results")


@dataclass(frozen=True)
class Known:
    """parts: the files of the copy. read_ms: it has all that settled before; 0 where nobody knows. problem: why it is
    not newer, empty while all is well."""

    parts: tuple[Path, ...]
    read_ms: int
    problem: str = ""


class Recent:
    def __init__(self, results: Results, clock: Clock) -> None:
        self._results = results
        self._clock = clock
        self._known: Known | None = None
        self._at = 0.0
        self._begun = 0.0
        self._task: asyncio.Task[Known] | None = None

    async def known(self) -> Known:
        """What the copy holds. Raises nothing for a scheduler that is away."""
        now = self._clock.monotonic()
        if self._known is not None and now - self._at < FRESH_SECONDS:
            return self._known
        if self._task is None:
            self._begun = now
            self._task = asyncio.create_task(self._caught_up())
            self._task.add_done_callback(self._ended)
        task = self._task
        # Not wait_for: who gives up must not end the copying for the others.
        await asyncio.wait({task}, timeout=max(0.0, self._begun + WAIT_SECONDS - now))
        if task.done():
            return task.result()
        return await self._held("results are still being copied from the scheduler")

    async def close(self) -> None:
        """Gives up what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _caught_up(self) -> Known:
        read_ms = self._clock.now_ms()
        try:
            known = Known(tuple(await self._results.catch_up()), read_ms)
        except Unavailable as error:
            known = await self._held(error.message)
        self._known, self._at = known, self._clock.monotonic()
        return known

    async def _held(self, problem: str) -> Known:
        parts = tuple(await asyncio.to_thread(self._results.held))
        return Known(parts, self._known.read_ms if self._known is not None else 0, problem)

    def _ended(self, task: asyncio.Task[Known]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            # Who waited has it; with nobody left it would be lost.
            log.warning("results could not be copied", error=str(error))
