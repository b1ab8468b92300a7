"""What is broken, and how often: each kind by its weight, drawn from a seed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable

import redis.exceptions
import sqlalchemy as sa

from tests.chaos.cluster import TERM_SECONDS, Cluster
from tests.chaos.slots import snapshot

__all__ = ["Faults"]


class Faults:
    """`strike` breaks something; `kills` counts SIGKILLs, `struck` all."""

    def __init__(self, cluster: Cluster, source: random.Random) -> None:
        self.cluster = cluster
        self.random = source
        self.struck: Counter[str] = Counter()
        self.kills = 0
        self._kept: dict[bytes, bytes] = {}
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "worker killed": (12, self._worker),
            "scheduler killed": (8, self._scheduler),
            "both schedulers killed": (1, self._schedulers),
            "planner killed": (2, self._planner),
            "worker stopped": (4, self._suspend_worker),
            "scheduler stopped": (1, self._suspend_scheduler),
            "redis killed": (3, self._redis),
            "redis flushed": (2, self._flush),
            "redis rolled back": (2, self._roll_back),
            "redis rolled back and both schedulers killed": (1, self._roll_back_unseen),
            "postgresql killed": (2, self._postgres),
            "postgresql connections ended": (2, self._connections),
            "connections cut": (8, self.cluster.proxy.cut),
        }
        # Each kind once, however short the run, in an order of the seed; then by weight.
        self._first = source.sample(sorted(self._kinds), len(self._kinds))

    def strike(self) -> str:
        if self._first:
            name = self._first.pop()
        else:
            names = list(self._kinds)
            (name,) = self.random.choices(names, [self._kinds[name][0] for name in names])
        self._keep()
        try:
            self._kinds[name][1]()
        except (redis.exceptions.RedisError, sa.exc.DBAPIError, OSError):
            return f"{name}: it was away already"
        self.struck[name] += 1
        return name

    def _keep(self) -> None:
        """Now and then remembers what Redis holds."""
        if not self._kept or self.random.random() < 0.3:
            with contextlib.suppress(redis.exceptions.RedisError):
                self._kept = snapshot(self.cluster.redis_client())

    def _worker(self) -> None:
        self.random.choice(self.cluster.workers).kill()
        self.kills += 1

    def _scheduler(self) -> None:
        self.random.choice(self.cluster.schedulers).kill()
        self.kills += 1

    def _schedulers(self) -> None:
        for one in self.cluster.schedulers:
            one.kill()
            self.kills += 1

    def _planner(self) -> None:
        self.cluster.planner.kill()
        self.kills += 1

    def _suspend_worker(self) -> None:
        self.cluster.suspend(self.random.choice(self.cluster.workers), self.random.choice((1, 2 * TERM_SECONDS)))

    def _suspend_scheduler(self) -> None:
        self.cluster.suspend(self.random.choice(self.cluster.schedulers), self.random.choice((1, 2 * TERM_SECONDS)))

    def _redis(self) -> None:
        self.cluster.redis.kill()
        self.kills += 1
        self.cluster.redis.start()

    def _flush(self) -> None:
        self.cluster.redis.flush()

    def _roll_back(self) -> None:
        client = self.cluster.redis_client()
        pipeline = client.pipeline(transaction=True)
        pipeline.flushall()
        for key, value in self._kept.items():
            pipeline.restore(key, 0, value)
        pipeline.execute()

    def _roll_back_unseen(self) -> None:
        """Nobody is left who remembers how far Redis was."""
        self._schedulers()
        self._roll_back()

    def _postgres(self) -> None:
        """One backend dies without a word: PostgreSQL ends all others and recovers from its log."""
        engine = self.cluster.engine()
        with engine.connect() as connection:
            pids = list(
                connection.execute(
                    sa.text("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL")
                ).scalars()
            )
        engine.dispose()
        if pids:
            os.kill(self.random.choice(pids), signal.SIGKILL)
            self.kills += 1

    def _connections(self) -> None:
        engine = self.cluster.engine()
        with engine.connect() as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
                )
            )
        engine.dispose()
