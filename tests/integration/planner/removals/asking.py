"""What tests of removals ask of planner and scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import planner.__main__
from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import calling
from penstock.runtime.errors import NotFound
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from planner.removals.dropped_files import KEPT_MS, DroppedFiles
from tests.integration.planner.conftest import FakeClock
from tests.integration.planner.planned import Plans
from tests.integration.scheduler.world import World
from tests.servers.inprocess import serve

BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
"""Where locks and statements decide."""


class Killed(Exception):
    """What a planner meets that dies here: nothing of it runs any more."""


async def remove(plans: Plans, plan: planner_pb2.Plan, **fields: Any) -> planner_pb2.DeletePlanResponse:
    with calling():
        return await plans.stub.DeletePlan(planner_pb2.DeletePlanRequest(plan_id=plan.plan_id, **fields), timeout=20)


async def remove_source(plans: Plans, name: str = "mice", *, look: bool = False) -> planner_pb2.DeleteSourceResponse:
    with calling():
        return await plans.stub.DeleteSource(planner_pb2.DeleteSourceRequest(name=name, validate_only=look))


async def there(plans: Plans, plan: planner_pb2.Plan) -> bool:
    try:
        with calling():
            await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id))
    except NotFound:
        return False
    return True


async def start(plans: Plans, plan: planner_pb2.Plan) -> pb.Run:
    with calling():
        return await plans.world.runs.StartRun(pb.StartRunRequest(plan_id=plan.plan_id, confirm=True), timeout=20)


async def runs_of(plans: Plans, plan: planner_pb2.Plan) -> list[pb.Run]:
    with calling():
        return list((await plans.world.runs.ListRuns(pb.ListRunsRequest(plan_id=plan.plan_id))).runs)


async def stopped(plans: Plans, plan: planner_pb2.Plan) -> pb.Run:
    """A run of it that nothing was done of."""
    run = await start(plans, plan)
    with calling():
        await plans.world.runs.StopRun(pb.StopRunRequest(run_id=run.run_id, actor="ann", force=True))
    return await plans.world.until(run.run_id, lambda one: one.state == pb.RUN_STATE_STOPPED)


async def resume(plans: Plans, run: pb.Run) -> pb.RunCommandResponse:
    with calling():
        return await plans.world.runs.ResumeRun(pb.RunCommand(run_id=run.run_id, actor="ann"))


async def restarted(world: World) -> None:
    """As after a kill -9 of the planner: a new one at its address."""
    address = world.planner.address
    await world.planner.crash()
    world.planner = await serve(planner.__main__.build, world.settings, address=address)
    await asyncio.wait_for(world.channel(address).channel_ready(), 10)


async def nothing() -> None:
    """Happens meanwhile."""


def around(
    monkeypatch: pytest.MonkeyPatch,
    part: type,
    step: str,
    *,
    before: Callable[[], Awaitable[object]] = nothing,
    after: Callable[[], Awaitable[object]] = nothing,
) -> None:
    """What happens just before and just after this step, the first time that it is come to."""
    real = getattr(part, step)

    async def once(self: object, *args: Any, **more: Any) -> Any:
        monkeypatch.setattr(part, step, real)
        await before()
        answer = await real(self, *args, **more)
        await after()
        return answer

    monkeypatch.setattr(part, step, once)


def done(monkeypatch: pytest.MonkeyPatch, part: type, step: str) -> asyncio.Event:
    """Set once this step, which runs in a thread, is done."""
    loop, event, real = asyncio.get_running_loop(), asyncio.Event(), getattr(part, step)

    def told(self: object, *args: Any, **more: Any) -> Any:
        answer = real(self, *args, **more)
        loop.call_soon_threadsafe(event.set)
        return answer

    monkeypatch.setattr(part, step, told)
    return event


def stages(concurrency: int) -> list[planner_pb2.StageSpec]:
    return [planner_pb2.StageSpec(processor="noop", concurrency=concurrency)]


class Files:
    """The planner's rows of a world, and its dropped files, swept as by the planner."""

    def __init__(self, world: World) -> None:
        self.clock = FakeClock(4_000_000_000_000)
        self.blobs = BlobStore(world.settings.blob_folder())
        self.database = Database(world.settings.planner.database_url, "planner")
        self.dropped = DroppedFiles(self.database, self.blobs, self.clock)

    def sweep(self) -> int:
        """Long after all that was dropped so far was seen."""
        assert self.dropped.sweep() == 0, "not before its hour"
        self.clock.ms += KEPT_MS
        return self.dropped.sweep()

    def of(self, plan: planner_pb2.Plan) -> Path:
        with self.database.read() as connection:
            row = connection.exec_driver_sql(
                f"SELECT items_sha256 FROM plans WHERE plan_id = '{plan.plan_id}'"
            ).scalar_one()
        return self.blobs.path(row)

    def count(self, table: str) -> int:
        with self.database.read() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())
