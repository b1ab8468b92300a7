"""Dramatiq with broker and results in Redis: two processes of eight threads; stored results are counted."""

from __future__ import annotations

import sys
import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from tests.bench.rivals import redis_url

__all__ = ["WORKERS"]

WORKERS = [
    [sys.executable, "-m", "dramatiq", "tests.bench.rivals.dramatiq_redis", "-p", "2", "-t", "8", "--skip-logging"]
]
PAUSE_SECONDS = 0.1

# Without the middleware for metrics and time limits: nothing here needs them, and they cost.
broker = RedisBroker(url=redis_url() or None, middleware=[])  # type: ignore[no-untyped-call]
results = RedisBackend(url=redis_url() or None, namespace="bench")
broker.add_middleware(Results(backend=results, store_results=True))  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(payload: dict[str, int]) -> int:
    """Does nothing; its result is stored."""
    return 1


def produce(count: int) -> None:
    client = redis.Redis.from_url(redis_url())

    def stored() -> int:
        # Every result is a key of its own; the queue has a handful beside them.
        return int(client.dbsize())

    before = stored()
    for number in range(count):
        noop.send({"i": number})
    while stored() < before + count - 10:
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    from tests.bench.rivals import dramatiq_redis

    dramatiq_redis.produce(int(sys.argv[1]))
