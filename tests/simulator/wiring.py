"""What a scheduler of the simulation is wired to: the program's own `build`, whose database, plans, clock and Redis
are of the world in whose process it runs.

Put in place once for all seeds of a process: a scheduler that dies while it is built leaves nothing behind.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import prometheus_client
import redis.asyncio
import sqlalchemy as sa
from prometheus_client import values

import scheduler.__main__ as program
from penstock.runtime import metrics
from penstock.runtime.clock import SharedClock
from penstock.runtime.sql import Database
from scheduler import database_time
from scheduler.sweeps import Sweeps
from tests.simulator.planner_side import SimPlans
from tests.simulator.redis_side import SimRedis
from tests.simulator.sql_side import SimDatabase
from tests.simulator.world import BUILDING, SimClock, World

__all__ = ["wired"]


def _world() -> World:
    return BUILDING.get().world


class _Clock(SimClock):
    @classmethod
    def start(cls, not_before_ms: int = 0) -> SimClock:
        return _world().start_clock(not_before_ms)


def _shared_clock(wall_ms: float) -> SharedClock:
    return SharedClock(wall_ms, monotonic=BUILDING.get().monotonic)


_LEADING = Sweeps.leading


async def _leading(sweeps: Sweeps) -> bool:
    """Two may believe that they lead."""
    world = _world()
    leads = await _LEADING(sweeps)
    if not leads and world.loop.now < world.both_lead_until:
        world.fired("two_lead")
        sweeps.led = leads = True
    return leads


def _nothing(*_: Any, **__: Any) -> None:
    pass


@contextmanager
def wired() -> Iterator[None]:
    """While this lasts, whatever a scheduler would open is simulated."""
    with ExitStack() as stack:
        for place, name, what in (
            (Database, "of", lambda *_: SimDatabase(_world().sql, shared=_world().shared)),
            (program, "prepare", _nothing),
            (program, "Plans", lambda *_: SimPlans(_world().planner)),
            (program, "random_id", lambda prefix: _world().new_id(prefix)),
            (database_time, "SystemClock", _Clock),
            (database_time, "SharedClock", _shared_clock),
            (database_time, "time", SimpleNamespace(monotonic=lambda: BUILDING.get().monotonic())),
            # What only PostgreSQL can: here transactions come one after another anyway.
            (database_time, "_NOW", sa.text("SELECT simulated_now()")),
            (Sweeps, "leading", _leading),
            (random, "random", lambda: _world().jitter.random()),
            (redis.asyncio, "from_url", lambda *_, **__: SimRedis(_world().redis)),
            (metrics, "expose", _nothing),
            # Nobody reads them here.
            (values.MutexValue, "inc", _nothing),
            (values.MutexValue, "set", _nothing),
            (prometheus_client.Histogram, "observe", _nothing),
        ):
            stack.enter_context(mock.patch.object(place, name, what))
        yield
