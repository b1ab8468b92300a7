"""Turns what Redis's client raises for outside reasons into our own errors, said plainly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import redis.exceptions
from redis.asyncio.sentinel import MasterNotFoundError

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
        cause = _cause(error)
        said = cause if cause in _SAID else f"Redis can't be used: {error}"
        raise Unavailable(said, code=AWAY, cause=cause) from error


REFUSED = "Redis refuses user or password (redis_url)"
NO_RIGHT = "Redis's user may not do what is needed (its ACL)"
NOT_TRUSTED = "Redis's certificate is not trusted, or of another host (redis_ca_file)"
NO_MASTER = "no Sentinel names a master of this service (redis_url)"
_SAID = frozenset({REFUSED, NO_RIGHT, NOT_TRUSTED, NO_MASTER})
"""What says more than the client's own words."""


def _cause(error: Exception) -> str:
    text = str(error)
    # By their words, too: some come as another class while a connection begins.
    if isinstance(error, redis.exceptions.NoPermissionError) or "NOPERM" in text:
        return NO_RIGHT
    if isinstance(error, redis.exceptions.AuthenticationError) or "WRONGPASS" in text or "NOAUTH" in text:
        return REFUSED
    if "Authentication required" in text or "without any password configured" in text:
        return REFUSED
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return NOT_TRUSTED
    if isinstance(error, MasterNotFoundError):
        return NO_MASTER
    silent = isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError | OSError)
    return "Redis does not answer" if silent else ""
