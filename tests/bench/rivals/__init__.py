"""Task queues that Penstock is measured beside: the same no-op, each tuned as its own documents say, results stored.

A rival is a module here with `WORKERS` (command lines that start its workers, two processes in all, one for each core)
and a producer: `python -m tests.bench.rivals.NAME COUNT` enqueues COUNT items and returns when every result is stored.
Servers are told by PEN_BENCH_REDIS and PEN_BENCH_POSTGRESQL.
"""

from __future__ import annotations

import os

__all__ = ["NAMES", "postgresql_url", "redis_url"]

NAMES = ("celery_redis", "celery_postgresql", "dramatiq_redis", "huey_redis", "saq_redis", "procrastinate_postgresql")


def redis_url() -> str:
    """unix:///path of the server's socket."""
    return os.environ.get("PEN_BENCH_REDIS", "")


def postgresql_url() -> str:
    return os.environ.get("PEN_BENCH_POSTGRESQL", "")
