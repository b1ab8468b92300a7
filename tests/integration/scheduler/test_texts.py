"""Texts of requests are taken or refused alike by both databases, and the refusal names the field."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
import pytest

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import World

CALLS: dict[str, Callable[[World, str], Awaitable[object]]] = {
    "plan_id": lambda world, _: world.runs.StartRun(pb.StartRunRequest(plan_id="a\0b")),
    "name": lambda world, _: world.runs.StartRun(pb.StartRunRequest(plan_id="p", name="a\0b")),
    "actor": lambda world, _: world.runs.StartRun(pb.StartRunRequest(plan_id="p", actor="a\0b")),
    "request_id": lambda world, run_id: world.runs.PauseRun(pb.RunCommand(run_id=run_id, request_id="a\0b")),
    "reason": lambda world, run_id: world.runs.StopRun(pb.StopRunRequest(run_id=run_id, reason="a\0b")),
    "run_id": lambda world, _: world.runs.GetRun(pb.GetRunRequest(run_id="a\0b")),
    "types": lambda world, run_id: world.runs.ListEvents(pb.ListEventsRequest(run_id=run_id, types=["\0"])),
}


async def test_a_nul_is_refused(world: World) -> None:
    run_id = await world.run(1)
    for field, call in CALLS.items():
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call(world, run_id)
        assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT, field
        assert (told.value.details() or "").startswith(f"{field} has a NUL"), field


async def test_a_text_that_nobody_reads_is_refused(world: World) -> None:
    run_id = await world.run(1)
    for call in (
        world.runs.StartRun(pb.StartRunRequest(plan_id="p", name="x" * 201)),
        world.runs.PauseRun(pb.RunCommand(run_id=run_id, reason="x" * 2_001)),
        world.runs.GetRun(pb.GetRunRequest(run_id="x" * 60_000)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call
        assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
