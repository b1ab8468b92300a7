"""No minute lets more through than a limit says, whatever its burst and whenever somebody asks."""

from __future__ import annotations

import random

import pytest

from scheduler.domain.limit_settings import rate_of
from scheduler.domain.limits import RateState
from scheduler.store.limit_rows import LimitRow
from tests.integration.scheduler.redis_world import RedisWorld

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
