"""SAQ with queue and results in Redis: two processes of a hundred tasks; jobs are enqueued a thousand at once."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from tests.bench.rivals import redis_url

__all__ = ["WORKERS"]

WORKERS = [[sys.executable, "-m", "saq", "tests.bench.rivals.saq_redis.settings", "--quiet"]] * 2
CONCURRENCY = 100
TOGETHER = 1_000


async def noop(context: Any, *, i: int) -> int:
    """Does nothing; its result is stored."""
    return 1


queue = RedisQueue(Redis.from_url(redis_url() or "redis://localhost", max_connections=2 * TOGETHER))
settings = {"queue": queue, "functions": [noop], "concurrency": CONCURRENCY}


async def produce(count: int) -> None:
    await queue.connect()
    for first in range(0, count, TOGETHER):
        await queue.map("noop", [{"i": number} for number in range(first, min(first + TOGETHER, count))], timeout=600)
    await queue.disconnect()


if __name__ == "__main__":
    from tests.bench.rivals import saq_redis

    asyncio.run(saq_redis.produce(int(sys.argv[1])))
