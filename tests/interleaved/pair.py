"""Two schedulers on one PostgreSQL, and pairs of operations that they play against each other, statement by statement.

The first does `k` statements and stops, the second does `j` or goes on until it waits for a lock; then the first goes
to its end, then the second. Afterwards all rules hold between the rows, what each was answered is true, all of it looks
as if one had come wholly before the other, and whatever is left of the run can be worked off: nothing is lost.

This PostgreSQL runs with fsync off: who sees and locks what does not depend on it, only what a crash of its machine
leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from penstock.runtime.errors import Overloaded, PenstockError, Unavailable
from penstock.runtime.settings import Settings
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import ENDED_RUNS, ItemState, RunState
from scheduler.store.schema import items, metadata, runs
from tests.interleaved.gate import BLOCKED, DONE, GATE, REDIS
from tests.interleaved.operations import BESIDE_A_GRANT, OPERATIONS, PRICE, Done, Scene
from tests.interleaved.replica import Replica, plan_of, planner
from tests.interleaved.seen import Seen, seen
from tests.rules import breaches
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

__all__ = ["MOST_STATEMENTS", "Pair", "Played", "opened"]

MOST_STATEMENTS = 60
ITEMS = 10
MONEY = 5 * PRICE
ROUNDS = 12
"""Calls of a worker within which everything that is left must be done."""
LOCKS = "FOR UPDATE"
KEPT = ("leaders", "limits", "limit_events", "prices", "switches", "workers")
"""Tables that outlive a scene."""
_ACTS = OPERATIONS | BESIDE_A_GRANT
MOVES_ITEMS = frozenset({"grant", "report", "skip", "retry", "sweep", "end_session", "go_round"})
"""Beside these a grant is given what was ready when it asked Redis, before its transaction: that is no order's."""


@dataclass
class Played:
    """One interleaving. enough: the first had `k` statements; free: the second did not wait for a lock; second: what it
    did until it was let go."""

    enough: bool
    free: bool
    second: list[str]
    wrong: list[str]
    story: list[str] = field(default_factory=list)


class Pair:
    """Two schedulers, a database that both use, and an onlooker's connection."""

    def __init__(self, first: Replica, second: Replica, engine: sa.Engine) -> None:
        self.first, self.second = first, second
        self.engine = engine
        self.onlooker = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._numbers = itertools.count(1)
        self._orders: dict[tuple[str, str], list[Seen]] = {}
        names = [f'"{table.name}"' for table in metadata.sorted_tables if table.name not in KEPT]
        self._clear = sa.text(f"WITH {', '.join(f'a{n} AS (DELETE FROM {t})' for n, t in enumerate(names))} SELECT 1")

    def blocked(self, pid: int) -> bool:
        query = sa.text("SELECT cardinality(pg_blocking_pids(:pid)) > 0")
        return bool(self.onlooker.execute(query, {"pid": pid}).scalar_one())

    # -- before and after

    async def prepare(self) -> None:
        """What all scenes have in common: the price."""
        for replica in (self.first, self.second):
            await replica.granting()
        request = pb.SetPriceRequest(processor="noop", micros=PRICE, actor="test", request_id="price")
        await self.first.call("SetPrice", request)

    async def scene(self) -> Scene:
        number = next(self._numbers)
        one, two = (
            pb.WorkerSession(
                session=f"{name}-{number}", worker=name, worker_class=f"class-{number}", processors={"noop": "1"}
            )
            for name in ("one", "two")
        )
        plan, listed = plan_of(ITEMS)
        plan.stages[0].worker_class = one.worker_class
        plan.stages[0].paid = plan.stages[0].repeatable = True
        plan_id = self.first.planner.add(plan, listed)
        start = pb.StartRunRequest(plan_id=plan_id, actor="test", budget_micros=MONEY)
        run = await self.first.call("StartRun", start)
        scene = Scene(run.run_id, run.number, one, two)
        leases = await self._leases(self.first, one, MONEY // PRICE)
        scene.held = {lease.seq: lease for lease in leases if lease.seq < 3}
        ended = [
            pb.Outcome(seq=3, attempt=1, kind=pb.OUTCOME_KIND_FAILED, error="broken", permanent=True),
            pb.Outcome(seq=4, attempt=1, kind=pb.OUTCOME_KIND_RELEASED),
        ]
        batch = pb.OutcomeBatch(run_id=run.run_id, outcomes=ended)
        await self.first.call("Report", pb.ReportRequest(session=one, outcomes=[batch]))
        for replica in (self.first, self.second):
            await replica.open(run.number)
        return scene

    async def _leases(self, replica: Replica, session: pb.WorkerSession, most: int) -> list[pb.Lease]:
        request = pb.AcquireRequest(session=session, grant_number=1, max_leases=most, wait_seconds=5)
        response = await replica.call("Acquire", request)
        return [lease for batch in response.batches for lease in batch.leases]

    def clear(self) -> None:
        """Forgets the scene: what is looked at afterwards does not grow."""
        self.onlooker.execute(self._clear)

    # -- one interleaving

    async def in_order(self, names: tuple[str, str], *, swapped: bool) -> Seen:
        """What is seen when one comes wholly before the other."""
        scene = await self.scene()
        done: list[Done] = [Done(), Done()]
        for place in (1, 0) if swapped else (0, 1):
            replica = self.second if place else self.first
            done[place] = await ended(asyncio.ensure_future(_ACTS[names[place]].act(replica, scene)))
        with self.engine.connect() as connection:
            found = seen(connection, scene, done)
            wrong = [str(breach) for breach in breaches(connection)]
        wrong += await self._work_off(scene)
        assert not wrong, f"{names}, one after the other: {wrong}"
        self.clear()
        return found

    async def orders(self, names: tuple[str, str]) -> list[Seen]:
        if names not in self._orders:
            self._orders[names] = [await self.in_order(names, swapped=swapped) for swapped in (False, True)]
        return self._orders[names]

    async def interleaved(self, names: tuple[str, str], k: int, j: int) -> Played:
        orders = await self.orders(names)
        scene = await self.scene()
        first, second = self.first, self.second
        scene.grants = names.count("grant")
        a, b = (_ACTS[name] for name in names)
        first.gate.shut()
        second.gate.shut()
        tasks = [asyncio.ensure_future(a.act(first, scene))]
        moved = await first.gate.settled(tasks[0], self.blocked)
        for _ in range(k):
            moved = await first.gate.step(tasks[0], self.blocked)
        enough = moved == GATE
        tasks.append(asyncio.ensure_future(b.act(second, scene)))
        moved = await second.gate.settled(tasks[1], self.blocked)
        for _ in range(j):
            if moved != GATE:
                break
            moved = await second.gate.step(tasks[1], self.blocked)
        alone = list(second.gate.statements)
        begun = first.gate.statements[:-1] if enough else first.gate.statements  # it stands before the last one
        stopped = scene.rounds > 0 or (moved == DONE and names[1] in ("pause", "force_stop"))
        void = names[0] == "grant" and stopped and not any(LOCKS in one for one in begun)
        free = moved != BLOCKED
        first.gate.open()
        if free:
            # The first goes to its end, or waits for a lock of the second, while that one stands.
            while not tasks[0].done() and await first.gate.settled(tasks[0], self.blocked) not in (DONE, BLOCKED):
                pass
        second.gate.open()
        done = [await ended(task) for task in tasks]
        wrong = []
        with self.engine.connect() as connection:
            for name, operation, one in zip(names, (a, b), done, strict=True):
                if one.error is not None and not _expected(one.error):
                    wrong.append(f"{name}: raised {one.error!r}")
                elif said := operation.check(scene, one, connection):
                    wrong.append(f"{name}: {said}")
            if void and done[0].answer is not None and done[0].answer.batches:
                wrong.append("what was proposed before the run was paused or stopped was granted after it")
            if "grant" in names and set(names) <= MOVES_ITEMS:
                wrong += [str(breach) for breach in breaches(connection)]
            elif not wrong:
                # The two orders break no rule; nor does what looks like one of them.
                wrong += _in_no_order(seen(connection, scene, done), orders)
        steps = ([statement[:60] for statement in gate.statements] for gate in (first.gate, second.gate))
        story = [*map(str, steps), str(done)]
        if not wrong:
            wrong += await self._slots(scene) or await self._work_off(scene)
        self.clear()
        return Played(enough, free, alone, wrong, story)

    async def every(self, names: tuple[str, str]) -> AsyncIterator[tuple[int, int, Played]]:
        """Every interleaving of a pair that is played: (k, j) and what came of it. The first stops at every statement;
        the second goes as far as it can, or stops before it locks, or before it tells Redis. The other stops of the
        second are those of the first in the same pair the other way round."""
        for k in range(MOST_STATEMENTS):
            whole = await self.interleaved(names, k, MOST_STATEMENTS)
            yield k, MOST_STATEMENTS, whole
            if not whole.enough and k:
                break
            locks = False
            for j, statement in enumerate(whole.second):
                before_lock = not locks and LOCKS in statement and whole.free
                locks = locks or LOCKS in statement
                if before_lock or statement == REDIS:
                    yield k, j, await self.interleaved(names, k, j)

    async def _work_off(self, scene: Scene) -> list[str]:
        """Operators let the run go on, its workers end, another does what is left; what does not come to its end."""
        second, run_id = self.second, scene.run_id
        await ended(second.call("ResumeRun", pb.RunCommand(run_id=run_id, actor="test")))
        await ended(second.call("UpdateRun", pb.UpdateRunRequest(run_id=run_id, budget_micros=-1, actor="test")))
        for session in (scene.one, scene.two):
            await ended(second.call("EndSession", pb.EndSessionRequest(session=session)))
        session = pb.WorkerSession()
        session.CopyFrom(scene.one)
        session.session = f"three-{scene.number}"
        for turn in range(ROUNDS):
            if self._state(scene) in ENDED_RUNS:
                break
            await second.sweeps.due()
            if turn:
                # Two schedulers may tell Redis in another order than they committed: what it passed over is told again.
                await second.sweeps.untold()
            request = pb.AcquireRequest(session=session, grant_number=turn + 1, max_leases=ITEMS, wait_seconds=1)
            answer = await second.call("Acquire", request)
            outcomes = [
                pb.OutcomeBatch(run_id=batch.run_id, outcomes=[_completed(lease) for lease in batch.leases])
                for batch in answer.batches
            ]
            await second.call("Report", pb.ReportRequest(session=session, outcomes=outcomes))
        with self.engine.connect() as connection:
            wrong = [f"afterwards: {breach}" for breach in breaches(connection)]
        state = self._state(scene)
        if state not in (RunState.COMPLETED, RunState.COMPLETED_WITH_FAILURES):
            wrong.append(f"what was left of the run can't be worked off: it is {state}")
        return wrong

    async def _slots(self, scene: Scene) -> list[str]:
        """Held slots are live leases: what Redis holds as leased is what the rows say runs."""
        key = scene.number, 0
        later = self.first.engine.now_ms() + 10 * self.first.engine.term_ms
        found = await self.first.sweeps._ready.expired([key], later, 10 * ITEMS)
        held = sorted(seq for seq, _ in found.get(key, ()))
        query = sa.select(items.c.seq).where(items.c.run == scene.number, items.c.state == ItemState.RUNNING)
        running = sorted(self.onlooker.execute(query).scalars())
        return [] if held == running else [f"Redis holds {held} as leased, the rows say that {running} run"]

    def _state(self, scene: Scene) -> RunState:
        query = sa.select(runs.c.state).where(runs.c.number == scene.number)
        return RunState(self.onlooker.execute(query).scalar_one())


async def ended(call: Any) -> Done:
    try:
        return Done(answer=await asyncio.wait_for(call, 20))
    except Exception as error:
        return Done(error=error)


def _expected(error: Exception) -> bool:
    return isinstance(error, PenstockError) and not isinstance(error, Unavailable | Overloaded)


def _completed(lease: pb.Lease) -> pb.Outcome:
    return pb.Outcome(seq=lease.seq, attempt=lease.attempt, kind=pb.OUTCOME_KIND_COMPLETED, cost_micros=PRICE)


def _in_no_order(found: Seen, orders: list[Seen]) -> list[str]:
    """Where what is seen differs from both orders, told by the nearer one."""
    if found in orders:
        return []
    differences = [[part for part in found if found[part] != order[part]] for order in orders]
    parts, order = min(zip(differences, orders, strict=True), key=lambda one: len(one[0]))
    return [f"in no order: {part} is {found[part]}, not {order[part]}" for part in parts]


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Pair]:
    """Servers and schedulers of one process."""
    postgres, redis = PostgresServer(), RedisServer()
    try:
        with tempfile.TemporaryDirectory() as folder:
            url = postgres.create_database()
            _without_fsync(url)
            async with _schedulers(url, redis.url, Path(folder)) as pair:
                yield pair
    finally:
        redis.stop()
        postgres.stop()


def _without_fsync(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


@contextlib.asynccontextmanager
async def _schedulers(url: str, redis_url: str, folder: Path) -> AsyncIterator[Pair]:
    settings = Settings.model_validate(
        {
            "blobs": folder,
            "redis_url": redis_url,
            "planner_address": "none:1",
            "scheduler": {
                "database_url": url,
                "lease_term_seconds": 600,
                "sweep_seconds": 600,
                "retry_first_seconds": 0.01,
            },
        }
    )
    plans = planner()
    replicas = [Replica(plans), Replica(plans)]
    for replica in replicas:
        await replica.start(settings)
    engine = sa.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1), connect_args={"options": "-c search_path=scheduler"}
    )
    pair = Pair(replicas[0], replicas[1], engine)
    try:
        await pair.prepare()
        yield pair
    finally:
        pair.onlooker.close()
        engine.dispose()
        for replica in replicas:
            await replica.stop()
