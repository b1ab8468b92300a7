"""No minute lets more through than a limit says, whatever its burst and whenever somebody asks."""

from __future__ import annotations

import random

import pytest

from scheduler.domain.limit_settings import rate_of
from scheduler.domain.limits import RateState
from scheduler.store.limit_rows import LimitRow
from tests.integration.scheduler.redis_world import RedisWorld, limit

MINUTE = 60_000


@pytest.mark.parametrize(
    ("dimension", "per_minute", "burst", "estimate"),
    [
        ("requests", 60, 0, 0),
        ("requests", 60, 30, 0),
        ("requests", 1, 0, 0),
        ("requests", 7, 3, 0),
        ("tokens", 600, 0, 20),
    ],
)
async def test_no_minute_passes_the_rate_and_it_is_used(
    redis_url: str, dimension: str, per_minute: float, burst: float, estimate: float
) -> None:
    rate = rate_of(RateState(dimension, per_minute, burst, estimate))
    key = "provider:x"
    world, randomness = RedisWorld(redis_url), random.Random(per_minute)
    try:
        await world.build(limits={key: LimitRow(key=key, declared=True, rates=(rate,)).state()})
        await world.open((1, 0), [key] * 600)
        world.now += 10 * MINUTE  # the bucket is full
        began, started = world.now, list[int]()
        while world.now < began + 2 * MINUTE:
            world.now += randomness.choice([20, 97, 400, 900, 2_000])
            started += [world.now] * len(await world.seqs(randomness.choice([1, 3, 50])))
        for first in started:
            assert sum(first <= at < first + MINUTE for at in started) * rate.estimate <= per_minute
        assert len(started) * rate.estimate >= 0.5 * 2 * per_minute
    finally:
        await world.close()


async def test_buckets_that_nobody_took_from_for_a_day_are_forgotten_and_were_full(redis_url: str) -> None:
    day, world = 24 * 60 * MINUTE, RedisWorld(redis_url)
    try:
        await world.build(limits=limit("domain:*", requests=(60, 2, 1)))
        await world.open((1, 0), ["domain:a", "domain:b", "domain:b", "domain:b"])
        world.now += MINUTE
        assert await world.seqs(1) == [0]
        world.now += day
        assert await world.seqs(9) == [1, 2], "a burst is two"
        assert await world.ready.tidy(0, idle_ms=day, now_ms=world.now) == (0, 0), "nothing is older than a day"
        world.now += 1
        assert await world.ready.tidy(0, idle_ms=day, now_ms=world.now) == (0, 1)
        assert world.raw.hkeys("test:{s}:buckets") == ["domain:b requests"], "what was touched since stays"
        await world.open((2, 0), ["domain:a"] * 3, epoch=1)
        assert len(await world.seqs(9, world.ask((2, 0)))) == 2, "one that was forgotten is full, not fuller"
    finally:
        await world.close()


async def test_a_bucket_that_is_not_full_again_after_a_day_is_not_forgotten(redis_url: str) -> None:
    day, world = 24 * 60 * MINUTE, RedisWorld(redis_url)
    try:
        await world.build(limits=limit("domain:*", requests=(60, 2, 1)))
        # Its items used far more than was estimated: two days and more of what it refills.
        world.raw.hset("test:{s}:buckets", "domain:a requests", f"-200000 {world.now}")
        world.now += day + 1
        assert await world.ready.tidy(0, idle_ms=day, now_ms=world.now) == (0, 0)
        world.now += 2 * day
        assert await world.ready.tidy(0, idle_ms=day, now_ms=world.now) == (0, 1)
    finally:
        await world.close()
