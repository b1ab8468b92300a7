"""What is broken, and how often: each kind at least once, then by its weight, drawn from a seed.

A strike that hits nothing (the program was dead already, Redis was away) is not counted.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable

import redis.exceptions
import sqlalchemy as sa

from tests.chaos.cluster import TERM_SECONDS, Cluster, Program
from tests.chaos.slots import snapshot

__all__ = ["Faults"]

CUT_SECONDS = 3.0
"""For the next request after which the proxy cuts."""


class Faults:
    """`strike` breaks something; `kills` counts SIGKILLs, `struck` all that hit."""

    def __init__(self, cluster: Cluster, source: random.Random) -> None:
        self.cluster = cluster
        self.random = source
        self.struck: Counter[str] = Counter()
        self.kills = 0
        self._kept: dict[bytes, bytes] = {}
        past, moment = 2.0 * TERM_SECONDS, 1.0
        workers, schedulers = cluster.workers, cluster.schedulers
        self._kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "worker killed": (12, lambda: self._kill(self.random.choice(workers))),
            "scheduler killed": (8, lambda: self._kill(self.random.choice(schedulers))),
            "both schedulers killed": (1, self._schedulers),
            "schedulers restarted one by one": (1, self._roll),
            "planner killed": (2, lambda: self._kill(cluster.planner)),
            "worker stopped past its lease": (3, lambda: cluster.suspend(self.random.choice(workers), past)),
            "worker stopped for a moment": (1, lambda: cluster.suspend(self.random.choice(workers), moment)),
            "scheduler stopped past its leases": (1, lambda: cluster.suspend(self.random.choice(schedulers), past)),
            "redis killed": (2, self._redis),
            "redis restarted": (1, self._restart_redis),
            "redis flushed": (2, self._flush),
            "redis rolled back": (2, self._roll_back),
            "redis rolled back, both schedulers killed": (1, self._roll_back_unseen),
            "postgresql backend killed": (2, self._backend),
            "postgresql killed whole": (1, self._postgres),
            "postgresql connections ended": (2, self._connections),
            "connections cut after a request": (8, self._cut),
        }
        # Each kind once, however short the run, in an order of the seed; then by weight.
        self._first = source.sample(sorted(self._kinds), len(self._kinds))

    @property
    def never(self) -> list[str]:
        """Kinds that have not hit yet."""
        return [name for name in self._kinds if not self.struck[name]]

    def strike(self) -> str:
        if self._first:
            name = self._first.pop()
        else:
            names = list(self._kinds)
            (name,) = self.random.choices(names, [self._kinds[name][0] for name in names])
        self._keep()
        try:
            hit = self._kinds[name][1]()
        except (redis.exceptions.RedisError, sa.exc.DBAPIError, OSError, subprocess.SubprocessError) as error:
            return self._missed(name, type(error).__name__)
        if not hit:
            return self._missed(name, "it was away already")
        self.struck[name] += 1
        return name

    def _missed(self, name: str, why: str) -> str:
        if not self.struck[name]:  # once more, a little later
            self._first.insert(0, name)
        return f"({name}: {why})"

    def _keep(self) -> None:
        """Now and then remembers what Redis holds."""
        if not self._kept or self.random.random() < 0.3:
            with contextlib.suppress(redis.exceptions.RedisError):
                self._kept = snapshot(self.cluster.redis_client())

    def _kill(self, program: Program) -> bool:
        hit = program.kill()
        self.kills += hit
        return hit

    def _schedulers(self) -> bool:
        hit = [self._kill(one) for one in self.cluster.schedulers]
        return all(hit)

    def _roll(self) -> bool:
        hit = [self.cluster.restart_scheduler(one) for one in self.cluster.schedulers]
        return all(hit)

    def _redis(self) -> bool:
        self.cluster.redis.kill()
        self.kills += 1
        self.cluster.redis.start()
        return True

    def _restart_redis(self) -> bool:
        self.cluster.redis.restart()
        return True

    def _flush(self) -> bool:
        self.cluster.redis.flush()
        return True

    def _roll_back(self) -> bool:
        client = self.cluster.redis_client()
        pipeline = client.pipeline(transaction=True)
        pipeline.flushall()
        for key, value in self._kept.items():
            pipeline.restore(key, 0, value)
        pipeline.execute()
        return bool(self._kept)

    def _roll_back_unseen(self) -> bool:
        """Nobody is left who remembers how far Redis was."""
        return self._schedulers() & self._roll_back()

    def _backend(self) -> bool:
        """One backend dies without a word: PostgreSQL ends all others and recovers from its log."""
        pids = self._asked("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL")
        if not pids:
            return False
        os.kill(self.random.choice(pids), signal.SIGKILL)
        self.kills += 1
        return True

    def _postgres(self) -> bool:
        self.cluster.postgres.kill()
        self.kills += 1
        self.cluster.postgres.start()
        return True

    def _connections(self) -> bool:
        ended = self._asked(
            "SELECT pg_terminate_backend(pid)::int FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
        )
        return any(ended)

    def _asked(self, query: str) -> list[int]:
        engine = self.cluster.engine()
        try:
            with engine.connect() as connection:
                return list(connection.execute(sa.text(query)).scalars())
        finally:
            engine.dispose()

    def _cut(self) -> bool:
        before = self.cluster.proxy.cuts
        self.cluster.proxy.cut()
        deadline = time.monotonic() + CUT_SECONDS
        while self.cluster.proxy.cuts == before and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.cluster.proxy.cuts > before
