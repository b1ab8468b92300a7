"""Bad days of Redis: what is said, what is lost (nothing), and that it recovers by itself."""

from __future__ import annotations

import time

import pytest
import redis

from penstock.runtime.errors import Unavailable
from scheduler import engine
from tests.integration.scheduler.world import World, completed
from tests.servers.redis import RedisServer


async def test_a_redis_without_memory_is_said_plainly_and_recovers(
    world: World, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "UNWELL_SECONDS", 0.2)
    run_id = await world.run(40)
    worker = world.worker()
    held = await worker.leases(5)
    check = world.scheduler.service.checks["redis"]
    await check()
    raw = redis.Redis.from_url(redis_server.url)
    try:
        raw.config_set("maxmemory", "1")
        assert await worker.leases(5, wait=0.5) == []
        with pytest.raises(Unavailable, match="maxmemory"):
            await check()
        assert await worker.report(run_id, [completed(lease) for lease in held]) == []
    finally:
        raw.config_set("maxmemory", "0")
        raw.close()
    began = time.monotonic()
    assert [lease.seq for lease in await worker.leases(5)] == [5, 6, 7, 8, 9]
    assert time.monotonic() - began < 3
    await check()


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
    seqs += [lease.seq for lease in await worker.leases(5)]
    assert seqs == list(range(20))
