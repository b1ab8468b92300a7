"""Limits over real parts: what is throttled is passed over, tried by one, then by more; operators change it all live.

Workers are played by hand, so that a test says when each outcome comes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import grpc
import orjson
import pytest
import redis.asyncio

import scheduler.limits
from penstock.runtime.errors import Unavailable
from penstock.v1 import rules_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler import engine
from tests.integration.scheduler.world import HandWorker, World, completed, failed, throttled

A, B = "domain:a.org", "domain:b.org"


def of(*keys: str) -> Callable[[int], dict[str, object]]:
    """Items that name these limits in turn; a key with a `+` names two."""
    return lambda i: {"limits": keys[i % len(keys)].split("+")}


async def declare(world: World, key: str, **settings: object) -> pb.Limit:
    return await world.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key=key, **settings)))  # type: ignore[arg-type]


async def seen(world: World, key: str) -> pb.Limit:
    found = (await world.limits.ListLimits(pb.ListLimitsRequest(prefix=key, page_size=1))).limits
    return found[0] if found else pb.Limit(key=key, state="open")


async def every(world: World) -> AsyncIterator[pb.Limit]:
    for limit in (await world.limits.ListLimits(pb.ListLimitsRequest())).limits:
        yield limit


async def seqs(worker: HandWorker, most: int, *, wait: float = 5.0) -> list[int]:
    return [lease.seq for lease in await worker.leases(most, wait=wait)]


async def test_what_is_throttled_costs_no_try_and_others_pass_it(world: World) -> None:
    run_id = await world.run(6, payload=of(A, B), max_tries=1)
    worker = world.worker()
    leases = await worker.leases(2)
    started = time.monotonic()
    await worker.report(run_id, [throttled(leases[0], A, 3), completed(leases[1])])
    passing = await worker.leases(6)
    assert [lease.seq for lease in passing] == [3, 5]
    await worker.report(run_id, [completed(lease) for lease in passing])
    limit = await seen(world, A)
    assert (limit.state, limit.cap, limit.held) == ("closed", 1, 0)
    assert "asked to come back in 3 s" in limit.reason
    probe = await worker.leases(6, wait=20)
    assert time.monotonic() - started >= 3
    assert [(lease.seq, lease.attempt, lease.tries) for lease in probe] == [(0, 2, 0)]
    assert await seqs(worker, 6, wait=0.1) == []  # one probe at a time
    await worker.report(run_id, [completed(probe[0])])
    rest = await worker.leases(6)
    assert [lease.seq for lease in rest] == [2, 4]
    await worker.report(run_id, [completed(lease) for lease in rest])
    await world.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED)
    types = [event.type for event in await world.events(run_id) if event.type.startswith("limit.")]
    assert types[0] == "limit.closed"


async def test_an_item_that_is_throttled_by_a_key_that_it_does_not_name_waits_all_the_same(world: World) -> None:
    run_id = await world.run(4, payload=lambda i: {"limits": [A]} if i < 2 else {})
    worker = world.worker()
    leases = await worker.leases(4)
    started = time.monotonic()
    await worker.report(run_id, [throttled(leases[0], "provider:x", 0.4), completed(leases[2]), completed(leases[3])])
    assert [limit.key async for limit in every(world)] == [A, f"lane:1:0:{A}", "provider:x"]
    assert await seqs(worker, 4, wait=0.6) == []  # its lane has one lease out, and takes no other yet
    await worker.report(run_id, [completed(leases[1])])
    probe = await worker.leases(4)
    assert time.monotonic() - started >= 0.4
    assert [lease.seq for lease in probe] == [0]


async def test_a_ramp_doubles_wave_by_wave(world: World) -> None:
    run_id = await world.run(60, payload=of(A))
    worker = world.worker()
    first = await worker.leases(1)
    await worker.report(run_id, [throttled(first[0], A, 0.05)])
    waves = []
    for _ in range(5):
        leases = await worker.leases(60)
        waves.append(len(leases))
        await worker.report(run_id, [completed(lease) for lease in leases])
    assert waves == [1, 2, 4, 8, 16]


async def test_a_throttled_probe_closes_for_longer_when_no_time_is_named(world: World) -> None:
    await declare(world, A, cooldown_seconds=0.1)
    run_id = await world.run(5, payload=of(A))
    worker = world.worker()
    for length in (0.1, 0.2, 0.4):
        leases = await worker.leases(5)
        started = time.monotonic()
        await worker.report(run_id, [throttled(lease, A) for lease in leases])
        limit = await seen(world, A)
        # Where it took longer to look than it was closed for, its time is over.
        assert limit.state == "closed" or time.monotonic() - started >= length
    told = (await world.limits.ListLimitEvents(pb.ListLimitEventsRequest(key=A, page_size=100))).events
    closed = [event for event in reversed(told) if event.type == "limit.closed"]
    lengths = [orjson.loads(event.data)["until_ms"] - event.time.ToMilliseconds() for event in closed]
    assert lengths == [100, 200, 400]


async def test_a_limits_concurrency_is_shared_by_runs(world: World) -> None:
    await declare(world, "provider:x", concurrency=3)
    await declare(world, "domain:*", concurrency=2)
    one = await world.run(4, payload=of(f"{A}+provider:x"))
    await world.run(4, payload=of(f"{B}+provider:x"))
    worker = world.worker()
    leases: list[tuple[str, pb.Lease]] = []
    while len(leases) < 3:  # the second run may be opened a moment later
        batches = (await worker.acquire(50)).batches
        assert batches
        leases += [(batch.run_id, lease) for batch in batches for lease in batch.leases]
    assert len(leases) == 3
    assert await seqs(worker, 50, wait=0.1) == []
    assert max(Counter(run_id for run_id, _ in leases).values()) == 2
    assert (await seen(world, "provider:x")).held == 3
    mine = [lease for run_id, lease in leases if run_id == one]
    await worker.report(one, [completed(lease) for lease in mine])
    assert len(await worker.leases(50)) == len(mine)


async def test_a_rate_lets_no_more_through_than_its_burst(world: World) -> None:
    await declare(world, "provider:x", rates=[pb.Rate(dimension="requests", per_minute=1_200, burst=4)])
    await world.run(50, payload=of("provider:x"))
    worker, got, started = world.worker(), 0, time.monotonic()
    while got < 20:
        got += len(await worker.leases(50))
        passed = time.monotonic() - started
        assert got <= 4 + 20 * passed + 1
    assert time.monotonic() - started < 20


async def test_an_adaptive_key_finds_its_concurrency(world: World) -> None:
    await declare(world, "domain:*", adaptive=True, concurrency=20, cooldown_seconds=0.05)
    run_id = await world.run(200, payload=of(A))
    worker = world.worker()
    waves = []
    for _ in range(4):
        leases = await worker.leases(50)
        waves.append(len(leases))
        await worker.report(run_id, [completed(lease) for lease in leases])
    assert waves == [2, 4, 8, 16]
    leases = await worker.leases(50)
    assert len(leases) == 20
    await worker.report(run_id, [throttled(lease, A) for lease in leases])  # one episode: one cut
    while (await seen(world, A)).state != "open":
        leases = await worker.leases(50)
        await worker.report(run_id, [completed(lease) for lease in leases])
    leases = await worker.leases(50)
    assert len(leases) == 10
    await worker.report(run_id, [completed(lease) for lease in leases])
    assert len(await worker.leases(50)) == 11


async def test_operators_close_open_and_set_limits_while_acquires_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "POLL_SECONDS", 60.0)
    await world.limits.CloseLimit(pb.CloseLimitRequest(key=A))
    run_id = await world.run(8, payload=of(A, B))
    worker = world.worker()
    assert await seqs(worker, 8) == [1, 3, 5, 7]
    waiting = asyncio.create_task(seqs(worker, 8, wait=20))
    await asyncio.sleep(0)
    await declare(world, A, concurrency=3)  # a closure outlives what is set
    assert (await seen(world, A)).state == "closed"
    await world.limits.OpenLimit(pb.OpenLimitRequest(key=A))
    async with asyncio.timeout(15):  # woken by it: nobody looks by himself so soon
        assert await waiting == [0, 2, 4]
    waiting = asyncio.create_task(seqs(worker, 8, wait=20))
    await declare(world, A, concurrency=4)
    async with asyncio.timeout(15):
        assert await waiting == [6]
    assert (await world.get(run_id)).counts.running == 8


async def test_a_closed_key_that_is_deleted_is_open(world: World) -> None:
    await declare(world, A, concurrency=2)
    await world.limits.CloseLimit(pb.CloseLimitRequest(key=A))
    await world.run(4, payload=of(A))
    worker = world.worker()
    assert await seqs(worker, 4, wait=0.1) == []
    await world.limits.DeleteLimit(pb.DeleteLimitRequest(key=A))
    assert await seqs(worker, 4) == [0, 1, 2, 3]


async def test_equal_failures_close_their_lane_and_other_lanes_go_on(world: World) -> None:
    valve = rules_pb2.ValveRules(failures=3, closed_seconds=3, max_seconds=20)
    run_id = await world.run(20, payload=of(A, B), rules=rules_pb2.StageRules(valve=valve), max_tries=1)
    worker = world.worker()
    leases = await worker.leases(6)
    await worker.report(
        run_id, [failed(lease, "no such host") if lease.seq % 2 == 0 else completed(lease) for lease in leases]
    )
    run = await world.get(run_id)
    assert run.counts.failed == 3
    leases = await worker.leases(20)
    assert all(lease.seq % 2 for lease in leases)
    await worker.report(run_id, [completed(lease) for lease in leases])
    probe = await worker.leases(20, wait=20)
    assert [lease.seq for lease in probe] == [6]
    await worker.report(run_id, [completed(probe[0])])
    assert await seqs(worker, 20) == [8, 10]
    closed = [event for event in await world.events(run_id, "limit.closed") if event.subject == "stage:0"]
    assert "3 equal failures in a row" in closed[0].reason


async def test_equal_failures_of_a_stage_close_it(world: World) -> None:
    valve = rules_pb2.ValveRules(failures=3, closed_seconds=0.3, max_seconds=1)
    run_id = await world.run(20, rules=rules_pb2.StageRules(valve=valve), max_tries=1)
    worker = world.worker()
    leases = await worker.leases(5)
    started = time.monotonic()
    await worker.report(run_id, [failed(lease, "the model is gone") for lease in leases])
    assert await seqs(worker, 20) == [5]
    assert time.monotonic() - started >= 0.25


async def test_closures_outlive_redis_and_the_scheduler(world: World, redis_url: str) -> None:
    await declare(world, B, concurrency=1)
    await world.limits.CloseLimit(pb.CloseLimitRequest(key=A))
    await world.run(8, payload=of(A, B))
    worker = world.worker()
    assert await seqs(worker, 8) == [1]
    client = redis.asyncio.from_url(redis_url)
    await client.flushall()
    await client.aclose()
    assert await seqs(worker, 8, wait=0.5) == []
    await world.restart_scheduler()
    assert (await seen(world, A)).state == "closed"
    assert await seqs(world.worker(), 8, wait=0.5) == []
    await world.limits.OpenLimit(pb.OpenLimitRequest(key=A))
    assert set(await seqs(world.worker(), 8)) == {0, 2, 4, 6}


async def test_a_redis_that_knows_other_limits_than_sql_is_told(
    world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a scheduler died between a commit and its word to Redis, and another went on with that Redis."""
    monkeypatch.setattr(scheduler.limits, "COMPARE_MS", 50)
    await declare(world, A, concurrency=1)
    await declare(world, "provider:*", concurrency=7)
    client = redis.asyncio.from_url(redis_url, decode_responses=True)
    right = {"limits": {A: "1 0"}, "patterns": {"provider:*": "7 0"}}

    async def told() -> None:
        deadline = time.monotonic() + 20
        while (known := {name: await client.hgetall(f"penstock:{{s}}:{name}") for name in right}) != right:
            assert time.monotonic() < deadline, known

    await told()  # Redis may still be made anew after the start
    await client.hdel("penstock:{s}:limits", A)
    await client.hset("penstock:{s}:limits", mapping={"domain:gone": "1 -1"})
    await client.hset("penstock:{s}:patterns", mapping={"provider:*": "9 0", "x:*": "1 0"})
    await told()
    await client.aclose()


async def test_what_a_broken_commit_granted_all_the_same_keeps_its_slot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare(world, A, concurrency=1)
    await world.run(3, payload=of(A))
    worker = world.worker()
    commits = world.scheduler.service.loops["commits"].func.__self__  # type: ignore[attr-defined]
    transaction, broken = commits._transaction, 0

    def breaks(group: list[object], made: list[object]) -> object:
        nonlocal broken
        answers = transaction(group, made)
        if broken < 2 and any(effects.changed for effects in made):  # type: ignore[attr-defined]
            broken += 1
            raise Unavailable("the connection broke while committing", code="sql_unavailable")
        return answers

    monkeypatch.setattr(commits, "_transaction", breaks)
    await world.until_ready(1, 3)
    with pytest.raises(grpc.aio.AioRpcError):
        await worker.acquire(1, grant_number=1)
    assert broken == 2
    first = pb.StartRunRequest(plan_id=await world.plan(3, payload=of(A)), priority=5)
    await world.runs.StartRun(first)
    await world.until_ready(2, 3)
    assert await world.worker("other").leases(3, wait=0.7) == []
    (batch,) = (await worker.acquire(1, grant_number=1)).batches
    assert [lease.seq for lease in batch.leases] == [0]
    assert (await seen(world, A)).held == 1
