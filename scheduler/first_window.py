"""The first window of a run that is being started: read while StartRun is recorded, fed as soon as that is durable.

So the items of a small run wait for one call to Redis and one transaction, and for nothing that must be read. A run
that was made in this very transaction has no rows; nobody can have acted on it, since nobody knows of it before the
answer.

It may not decide anything, and nothing rests on it: what was not read in time, or could not be, is opened as any other
stage is, by `Windows.refresh`. What was read and not taken is let go after KEPT_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.v1 import planner_pb2
from scheduler.open_stage import OpenStage
from scheduler.ready import END, MAIN, ROWS, Ready
from scheduler.store.rows import Opening
from scheduler.windows import Windows

__all__ = ["FirstWindows"]

MOST_PLANS = 4
"""Read ahead at once, of the latest starts; each may hold as much as one answer of the planner."""
KEPT_SECONDS = 2.0

Reading = asyncio.Task[planner_pb2.ReadPlanItemsResponse]


class FirstWindows:
    """Read-ahead of first stages, by plan."""

    def __init__(self, windows: Windows, ready: Ready, *, now_ms: Callable[[], int]) -> None:
        self._windows = windows
        self._ready = ready
        self._now_ms = now_ms
        self._reading: dict[str, Reading] = {}

    def expect(self, plan_id: str) -> None:
        """Begins to read the first items of a plan that is about to be started."""
        if plan_id in self._reading or len(self._reading) >= MOST_PLANS or self._windows.full():
            return
        reading = asyncio.create_task(self._windows.read_first(plan_id))
        self._reading[plan_id] = reading
        # What fails is told where it is read again.
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._let_go, plan_id, reading)

    def _let_go(self, plan_id: str, reading: Reading) -> None:
        if self._reading.get(plan_id) is reading:
            del self._reading[plan_id]
            reading.cancel()

    async def begin(self, one: Opening) -> bool:
        """Opens the first stage of a run that was just made, if its items are here; after that the run needs no
        `refresh`. Raises Lost, Unavailable."""
        reading = self._reading.get(one.plan_id)
        if reading is None or not reading.done() or self._windows.lock.locked():
            return False
        del self._reading[one.plan_id]
        if reading.cancelled() or reading.exception() is not None:
            return False
        window = reading.result()
        items = list(window.items)
        if not items:
            return False
        key = (one.row.run, one.row.stage)
        stage = OpenStage(key, one.run_id, one.plan_id, one.epoch, one.row, one.owner, one.priority)
        cursors = {MAIN: END if window.end else max(window.last_seq, items[-1].seq), ROWS: END}
        async with self._windows.lock:  # which is free: a window is opened once
            fed = await self._ready.open(
                key,
                one.epoch,
                owner=one.owner,
                cursors=cursors,
                places=[(item.seq, item.lane, item.seq) for item in items],
                now_ms=self._now_ms(),
            )
            if fed.done:
                stage.take(fed)
                self._windows.begun(stage, items)
        return fed.done
