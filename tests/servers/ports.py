"""Ports that a program is told and binds a moment later, or again after it was killed.

They lie below those that the system itself gives away: a port of that range that nobody has now may be anybody's by
then, since other tests bind and connect all the time. Each test process has a part of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket

__all__ = ["free_port", "free_ports"]

FIRST, LAST = 15_000, 32_000
PARTS = 8
"""Of test processes side by side; those of other test runs are met by chance alone."""


def _mine() -> range:
    number = int("".join(filter(str.isdigit, os.environ.get("PYTEST_XDIST_WORKER", ""))) or 0) % PARTS
    width = (LAST - FIRST) // PARTS
    return range(FIRST + number * width, FIRST + (number + 1) * width)


_AT = itertools.count(random.SystemRandom().randrange(LAST - FIRST))


def free_port() -> int:
    """A port of this machine that nobody has now."""
    mine = _mine()
    for _ in mine:
        port = mine[next(_AT) % len(mine)]
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def free_ports(count: int) -> list[int]:
    """So many, each of its own."""
    return [free_port() for _ in range(count)]
