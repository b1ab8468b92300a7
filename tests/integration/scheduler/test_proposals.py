"""Between Redis's proposal and SQL's grant: whatever happens there, no item is left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis.asyncio
import sqlalchemy as sa

from penstock.runtime.errors import Unavailable
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from scheduler.open_stage import OpenStage
from scheduler.proposals import StageAsk
from scheduler.ready import Ready
from scheduler.windows import Windows
from tests.integration.scheduler.world import HandWorker, World, completed


async def work_off(world: World, run_id: str, *, seconds: float = 30.0) -> pb.Run:
    """Executes what can be leased until the run has ended; the run as it is after `seconds` at the latest."""
    worker = world.worker("rest")
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        leases = await worker.leases(50, wait=0.3)
        if leases:
            await worker.report(run_id, [completed(lease) for lease in leases])
        elif (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED:
            break
    return await world.get(run_id)


async def test_a_cancelled_acquire_leaves_no_proposal_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = await world.run(10)
    proposed = asyncio.Event()
    propose = Ready.propose

    async def slow(self: Ready, stages: Sequence[StageAsk], **bounds: int) -> Any:
        found = await propose(self, stages, **bounds)
        if not proposed.is_set():
            proposed.set()
            await asyncio.sleep(0.5)
        return found

    monkeypatch.setattr(Ready, "propose", slow)
    call = asyncio.create_task(world.worker("gone").leases(5))
    await asyncio.wait_for(proposed.wait(), 15)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert (await work_off(world, run_id)).state == pb.RUN_STATE_COMPLETED


async def test_a_proposal_whose_answer_is_lost_comes_back_after_a_term(
    hasty: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = hasty
    run_id = await world.run(10)
    propose = Ready.propose
    lost: list[object] = []

    async def deaf(self: Ready, stages: Sequence[StageAsk], **bounds: int) -> Any:
        found = await propose(self, stages, **bounds)
        if found and not lost:
            lost.append(found)
            raise RuntimeError("the answer never came")
        return found

    monkeypatch.setattr(Ready, "propose", deaf)
    with pytest.raises(Exception, match="error of Penstock"):
        await world.worker("unlucky").leases(5)
    assert lost
    assert (await work_off(world, run_id)).state == pb.RUN_STATE_COMPLETED


async def test_a_grant_that_sql_refuses_returns_its_proposals(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = await world.run(10)
    worker = world.worker("first")
    write = Database.write
    failing = 3

    @contextlib.contextmanager
    def full(self: Database) -> Iterator[sa.Connection]:
        nonlocal failing
        if failing and self.service == "scheduler":
            failing -= 1
            raise Unavailable("the disk is full: free some space", code="disk_full")
        with write(self) as connection:
            yield connection

    monkeypatch.setattr(Database, "write", full)
    for _ in range(3):
        with contextlib.suppress(Exception):
            await worker.leases(5, wait=0.1)
    assert not failing
    await worker.end()  # a sweep may have met the full disk in its place: then it was given leases
    assert (await work_off(world, run_id)).state == pb.RUN_STATE_COMPLETED, "within a term"


async def test_an_acquire_whose_session_ends_while_it_waits_takes_nothing_away(world: World) -> None:
    ending = world.worker("ending")
    waiting = asyncio.create_task(ending.leases(50, wait=3))
    await asyncio.sleep(0.2)
    await ending.end()
    run_id = await world.run(10)
    with pytest.raises(Exception, match="has ended"):
        await waiting
    assert (await work_off(world, run_id)).state == pb.RUN_STATE_COMPLETED, "within a term"


@pytest.mark.parametrize("how", ["pause", "stop", "force"])
async def test_taken_back_and_resumed_before_the_windows_follow(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    run_id = await world.run(10)
    worker = world.worker("first")
    leases = await worker.leases(4)
    refresh = Windows.refresh
    go_on = asyncio.Event()

    async def slow(self: Windows, number: int | None = None) -> None:
        await go_on.wait()
        await refresh(self, number)

    monkeypatch.setattr(Windows, "refresh", slow)
    if how == "pause":
        await world.runs.PauseRun(pb.RunCommand(run_id=run_id))
    else:
        await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, force=how == "force"))
    assert not await world.worker("second").leases(4, wait=0.2), "proposals of a run that takes nothing"
    if how != "force":
        await worker.report(run_id, [completed(lease) for lease in leases])
    await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))
    go_on.set()
    run = await work_off(world, run_id)
    assert run.state == pb.RUN_STATE_COMPLETED, run.stages


async def test_reports_while_redis_is_rebuilt_free_their_slots(
    world: World, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    run_id = await world.run(10, concurrency=4)
    worker = world.worker("first")
    leases = await worker.leases(4)
    assert len(leases) == 4
    rebuild = Ready.rebuild
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self: Ready, *arguments: Any, **options: Any) -> None:
        begun.set()
        await go_on.wait()
        await rebuild(self, *arguments, **options)

    monkeypatch.setattr(Ready, "rebuild", slow)
    client = redis.asyncio.from_url(redis_url)
    await client.flushall()
    await client.aclose()
    waiting = asyncio.create_task(world.worker("second").leases(4, wait=20))
    await asyncio.wait_for(begun.wait(), 15)
    reporting = asyncio.create_task(worker.report(run_id, [completed(lease) for lease in leases]))
    await asyncio.sleep(0.2)
    go_on.set()
    assert await reporting == []
    async with asyncio.timeout(18):  # less than a term
        assert len(await waiting) == 4


async def test_a_repeated_acquire_gets_what_its_first_call_was_granted_later(world: World) -> None:
    worker = world.worker("patient")
    plan_id = await world.plan(3)
    first = asyncio.create_task(worker.leases(3, wait=2))
    await asyncio.sleep(0.1)
    repeated = asyncio.create_task(repeat(worker, 3))
    await asyncio.sleep(0.1)
    run_id = (await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id))).run_id
    both = [await first, await repeated]
    assert [[(lease.seq, lease.attempt) for lease in each] for each in both] == [[(0, 1), (1, 1), (2, 1)]] * 2
    assert await worker.report(run_id, [completed(lease) for lease in both[0]]) == []


async def repeat(worker: HandWorker, most: int) -> list[pb.Lease]:
    """The acquire under way once more, as after a broken connection."""
    response = await worker.acquire(most, wait=2, grant_number=worker.grant_number)
    return [lease for batch in response.batches for lease in batch.leases]


async def test_what_a_lost_redis_proposed_takes_no_slots_of_its_heir(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key="domain:a", concurrency=2)), timeout=10)
    plan_id = await world.plan(10, payload=lambda i: {"limits": ["domain:a"]})
    await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id), timeout=10)
    await world.until_ready(1, 10)
    reading, go_on, read = asyncio.Event(), asyncio.Event(), Windows.read_missing

    async def slow(self: Windows, stage: OpenStage, seqs: Sequence[int]) -> None:
        if not reading.is_set():
            reading.set()
            await go_on.wait()
        await read(self, stage, seqs)

    took = Windows.took
    monkeypatch.setattr(Windows, "took", lambda *said: took(*said) or [seq for seq, _, _ in said[2].places])
    monkeypatch.setattr(Windows, "read_missing", slow)
    late = asyncio.create_task(world.worker("late").leases(2, wait=1.0))
    await asyncio.wait_for(reading.wait(), 15)
    client = redis.asyncio.Redis.from_url(world.settings.redis_url)
    await client.flushdb()
    await world.until_ready(1, 10)
    await client.aclose()
    go_on.set()
    held = len(await late)
    second = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, priority=9), timeout=10)
    await world.until_ready(second.number, 10)
    held += len(await world.worker("other").leases(2, wait=0.5 if held == 2 else 15))
    assert held == 2
