"""Calls that a worker of ours does not make, and that harm nobody but who makes them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import World, completed

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        ({"cost_micros": 2**63 - 1}, r"\$0 to \$1,000,000.00 are possible"),
        ({"used": {"tokens": -5}}, "used -5 of 'tokens'"),
        ({"used": {"tokens": 2**63 - 1}}, "used 9,223,372,036,854,775,807 of 'tokens'"),
        ({"used": {"a\nb": 1}}, "of a word are possible"),
        ({"used": {f"d{i}": 1 for i in range(17)}}, "used 17 dimensions; 16 are possible"),
        ({"kind": pb.OUTCOME_KIND_DEFERRED, "until_time": Timestamp(seconds=2**60)}, "until_time of item 0 is no time"),
    ],
)
async def test_amounts_and_times_that_nothing_could_add_to_are_bad_input(
    world: World, outcome: dict[str, Any], problem: str
) -> None:
    run_id = await world.run(1)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    said = {"kind": pb.OUTCOME_KIND_COMPLETED, **outcome}
    with pytest.raises(grpc.aio.AioRpcError, match=problem) as refused:
        await worker.report(run_id, [pb.Outcome(seq=lease.seq, attempt=lease.attempt, **said)])
    assert refused.value.code() is INVALID
    assert await worker.report(run_id, [completed(lease)]) == []


async def test_a_wait_that_is_no_number_is_bad_input(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="wait_seconds is not a number") as refused:
        await asyncio.wait_for(world.worker().acquire(1, wait=float("nan")), 5)
    assert refused.value.code() is INVALID


async def test_a_top_up_beyond_all_money_is_bad_input(world: World) -> None:
    run_id = await world.run(1)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    held = pb.LeaseId(run_id=run_id, seq=lease.seq, attempt=lease.attempt)
    with pytest.raises(grpc.aio.AioRpcError, match=r"\$0.000001 to \$1,000,000.00 are possible") as refused:
        await worker.stub.TopUp(pb.TopUpRequest(session=worker.session, lease=held, micros=2**62), timeout=10)
    assert refused.value.code() is INVALID


async def test_the_last_word_of_a_session_that_has_ended_is_judged_by_its_fences(world: World) -> None:
    run_id = await world.run(3)
    worker = world.worker()
    done, late, later = await worker.leases(3)
    assert await worker.report(run_id, [completed(done)]) == []
    await worker.renew(run_id, [late, later])
    await worker.end()
    assert await worker.report(run_id, [completed(done)]) == []
    paid = completed(late)
    paid.cost_micros = 7
    assert await worker.report(run_id, [paid]) == ["expired"]
    assert (await world.get(run_id)).money.spent_micros == 7
    paid = completed(later)
    paid.cost_micros = 5
    batch = pb.OutcomeBatch(run_id=run_id, outcomes=[paid])
    with pytest.raises(grpc.aio.AioRpcError, match="has ended"):
        await worker.acquire(1, wait=0, report=[batch])
    assert (await world.get(run_id)).money.spent_micros == 12


@pytest.mark.parametrize("field", ["session", "worker", "worker_class"])
@pytest.mark.parametrize(("text", "problem"), [("x" * 201, "has 201 characters"), ("a\0b", "has a NUL character")])
async def test_a_worker_whose_name_no_index_takes_is_refused(world: World, field: str, text: str, problem: str) -> None:
    worker = world.worker()
    setattr(worker.session, field, text)
    for call in (worker.acquire(1, wait=0), worker.renew("run", []), worker.report("run", []), worker.end()):
        with pytest.raises(grpc.aio.AioRpcError, match=f"{field} {problem}") as refused:
            await call
        assert refused.value.code() is INVALID
