"""How both Celery rivals are set: prefork 2, prefetch 128, no gossip, broker in Redis."""

from __future__ import annotations

import sys

from celery import Celery

from tests.bench.rivals import redis_url

__all__ = ["application", "worker_command"]

PROCESSES = 2
PREFETCH = 128


def application(backend: str) -> Celery:
    """A Celery that stores results in `backend`; its broker is Redis."""
    app = Celery("bench")
    app.conf.update(
        broker_url=redis_url().replace("unix://", "redis+socket://"),
        result_backend=backend,
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
    return app


def worker_command(module: str) -> list[str]:
    return [
        *(sys.executable, "-m", "celery", "-A", module, "worker", "-P", "prefork", "-c", str(PROCESSES)),
        *("--without-gossip", "--without-mingle", "-l", "ERROR"),
    ]
