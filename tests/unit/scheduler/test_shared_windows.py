"""What a scheduler learns of a stage that another one feeds too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from penstock.v1 import common_pb2, planner_pb2
from scheduler.open_stage import OpenStage
from scheduler.proposals import Proposed
from scheduler.ready import END, MAIN, Fed, lane_field
from scheduler.store.effects import Place
from scheduler.windows import Windows

LANE = "domain:x"


class OneStage:
    """Redis and the planner as far as one stage goes: its lane is read apart, up to seq 9, and nothing waits."""

    def __init__(self) -> None:
        self.cursors = {MAIN: END, lane_field(LANE): 9}
        self.fed: list[int] = []
        self.looks = 0

    def _told(self) -> Fed:
        return Fed(True, 0, dict(self.cursors), len(self.fed), {})

    async def add(self, *_: Any, **__: Any) -> Fed:
        self.looks += 1
        return self._told()

    async def feed(self, stage: object, epoch: int, places: Sequence[Place], *, field: str, to: int, **_: Any) -> Fed:
        self.fed += [seq for seq, _, _ in places]
        self.cursors[field] = to
        return self._told()

    async def window(self, *_: Any, only_lanes: Sequence[str], **__: Any) -> planner_pb2.ReadPlanItemsResponse:
        assert list(only_lanes) == [LANE]
        return planner_pb2.ReadPlanItemsResponse(items=[common_pb2.Item(seq=13, lane=LANE)], last_seq=13, end=True)


async def test_a_scheduler_asks_how_far_others_have_fed_a_stage_of_which_nothing_is_ready() -> None:
    other = OneStage()
    one = cast("Any", other)
    nobody = cast("Any", None)
    windows = Windows(nobody, one, one, nobody, shared=True, items=16, byte_limit=1_000_000, now_ms=lambda: 0)
    # It has not heard that the lane is read apart.
    stage = OpenStage((1, 0), "run", "plan", 0, cast("Any", None), cursors={MAIN: END})
    windows.stages[stage.key] = stage
    serving = asyncio.create_task(windows.serve(lambda why: None))
    for _ in range(3):
        windows.took(stage, Proposed([], 0, {}))
    await asyncio.wait_for(windows.fed.wait(), 5)
    assert other.fed == [13]
    assert other.looks == 1, "once a second at most"
    serving.cancel()
