"""`kill -9` of the planner at any moment of what it writes: nothing of it is half there, and the next one mends it.

A real planner and a real scheduler, on SQLite and on PostgreSQL. Each act is first done once undisturbed, which tells
how long it takes and what comes of it; then again and again, and at a random moment of that time the planner is killed,
or by turns the database or the scheduler. After each kill what died is started again on what it left: what is told is
whole, no file is there that nobody names and nobody will remove, and the act done again ends as the undisturbed one
did.
"""

from __future__ import annotations

import gzip
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import orjson
import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import NotFound, Unavailable
from penstock.v1 import planner_pb2 as p
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from penstock.v1 import sources_pb2 as sp
from planner.domain.history import HistoryKey
from planner.estimate_rows import EstimateRows
from planner.results.copying import MERGED
from planner.results.history_rows import HistoryRows
from planner.results.rows import ResultRows
from tests.chaos.cluster import ROOT, Program
from tests.chaos.pair import START_SECONDS, Pair, killed
from tests.integration.scheduler.world import HandWorker, completed
from tests.servers.ports import free_ports
from tests.servers.postgres import PostgresServer

MOMENTS = int(os.environ.get("PLANNER_KILLS", "2"))
"""At which each act is disturbed: at least so many, and one for each who may die (`make chaos-planner KILLS=20`)."""
ROWS = 20_000
ITEMS, COST = 1_000, 7
KEY = HistoryKey("noop", "1", "sleep_seconds=0.0")
NOOP = [p.StageSpec(processor="noop")]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def lines(count: int, price: int = 1) -> bytes:
    brands = ("Acer", "Razer", "Logitech")
    rows = (
        {"product_id": f"{n:06}", "brand": brands[n % 3], "model": f"m {n}", "price": n * price} for n in range(count)
    )
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


@pytest.fixture(scope="module")
def postgres_to_kill() -> Iterator[PostgresServer]:
    """Of this module alone: others' tests go on with theirs."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> AsyncIterator[Pair]:
    postgres: PostgresServer | None = None
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres_to_kill")
    database_url = postgres.create_database() if postgres else f"sqlite:///{tmp_path}/planner.db"
    port, scheduler_port = free_ports(2)
    environment = {
        "PYTHONPATH": str(ROOT),
        "PENSTOCK_BLOBS": str(tmp_path / "blobs"),
        "PENSTOCK_REDIS_URL": redis_url,
        "PENSTOCK_PLANNER_ADDRESS": f"127.0.0.1:{port}",
        "PENSTOCK_PLANNER__LISTEN": f"127.0.0.1:{port}",
        "PENSTOCK_PLANNER__DATABASE_URL": database_url,
        "PENSTOCK_PLANNER__SOURCE_FOLDERS": orjson.dumps([str(tmp_path / "served")]).decode(),
        "PENSTOCK_SCHEDULER_ADDRESS": f"127.0.0.1:{scheduler_port}",
        "PENSTOCK_SCHEDULER__LISTEN": f"127.0.0.1:{scheduler_port}",
        "PENSTOCK_SCHEDULER__DATABASE_URL": database_url if postgres else f"sqlite:///{tmp_path}/scheduler.db",
    }
    lifeline, held = os.pipe()
    programs = [Program(name, name, environment, tmp_path, lifeline) for name in ("planner", "scheduler")]
    one = Pair(tmp_path, programs[0], programs[1], port, scheduler_port, database_url, postgres)
    try:
        await one.start_planner()
        await one.start(one.scheduler, scheduler_port)
        yield one
    finally:
        await one.stop()
        os.close(held)
        os.close(lifeline)


def moments(seconds: float, seed: int, victims: Sequence[str], *, least: int = MOMENTS) -> list[tuple[float, str]]:
    """Random ones, of each share of the time that the act takes; and who dies then. Each does once at least."""
    source, count = random.Random(seed), max(least, len(victims))
    return [
        (seconds * 1.1 * (number + source.random()) / count, victims[number % len(victims)]) for number in range(count)
    ]


async def took(act: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    await act()
    return time.monotonic() - began


async def register(pair: Pair, data: bytes, name: str) -> p.Source:
    async def parts() -> AsyncIterator[p.CreateSourceRequest]:
        header = p.CreateSourceRequest.Header(kind=p.SOURCE_KIND_CATALOG, name=name, actor="ann")
        yield p.CreateSourceRequest(header=header)
        yield p.CreateSourceRequest(file=p.CreateSourceRequest.File(name="mice.jsonl"))
        for first in range(0, len(data), 1 << 20):
            yield p.CreateSourceRequest(chunk=data[first : first + (1 << 20)])

    with calling():
        return await pair.stub.CreateSource(parts())


async def versions(pair: Pair, name: str) -> list[tuple[int, int]]:
    """(version, rows that can be read) of a name, the latest first."""
    stub = pair.stub
    try:
        with calling():
            found = (await stub.ListSourceVersions(p.ListSourceVersionsRequest(name=name))).sources
    except NotFound:
        return []
    counted = []
    with calling():
        for one in found:
            request = p.ReadSourceRowsRequest(source_id=one.source_id, query=sp.RowQuery(filter="price >= 0"))
            counted.append((one.version, (await stub.ReadSourceRows(request)).total))
    return counted


async def made(pair: Pair, source: str, **fields: object) -> p.Plan:
    request = p.CreatePlanRequest(source_id=source, stages=NOOP, selection=sp.Selection(filter="price > 10"), **fields)  # type: ignore[arg-type]
    with calling():
        return await pair.stub.CreatePlan(request)


async def kept_plans(pair: Pair) -> set[str]:
    """Ids of all plans, each of which can be read to its end."""
    stub = pair.stub
    with calling():
        found = (await stub.ListPlans(p.ListPlansRequest())).plans
        for plan in found:
            last = p.ReadPlanItemsRequest(plan_id=plan.plan_id, seqs=[0, plan.item_count - 1])
            assert len((await stub.ReadPlanItems(last)).items) == 2
    return {plan.plan_id for plan in found}


async def test_a_source_that_was_being_registered_is_there_whole_or_not_at_all(pair: Pair) -> None:
    seconds = await took(lambda: register(pair, lines(ROWS), "first"))
    for number, (delay, victim) in enumerate(moments(seconds, 1, pair.victims())):
        name, data = f"mice-{number}", lines(ROWS, number + 2)
        over = await killed(pair, lambda name=name, data=data: register(pair, data, name), delay, victim)  # type: ignore[misc]
        found = await versions(pair, name)
        assert found == [(1, ROWS)] or (not over and not found)
        assert pair.orphans() == set()
        again = await register(pair, data, name)
        assert (again.version, again.item_count) == (1, ROWS)
        assert await versions(pair, name) == [(1, ROWS)]


async def test_a_source_that_was_being_refreshed_has_its_old_version_or_the_new_one(pair: Pair) -> None:
    file = pair.folder / "served" / "mice.jsonl"
    file.parent.mkdir()
    file.write_bytes(lines(ROWS))
    request = p.AddSourceRequest(
        kind=p.SOURCE_KIND_CATALOG, name="mice", origin=sp.Origin(server_path=str(file)), actor="ann"
    )
    stub = pair.stub
    with calling():
        await stub.AddSource(request)

    async def refresh() -> p.Source:
        with calling():
            return await pair.stub.RefreshSource(p.RefreshSourceRequest(name="mice"))

    file.write_bytes(lines(ROWS, 2))
    seconds = await took(refresh)
    for number, (delay, victim) in enumerate(moments(seconds, 2, pair.victims())):
        before = await versions(pair, "mice")
        file.write_bytes(lines(ROWS, number + 3))
        over = await killed(pair, refresh, delay, victim)
        found, newer = await versions(pair, "mice"), [(before[0][0] + 1, ROWS), *before]
        assert found == newer or (not over and found == before)
        assert pair.orphans() == set()
        await refresh()
        assert await versions(pair, "mice") == newer


async def test_a_plan_that_was_being_made_is_there_whole_or_not_at_all(pair: Pair) -> None:
    await register(pair, lines(ROWS), "mice")
    wanted = [await made(pair, "mice", ordering=sp.Ordering(sort=["price desc"]))]
    seconds = await took(lambda: made(pair, "mice", ordering=sp.Ordering(pinned=["Razer"])))
    for number, (delay, victim) in enumerate(moments(seconds, 3, pair.victims())):
        order = sp.Ordering(sort=["model", "price"], pinned=["Acer"] * (number % 2), groups=[f"g{number}"])
        before = await kept_plans(pair)
        over = await killed(pair, lambda order=order: made(pair, "mice", ordering=order), delay, victim)  # type: ignore[misc]
        found = await kept_plans(pair)
        assert found == before if not over and len(found) == len(before) else len(found - before) == 1
        assert pair.orphans() == set()
        again = await made(pair, "mice", ordering=order)
        assert await kept_plans(pair) == before | {again.plan_id}
    assert (await made(pair, "mice", ordering=sp.Ordering(sort=["price desc"]))).plan_id == wanted[0].plan_id


async def test_a_plan_that_was_being_imported_is_there_whole_or_not_at_all(pair: Pair) -> None:
    await register(pair, lines(ROWS), "mice")
    plan = await made(pair, "mice", name="taken along")
    with calling():
        parts = [part.chunk async for part in pair.stub.ExportPlan(p.ExportPlanRequest(plan_id=plan.plan_id))]
    assert gzip.decompress(b"".join(parts))

    async def forget() -> None:
        with calling():
            await pair.stub.DeletePlan(p.DeletePlanRequest(plan_id=plan.plan_id))
            await pair.stub.DeleteSource(p.DeleteSourceRequest(name="mice"))

    async def brought() -> p.Plan:
        async def sent() -> AsyncIterator[p.ImportPlanRequest]:
            yield p.ImportPlanRequest(header=p.ImportPlanRequest.Header(actor="ann"))
            for part in parts:
                for first in range(0, len(part), 1 << 20):
                    yield p.ImportPlanRequest(chunk=part[first : first + (1 << 20)])

        with calling():
            return await pair.stub.ImportPlan(sent())

    await forget()
    seconds = await took(brought)
    for delay, victim in moments(seconds, 4, pair.victims()):
        await forget()
        over = await killed(pair, brought, delay, victim)
        found = await kept_plans(pair)
        assert found == {plan.plan_id} or (not over and not found)
        assert await versions(pair, "mice") in ([(1, ROWS)], []) if not found else [(1, ROWS)]
        assert pair.orphans() == set()
        assert (await brought()).plan_id == plan.plan_id
        assert await kept_plans(pair) == {plan.plan_id}
        assert await versions(pair, "mice") == [(1, ROWS)]


async def ran(pair: Pair, plan: p.Plan, number: int) -> str:
    """A run of a plan to its end."""
    request = pb.StartRunRequest(plan_id=plan.plan_id, actor="ann", confirm=True, request_id=f"run-{number}")
    deadline = time.monotonic() + START_SECONDS
    while True:  # whoever died before may have been the scheduler's planner or database
        try:
            with calling():
                run = await pair.runs.StartRun(request)
            break
        except Unavailable:
            assert time.monotonic() < deadline
    session = pb.WorkerSession(
        session=f"hand-{number}", worker="hand", worker_class="default", processors={"noop": "1"}
    )
    worker = HandWorker(scheduler_pb2_grpc.LeaseServiceStub(pair.channels["scheduler"]), session)
    left = plan.item_count
    while left:
        leases = await worker.leases(500)
        outcomes = [completed(lease, {"confidence": 0.5}) for lease in leases]
        for outcome in outcomes:
            outcome.cost_micros = COST
        assert not await worker.report(run.run_id, outcomes)
        left -= len(leases)
    await worker.end()
    return run.run_id


async def planned_again(pair: Pair) -> p.Plan:
    """A plan of all its rows, whatever was done; with an estimate of what was gathered until now."""
    selection = sp.Selection(filter="price > 10", again=True)
    with calling():
        return await pair.stub.CreatePlan(p.CreatePlanRequest(source_id="mice", stages=NOOP, selection=selection))


async def gathered(pair: Pair) -> p.ListEstimatesResponse:
    """Copies what settled, and compares what has ended."""
    with calling():
        return await pair.stub.ListEstimates(p.ListEstimatesRequest(page_size=1_000))


async def check_results(pair: Pair, plan: p.Plan, ended: list[str]) -> None:
    """Of all these runs of a plan: every outcome counts, once."""
    await pair.scheduler_answers()
    found = await gathered(pair)
    assert list(found.notes) == []
    assert [one.run_id for one in found.estimates] == ended[:0:-1], "the first was told nothing"
    assert {one.cost_micros.actual for one in found.estimates} <= {COST * plan.item_count}
    with pair.sql() as database:
        history = HistoryRows(database).read([KEY])[KEY]
        assert history.items == plan.item_count * len(ended)
        assert EstimateRows(database).told([plan.plan_id])
    query = sp.RowQuery(filter="result.state = completed", result_of="noop")
    with calling():
        page = await pair.stub.ReadSourceRows(p.ReadSourceRowsRequest(source_id="mice", query=query))
    assert page.total == plan.item_count
    assert pair.orphans() == set()


async def test_results_that_were_being_gathered_are_all_there_once(pair: Pair) -> None:
    await register(pair, lines(ITEMS), "mice")
    ended = [await ran(pair, await planned_again(pair), 0)]
    seconds = await took(lambda: gathered(pair))
    for number, (delay, victim) in enumerate(moments(seconds, 5, pair.victims(gathers=True)), 1):
        plan = await planned_again(pair)
        ended.append(await ran(pair, plan, number))
        await killed(pair, lambda: gathered(pair), delay, victim)
        if victim == "planner":  # again, before it has caught up
            await killed(pair, lambda: gathered(pair), delay / 2)
        await check_results(pair, plan, ended)


async def test_parts_that_were_being_merged_are_there_once_as_they_were_or_as_one(pair: Pair) -> None:
    await register(pair, lines(ITEMS // 4), "mice")
    ended: list[str] = []
    times: list[float] = []

    async def rounds(count: int) -> p.Plan:
        for _ in range(count):
            plan = await planned_again(pair)
            ended.append(await ran(pair, plan, len(ended)))
            times.append(await took(lambda: gathered(pair)))
        return plan

    await rounds(MERGED)
    merges, alone = times[-1], min(times[1:-1])
    # Half as many: before each, so many runs are made as are merged.
    for delay, victim in moments(max(merges - alone / 2, alone), 6, pair.victims(), least=MOMENTS // 2):
        plan = await rounds(MERGED - 1)
        ended.append(await ran(pair, plan, len(ended)))
        await killed(pair, lambda: gathered(pair), alone / 2 + delay, victim)
        await check_results(pair, plan, ended)
        with pair.sql() as database:
            levels = [part.level for part in ResultRows(database).parts()]
        assert max(map(levels.count, levels)) < MERGED, "what was not merged is merged by the next"
