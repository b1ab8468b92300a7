"""Bad days of Redis: what is said, what is lost (nothing), and that it recovers by itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import redis

from penstock.runtime import metrics
from penstock.runtime.errors import Unavailable
from penstock.runtime.program import Check
from penstock.v1 import scheduler_pb2 as pb
from scheduler import engine
from tests.integration.scheduler.world import World, completed
from tests.servers.redis import RedisServer


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for before the world: its scheduler tells at once that nothing is leased."""
    monkeypatch.setattr(engine, "UNWELL_SECONDS", 0.2)


async def test_a_redis_without_memory_is_said_plainly_and_recovers(
    impatient: None, world: World, redis_server: RedisServer
) -> None:
    run_id = await world.run(40)
    worker = world.worker()
    held = await worker.leases(5)
    check = world.scheduler.service.checks["redis"]
    await check()
    raw = redis.Redis.from_url(redis_server.url)
    try:
        raw.config_set("maxmemory", "1")
        assert await worker.leases(5, wait=0.5) == []
        with pytest.raises(Unavailable, match="maxmemory") as told:
            await check()
        explained = await world.runs.ExplainRun(pb.ExplainRunRequest(run_id=run_id), timeout=10)
        assert [reason.code for reason in explained.reasons] == ["redis_unavailable"]
        assert "maxmemory" in explained.reasons[0].text
        assert told.value.cause == "Redis is out of memory"
        assert await worker.report(run_id, [completed(lease) for lease in held]) == []
    finally:
        raw.config_set("maxmemory", "0")
        raw.close()
    assert [lease.seq for lease in await worker.leases(5, wait=20)] == [5, 6, 7, 8, 9]
    await check()
    assert not (await world.runs.ExplainRun(pb.ExplainRunRequest(run_id=run_id), timeout=10)).reasons


async def test_while_redis_is_away_runs_and_items_are_explained_by_that(tmp_path: Path, database_url: str) -> None:
    server = RedisServer()
    world = await World.start(tmp_path, server.url, database_url)
    try:
        run_id = await world.run(3)
        await world.worker().leases(1)
        server.kill()
        run = await world.runs.ExplainRun(pb.ExplainRunRequest(run_id=run_id), timeout=20)
        item = await world.runs.ExplainItem(pb.ExplainItemRequest(run_id=run_id, seq=1), timeout=20)
        for told in (run, item):
            assert [reason.code for reason in told.reasons] == ["redis_unavailable"]
            assert told.reasons[0].text.startswith("nothing is leased: Redis can't be used: ")
    finally:
        await world.stop()
        server.stop()


async def test_a_redis_that_is_nearly_full_is_left_as_it_is_and_said_until_it_has_memory(
    impatient: None, world: World, redis_server: RedisServer
) -> None:
    await world.run(3_000, concurrency=1_000)
    await world.until_ready(1, 3_000)
    worker, check = world.worker(), world.scheduler.service.checks["redis"]
    raw = redis.Redis.from_url(redis_server.url)
    ready = next(raw.scan_iter(match=f"{world.settings.redis_prefix}:*:ready:1:*"))
    try:
        # The second run takes more. Made anew, Redis would have room again, until the windows are read.
        raw.config_set("maxmemory", raw.info("memory")["used_memory"] + 30_000)
        await world.run(3_000, concurrency=1_000)
        await _until_unready(check)
        rebuilds = metrics.REDIS_REBUILDS._value.get()
        for _ in range(20):
            with pytest.raises(Unavailable, match="out of memory"):
                await check()
            await asyncio.sleep(0.1)
        assert metrics.REDIS_REBUILDS._value.get() == rebuilds
        assert raw.zcard(ready) == 3_000
    finally:
        raw.config_set("maxmemory", "0")
        raw.close()
    seen: list[tuple[str, int]] = []
    while len(seen) < 6_000:
        batches = (await worker.acquire(1_000, wait=20)).batches
        assert batches, "nothing is leased"
        for batch in batches:
            seen += [(batch.run_id, lease.seq) for lease in batch.leases]
            assert await worker.report(batch.run_id, [completed(lease) for lease in batch.leases]) == []
    assert len(set(seen)) == 6_000
    await check()


async def test_what_a_full_redis_did_not_hear_it_hears_when_it_has_memory(
    tmp_path: Path, redis_server: RedisServer, database_url: str
) -> None:
    """Leases that ended meanwhile hold no slots until their term is over."""
    world = await World.start(tmp_path, redis_server.url, database_url)
    raw = redis.Redis.from_url(redis_server.url)
    try:
        run_id = await world.run(10, concurrency=5)
        worker = world.worker()
        leases = await worker.leases(5)
        raw.config_set("maxmemory", "1")
        assert await worker.report(run_id, [completed(lease) for lease in leases]) == []
        assert await worker.leases(5, wait=1.0) == []
        raw.config_set("maxmemory", "0")
        # Long before the term of those that ended is over.
        assert [lease.seq for lease in await worker.leases(5, wait=15)] == [5, 6, 7, 8, 9]
        world.check()
    finally:
        raw.config_set("maxmemory", "0")
        raw.close()
        await world.stop()


async def _until_unready(check: Check) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            await check()
        except Unavailable:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it stayed ready")


async def test_an_old_copy_of_redis_is_noticed_and_nothing_is_leased_twice(world: World, redis_url: str) -> None:
    await world.run(60)
    worker = world.worker()
    raw = redis.Redis.from_url(redis_url)
    seqs = [lease.seq for lease in await worker.leases(5)]
    copy = {key: raw.dump(key) for key in raw.keys("*")}
    seqs += [lease.seq for lease in await worker.leases(5)]
    seqs += [lease.seq for lease in await worker.leases(5)]
    raw.flushall()
    for key, value in copy.items():
        raw.restore(key, 0, value)  # type: ignore[arg-type]
    raw.close()
    seqs += [lease.seq for lease in await worker.leases(5, wait=20)]
    assert seqs == list(range(20))
