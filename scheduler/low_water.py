"""Keeps the low-water marks of open stages close to what is leased, so that a lost window is soon read again.

While a stage is read as one, its rows tell: the mark moves to the first seq that has none. Once lanes are read apart,
the plan tells which items are meant, a page at a time. A lane whose items keep the mark far behind (a limit holds a few
of them back for long) is read apart too.

May not lose an item: a mark moves only past rows that are there. When anything fails, marks stay where they are.
"""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.sql import Database
from scheduler.commit import GroupCommit
from scheduler.open_stage import OpenStage
from scheduler.plans import Plans
from scheduler.ready import END, MAIN, lane_field
from scheduler.store.effects import Effects
from scheduler.store.low_water import contiguous, raise_lane, raise_stage
from scheduler.store.reading import lane_marks, with_rows
from scheduler.windows import Windows

__all__ = ["LowWater"]

ROWS = 50_000
"""Looked at for one stage in one turn."""
PAGE = 1_000
"""Of a plan of which lanes are read apart."""

log = get_logger("low_water")


class LowWater:
    """One `turn` moves the marks of every open stage a bounded way."""

    def __init__(self, database: Database, plans: Plans, windows: Windows, commits: GroupCommit, *, lag: int) -> None:
        self._database = database
        self._plans = plans
        self._windows = windows
        self._commits = commits
        self._lag = lag
        self._lanes: dict[tuple[int, int], int] = {}

    async def turn(self, now_ms: int) -> int:
        """Returns how many marks have moved."""
        stages = dict(self._windows.stages)
        self._lanes = {key: at for key, at in self._lanes.items() if key in stages}
        count = 0
        for stage in stages.values():
            try:
                count += await self._stage(stage, now_ms)
            except PenstockError as error:
                log.warning("a low-water mark stays where it is", run_id=stage.run_id, error=error.message)
        return count

    async def _stage(self, stage: OpenStage, now_ms: int) -> int:
        count, low = 0, stage.row.cursor
        if stage.lanes():
            found, lagging = await self._by_plan(stage, low, None)
            count += await self._next_lane(stage)
        else:
            found = await asyncio.to_thread(self._by_rows, stage, low)
            lagging = []
            if found == low and self._far(stage, low):
                _, lagging = await self._by_plan(stage, low, None)
        for lane in lagging if self._far(stage, found) else ():
            await self._windows.split(stage, lane)
        if found > low:
            await self._raise(stage, found, now_ms)
            stage.row.cursor = found
            count += 1
        return count

    def _far(self, stage: OpenStage, low: int) -> bool:
        main = stage.cursors.get(MAIN, 0)
        return (stage.row.total if main >= END else main) - low > self._lag

    def _by_rows(self, stage: OpenStage, low: int) -> int:
        with self._database.read() as connection:
            return contiguous(connection, stage.key, low, ROWS)

    async def _by_plan(self, stage: OpenStage, low: int, lane: str | None) -> tuple[int, list[str]]:
        """The first seq from `low` on, of a lane or of what is read as one, that has no row; and the lanes of what has
        none in the page that was looked at."""
        page = await self._plans.window(
            stage.plan_id,
            stage.key[1],
            low - 1,
            PAGE,
            only_lanes=None if lane is None else [lane],
            without_lanes=stage.lanes() if lane is None else (),
        )
        if not page.items:
            return (stage.row.total if page.end else low), []
        seqs = [item.seq for item in page.items]
        known = await asyncio.to_thread(self._with_rows, stage, seqs)
        missing = [item for item in page.items if item.seq not in known]
        if not missing:
            return (stage.row.total if page.end else seqs[-1] + 1), []
        return missing[0].seq, list(dict.fromkeys(item.lane for item in missing if item.lane))

    def _with_rows(self, stage: OpenStage, seqs: list[int]) -> set[int]:
        with self._database.read() as connection:
            return with_rows(connection, *stage.key, seqs)

    async def _next_lane(self, stage: OpenStage) -> int:
        """Looks at one lane that is read apart, each in its turn."""
        lanes = stage.lanes()
        at = self._lanes.get(stage.key, 0)
        self._lanes[stage.key] = at + 1
        lane = lanes[at % len(lanes)]
        if lane not in stage.lane_marks:
            # Another scheduler has split it off; the stage's own mark says nothing of it.
            stage.lane_marks.update(await asyncio.to_thread(self._lane_marks, stage))
        low = stage.lane_marks.get(lane, 0)
        if low > stage.cursors.get(lane_field(lane), 0):
            return 0
        found, _ = await self._by_plan(stage, low, lane)
        if found <= low:
            return 0

        def work(connection: sa.Connection, effects: Effects) -> None:
            raise_lane(connection, stage.key, lane, found)

        await self._commits.run(work)
        stage.lane_marks[lane] = found
        return 1

    def _lane_marks(self, stage: OpenStage) -> dict[str, int]:
        with self._database.read() as connection:
            return lane_marks(connection, *stage.key)

    async def _raise(self, stage: OpenStage, low: int, now_ms: int) -> None:
        def work(connection: sa.Connection, effects: Effects) -> None:
            raise_stage(connection, effects, stage.key, low, now_ms)

        await self._commits.run(work)
