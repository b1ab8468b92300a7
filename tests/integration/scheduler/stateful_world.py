"""One real scheduler for the stateful test: its program's own wiring, a real database and Redis, on one thread.

Time is virtual (the simulator's loop), calls need no socket, and what time alone brings about (sweeps, limits) happens
when the test says so. The database and Redis are made once and emptied for each example.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

import scheduler.__main__ as program
from penstock.runtime import metrics
from penstock.runtime.schema import migrate
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from penstock.v1 import common_pb2, planner_pb2
from scheduler.limits import Limits
from scheduler.ready import Lost
from scheduler.store.schema import metadata
from scheduler.sweeps import Sweeps
from tests.interleaved.replica import Calls
from tests.rules import Breach, breaches
from tests.simulator.loop import Process, VirtualLoop
from tests.simulator.planner_side import PlannerWorld, SimPlans
from tests.simulator.redis_side import RedisWorld, SimRedis
from tests.simulator.wire import Wire
from tests.simulator.world import BASE_MS, SimClock

__all__ = ["TERM_SECONDS", "Place", "StatefulWorld"]

TERM_SECONDS = 5.0
NEVER_SECONDS = 3_600.0
BY_HAND = ("sweeps", "limits", "archiving", "gauges", "workers", "tell", "listen", "poll")
"""Loops that the test plays itself, or has no use for."""

# All that there is to compare with the reference, in one statement: kind, number, text, four numbers.
_SEEN = """
SELECT 'item', seq, state, attempt, tries, cost_micros, reserved_micros FROM items
UNION ALL SELECT 'stage', 0, state, running, retry + 1000 * deferred, completed + 1000 * failed, skipped FROM stages
UNION ALL SELECT 'money', 0, '', spent_micros, reserved_micros, unknown_micros, 0 FROM stages
UNION ALL SELECT 'run', 0, state, spent_micros, reserved_micros, event_number,
  CASE WHEN waiting = '' THEN 0 ELSE 1 END FROM runs
UNION ALL SELECT 'ledger', 0, '', CAST(coalesce(sum(micros), 0) AS bigint), 0, 0, 0 FROM ledger
UNION ALL SELECT 'events', 0, '', count(*), coalesce(max(number), 0), 0, 0 FROM events
"""
_IDS = itertools.count(1)
"""Ids are of one example each: the scheduler remembers which run has which."""
Seen = tuple[str, int, str, int, int, int, int]


class Place:
    """A database and a Redis that outlive the examples."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        self.database_url = database_url
        self.folder = folder
        self.database = Database(database_url, "scheduler")
        migrate(self.database)
        self.onlooker = self.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self.redis = Wire(redis_url)
        self._empty = [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)]

    def clear(self) -> None:
        self.redis.flushdb()
        with self.database.write() as connection:
            for statement in self._empty:
                connection.exec_driver_sql(statement)

    def see(self) -> list[Seen]:
        return [tuple(row) for row in self.onlooker.exec_driver_sql(_SEEN)]

    def breaches(self) -> list[Breach]:
        return breaches(self.onlooker)

    def close(self) -> None:
        self.onlooker.close()
        self.database.close()
        self.redis.close()


class StatefulWorld:
    """One example's scheduler, at its own time."""

    def __init__(self, place: Place) -> None:
        place.clear()
        self.place = place
        self.loop = VirtualLoop(random.Random(0))  # type: ignore[abstract]
        self.loop.slow_share = 0.0
        self.redis = RedisWorld(place.redis, self.loop, lambda _: None)
        self.planner = PlannerWorld(self.loop, lambda _: None)
        self._process = Process("scheduler")
        self.calls = Calls()
        self.sweeps: Sweeps
        self.limits: Limits
        self.settings = Settings.model_validate(
            {
                "blobs": place.folder / "blobs",
                "redis_url": "redis://simulated:1/0",
                "planner_address": "simulated:1",
                "scheduler": {
                    "database_url": place.database_url,
                    "lease_term_seconds": TERM_SECONDS,
                    "sweep_seconds": NEVER_SECONDS,
                    "retry_first_seconds": 0.5,
                    "retry_max_seconds": 60.0,
                    "window_items": 10,
                },
            }
        )
        self.start()

    # -- the scheduler

    def start(self) -> None:
        """A new scheduler; the one before it is gone, as after a kill."""
        self._process.die()
        self._process = Process("scheduler")
        self.run(self._build())
        self.settle()

    async def _build(self) -> None:
        with self._wiring():
            service = await program.build(self.settings)
        self.calls = Calls()
        service.register(self.calls)  # type: ignore[arg-type]
        for name, body in service.loops.items():
            if name not in BY_HAND:
                self.loop.create_task(_forever(body), context=self._process.context.copy())

    @contextlib.contextmanager
    def _wiring(self) -> Iterator[None]:
        """While it is built, what it would open is ours."""

        async def clock(_: Database) -> SimClock:
            return SimClock(self.loop)

        def sweeps(*args: Any, **kwargs: Any) -> Sweeps:
            self.sweeps = Sweeps(*args, **kwargs)
            return self.sweeps

        def limits(*args: Any, **kwargs: Any) -> Limits:
            self.limits = Limits(*args, **kwargs)
            return self.limits

        nothing = lambda *_: None  # noqa: E731
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "of", lambda *_: self.place.database)
            patch.setattr(program, "prepare", nothing)
            patch.setattr(program, "hold", nothing)
            patch.setattr(program, "started", clock)
            patch.setattr(program, "Plans", lambda *_: SimPlans(self.planner))
            patch.setattr(program, "Sweeps", sweeps)
            patch.setattr(program, "Limits", limits)
            patch.setattr(program, "random_id", lambda prefix: f"{prefix}-{next(_IDS)}")
            patch.setattr(random, "random", lambda: 0.0)
            patch.setattr(metrics, "expose", nothing)
            patch.setattr(redis.asyncio, "from_url", lambda *_, **__: SimRedis(self.redis))
            yield

    # -- time

    @property
    def now_ms(self) -> int:
        return BASE_MS + int(self.loop.now * 1000)

    def pass_time(self, milliseconds: int) -> None:
        """Time jumps: what waited for a moment in between happens once, now."""
        self.loop.now = round(self.loop.now + milliseconds / 1000, 3)
        self.settle()

    def settle(self) -> None:
        """Everything that can happen now has happened."""
        self.loop.run(until=self.loop.now)
        raised = [context.get("exception") or context for context in self.loop.raised]
        assert not raised, raised

    def run(self, work: Any) -> Any:
        task = self.loop.create_task(work, context=self._process.context.copy())
        self.settle()
        assert task.done(), "the call waits for a time that does not come"
        return task.result()

    def call(self, method: str, request: Any) -> Any:
        """The answer. Raises PenstockError."""
        return self.run(self.calls.methods[method](request, None))

    def sweep(self) -> None:
        self.run(self._sweep())

    async def _sweep(self) -> None:
        try:
            await self.sweeps.due()
            if self.now_ms >= self.sweeps._engine.quiet_until_ms:
                await self.sweeps.expired()
            for one in ("adopted", "untold", "marks", "timed_out"):
                await getattr(self.sweeps, one)()
            await self.limits.look()
        except Lost as error:
            self.sweeps._engine.redis_lost(error)

    async def _notice(self) -> None:
        with contextlib.suppress(Lost):
            await self.sweeps.expired()
            raise AssertionError("nobody noticed that Redis was flushed")
        self.sweeps._engine.redis_lost(Lost())

    def recover(self) -> None:
        """Redis was flushed: a sweep notices, and it is made anew; when that is lost again, a moment later."""
        self.run(self._notice())
        self.wait_for_redis()

    def wait_for_redis(self) -> None:
        """Until it is made anew; what was lost a moment ago is tried later."""
        while not self.sweeps._engine.granting:
            self.pass_time(500)

    def flush_redis(self) -> None:
        self.place.redis.flushdb()

    # -- what there is

    def plan(self, items: list[common_pb2.Item], **stage: Any) -> str:
        plan = planner_pb2.Plan(name="stateful", kind=planner_pb2.SOURCE_KIND_ITEMS)
        plan.stages.add(
            stage=0, processor_version="1", parameters=b"{}", worker_class="default", max_run_seconds=80_000, **stage
        )
        return self.planner.add(plan, [items])

    def leases(self, number: int) -> tuple[set[int], dict[str, int]]:
        """Seqs of a run that Redis holds leases of, and the held slots of limits, runs and owners."""
        prefix = f"{self.settings.redis_prefix}:{{s}}"
        members, slots, shares = self.place.redis.together(
            [
                ("ZRANGE", f"{prefix}:leases:{number}:0", 0, -1),
                ("HGETALL", f"{prefix}:slots"),
                ("HGETALL", f"{prefix}:shares"),
            ]
        )
        seqs = {int(member.split()[0]) for member in members}
        told = [*slots, *shares]
        return seqs, {key.decode(): int(count) for key, count in zip(told[::2], told[1::2], strict=True)}


async def _forever(body: Callable[[], Awaitable[None]]) -> None:
    await body()
