"""The same no-op as a Celery task: Redis broker and results, prefork 2, prefetch 128. As a module: the producer.

`python -m tests.bench.celery_tasks COUNT` sends COUNT tasks and waits for every result.
"""

from __future__ import annotations

import os
import sys

from celery import Celery
from celery.result import ResultSet

PROCESSES = 2
PREFETCH = 128

app = Celery("bench")
_URL = os.environ.get("PEN_BENCH_REDIS", "")
app.conf.update(
    broker_url=_URL,
    result_backend=_URL,
    # Celery's prefetch is this number for each process.
    worker_prefetch_multiplier=PREFETCH // PROCESSES,
    worker_concurrency=PROCESSES,
    task_ignore_result=False,
    task_acks_late=False,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")  # type: ignore[untyped-decorator]
def noop(payload: dict[str, int]) -> None:
    """Does nothing; its result is stored all the same."""
    return


def produce(count: int) -> None:
    """Sends them and returns when every result has been read."""
    results = [noop.apply_async(({"i": number},)) for number in range(count)]
    ResultSet(results).join_native(timeout=600, propagate=True)


if __name__ == "__main__":
    # The worker knows the tasks by this module's real name.
    from tests.bench import celery_tasks

    celery_tasks.produce(int(sys.argv[1]))
