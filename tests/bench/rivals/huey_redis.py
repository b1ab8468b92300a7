"""Huey with queue and results in Redis: two worker processes that block on the queue."""

from __future__ import annotations

import sys
import time

from huey import RedisHuey

from tests.bench.rivals import redis_url

__all__ = ["WORKERS"]

WORKERS = [
    [
        *(sys.executable, "-m", "huey.bin.huey_consumer", "tests.bench.rivals.huey_redis.huey"),
        *("-k", "process", "-w", "2", "--no-periodic", "--quiet"),
    ]
]
PAUSE_SECONDS = 0.1

huey = RedisHuey("bench", url=redis_url() or None, blocking=True, results=True)


@huey.task()  # type: ignore[untyped-decorator]
def noop(payload: dict[str, int]) -> int:
    """Does nothing; its result is stored."""
    return 1


def produce(count: int) -> None:
    before = huey.result_count()
    for number in range(count):
        noop({"i": number})
    while huey.result_count() < before + count:
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    from tests.bench.rivals import huey_redis

    huey_redis.produce(int(sys.argv[1]))
