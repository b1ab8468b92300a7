"""Every pair of operations, two schedulers on one PostgreSQL, interleaved at every statement.

The first does `k` statements, for every k, the second a few or all; then each goes to its end, one waiting for the
other's locks where it must. Afterwards all rules hold between the rows, and what each was answered is true.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from penstock.runtime.errors import PenstockError
from penstock.runtime.settings import Settings
from penstock.v1 import scheduler_pb2 as pb
from tests.interleaved.operations import OPERATIONS, Done, Scene
from tests.interleaved.replica import Replica, plan_of, planner
from tests.rules import breaches

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = list(OPERATIONS)
_NUMBERS = itertools.count(1)
MOST_STATEMENTS = 60
SECOND = (1, 3, MOST_STATEMENTS)
"""So many statements of the second before the first goes on; each pair is also played the other way round."""


class Pair:
    """Two schedulers, a database that both use, and an onlooker's connection."""

    def __init__(self, first: Replica, second: Replica, engine: sa.Engine) -> None:
        self.first, self.second = first, second
        self.engine = engine
        self.onlooker = engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def blocked(self, pid: int) -> bool:
        query = sa.text("SELECT cardinality(pg_blocking_pids(:pid)) > 0")
        return bool(self.onlooker.execute(query, {"pid": pid}).scalar_one())

    async def scene(self) -> Scene:
        number = next(_NUMBERS)
        one, two = (
            pb.WorkerSession(
                session=f"{name}-{number}", worker=name, worker_class=f"class-{number}", processors={"noop": "1"}
            )
            for name in ("one", "two")
        )
        plan, items = plan_of(10)
        plan.stages[0].worker_class = one.worker_class
        plan_id = self.first.planner.add(plan, items)
        run = await self.first.call("StartRun", pb.StartRunRequest(plan_id=plan_id, actor="test"))
        scene = Scene(run.run_id, run.number, one, two)
        leases = await self._leases(self.first, one, 5)
        scene.held = {lease.seq: lease for lease in leases if lease.seq < 3}
        ended = [
            pb.Outcome(seq=3, attempt=1, kind=pb.OUTCOME_KIND_FAILED, error="broken", permanent=True),
            pb.Outcome(seq=4, attempt=1, kind=pb.OUTCOME_KIND_RELEASED),
        ]
        batch = pb.OutcomeBatch(run_id=run.run_id, outcomes=ended)
        await self.first.call("Report", pb.ReportRequest(session=one, outcomes=[batch]))
        return scene

    async def _leases(self, replica: Replica, session: pb.WorkerSession, most: int) -> list[pb.Lease]:
        request = pb.AcquireRequest(session=session, grant_number=1, max_leases=most, wait_seconds=5)
        response = await replica.call("Acquire", request)
        return [lease for batch in response.batches for lease in batch.leases]

    async def over(self, scene: Scene) -> None:
        request = pb.StopRunRequest(run_id=scene.run_id, actor="test", force=True)
        with contextlib.suppress(PenstockError):
            await self.first.call("StopRun", request)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(postgres: Any, redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    redis_server.flush()
    url = postgres.create_database()
    settings = Settings.model_validate(
        {
            "blobs": tmp_path_factory.mktemp("blobs"),
            "redis_url": redis_server.url,
            "planner_address": "none:1",
            "scheduler": {"database_url": url, "lease_term_seconds": 600, "sweep_seconds": 600},
        }
    )
    plans = planner()
    replicas = [Replica(plans), Replica(plans)]
    for replica in replicas:
        await replica.start(settings)
    engine = sa.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1), connect_args={"options": "-c search_path=scheduler"}
    )
    one = Pair(replicas[0], replicas[1], engine)
    yield one
    for replica in replicas:
        replica.gate.open()
    one.onlooker.close()
    engine.dispose()
    for replica in replicas:
        await replica.stop()
    postgres.drop_database(url)


async def ended(task: asyncio.Task[Any]) -> Done:
    try:
        return Done(answer=await task)
    except PenstockError as error:
        return Done(error=error)


async def interleaved(pair: Pair, names: tuple[str, str], k: int, j: int) -> tuple[bool, bool, list[str]]:
    """Plays one interleaving; whether the first had `k` statements at all, whether the second had `j` without waiting
    for a lock, and what is wrong."""
    scene = await pair.scene()
    first, second = pair.first, pair.second
    a, b = (OPERATIONS[name] for name in names)
    first.gate.shut()
    second.gate.shut()
    tasks = [asyncio.ensure_future(a.act(first, scene))]
    moved = await first.gate.settled(tasks[0], pair.blocked)
    for _ in range(k):
        moved = await first.gate.step(tasks[0], pair.blocked)
    enough = moved == "gate"
    tasks.append(asyncio.ensure_future(b.act(second, scene)))
    moved = await second.gate.settled(tasks[1], pair.blocked)
    free = moved == "gate"
    for _ in range(j):
        moved = await second.gate.step(tasks[1], pair.blocked)
        free = moved == "gate"
        if not free:
            break
    for turn in range(2 * MOST_STATEMENTS):
        if tasks[0].done() or await first.gate.step(tasks[0], pair.blocked) != "gate":
            break
        assert turn < MOST_STATEMENTS, first.gate.statements
    second.gate.open()
    first.gate.open()
    done = [await asyncio.wait_for(ended(task), 20) for task in tasks]
    wrong = []
    with pair.engine.connect() as connection:
        for name, operation, one in zip(names, (a, b), done, strict=True):
            if said := operation.check(scene, one, connection):
                wrong.append(f"{name}: {said}")
        wrong += [str(breach) for breach in breaches(connection)]
    if wrong:
        wrong.append(f"first: {first.gate.statements}; second: {second.gate.statements}; {done}")
    await pair.over(scene)
    return enough, free, wrong


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("names", list(itertools.product(NAMES, NAMES)), ids="-".join)
async def test_what_is_acknowledged_is_true(pair: Pair, names: tuple[str, str]) -> None:
    tried = 0
    for k in range(MOST_STATEMENTS):
        for j in SECOND:
            enough, free, wrong = await interleaved(pair, names, k, j)
            tried += 1
            assert not wrong, f"{names[0]} after {k} statements, {names[1]} after {j}: {wrong}"
            if not free:
                break
        if not enough:
            break
    assert tried >= 2
