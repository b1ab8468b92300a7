"""Celery with broker and results in Redis: prefork 2, prefetch 128, results read by one subscription."""

from __future__ import annotations

import sys

from celery.result import ResultSet

from tests.bench.rivals import redis_url
from tests.bench.rivals.celery_settings import application, worker_command

__all__ = ["WORKERS"]

WORKERS = [worker_command("tests.bench.rivals.celery_redis")]

app = application(redis_url().replace("unix://", "redis+socket://"))


@app.task(name="noop")  # type: ignore[untyped-decorator]
def noop(payload: dict[str, int]) -> None:
    """Does nothing; its result is stored all the same."""
    return


def produce(count: int) -> None:
    results = [noop.apply_async(({"i": number},)) for number in range(count)]
    ResultSet(results).join_native(timeout=600, propagate=True)


if __name__ == "__main__":
    # The worker knows the tasks by this module's real name.
    from tests.bench.rivals import celery_redis

    celery_redis.produce(int(sys.argv[1]))
