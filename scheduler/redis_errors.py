"""Turns what Redis's client raises for outside reasons into our own errors, said plainly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import redis.exceptions

from penstock.runtime.errors import Unavailable

__all__ = ["AWAY", "OUT_OF_MEMORY", "translated"]

AWAY, OUT_OF_MEMORY = "redis_unavailable", "redis_out_of_memory"
NO_MEMORY = "command not allowed when used memory"
"""What Redis answers then to whatever takes more: to a script before its first write, never in its middle."""


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # The client closes its connection when it is cancelled, and may tell that instead.
            raise asyncio.CancelledError from error
        if NO_MEMORY in str(error):
            words = "Redis is out of memory"
            raise Unavailable(f"{words} (maxmemory, noeviction)", code=OUT_OF_MEMORY, cause=words) from error
        silent = isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError | OSError)
        cause = "Redis does not answer" if silent else ""
        raise Unavailable(f"Redis can't be used: {error}", code=AWAY, cause=cause) from error
