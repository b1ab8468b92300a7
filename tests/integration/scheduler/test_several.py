"""Several schedulers on one PostgreSQL and one Redis; and the second one that SQLite does not take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import psycopg
import pytest
import redis.asyncio
import sqlalchemy as sa
from google.protobuf.message import Message

import scheduler.__main__
from penstock.runtime.errors import Conflict
from penstock.runtime.sql import Database
from penstock.v1 import rules_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler import actions, commands, engine, holding, limits, recovery, wakes
from scheduler.engine import Engine
from scheduler.returning import Returning
from scheduler.store import leaders
from tests.integration.scheduler.world import TERM_SECONDS, HandWorker, World, completed, failed, throttled
from tests.servers.inprocess import Served, serve
from tests.servers.schemas import prepared


@pytest.fixture
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, postgres_url: str
) -> AsyncIterator[tuple[World, World]]:
    """The same world, seen through two schedulers; its parameter is the term of its leases."""
    term = getattr(request, "param", TERM_SECONDS)
    one = await World.start(tmp_path, redis_url, postgres_url, lease_term_seconds=term)
    second: Served | None = None
    try:
        second = await serve(scheduler.__main__.build, one.settings)
        other = World(one.settings, one.planner, second)
        yield one, other
        one.check()
        for channel in other.channels:
            await channel.close()
    finally:
        if second is not None:
            await second.stop()
        await one.stop()


async def take(worker: HandWorker, run_id: str, seen: list[int]) -> bool:
    leases = await worker.leases(40, wait=1)
    seen += [lease.seq for lease in leases]
    if leases:
        assert await worker.report(run_id, [completed(lease) for lease in leases]) == []
    return bool(leases)


async def test_workers_of_both_share_a_run_and_each_item_is_leased_once(pair: tuple[World, World]) -> None:
    one, other = pair
    run_id = await one.run(2_000, concurrency=200)
    seen: list[int] = []
    workers = [one.worker("a"), other.worker("b"), other.worker("c")]

    async def play(worker: HandWorker) -> int:
        count = 0
        while len(seen) < 2_000:
            count += await take(worker, run_id, seen)
        return count

    rounds = await asyncio.gather(*(play(worker) for worker in workers))
    assert sorted(seen) == list(range(2_000))
    assert all(rounds)
    run = await other.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED)
    assert run.counts.completed == 2_000


async def test_calls_that_share_transactions_over_many_runs_meet_in_no_deadlock(pair: tuple[World, World]) -> None:
    one, other = pair
    run_ids = [await one.run(300, concurrency=100) for _ in range(6)]
    workers = [face.worker(str(i)) for i, face in enumerate([one, other] * 6)]

    async def over() -> bool:
        return {(await one.get(run_id)).state for run_id in run_ids} == {pb.RUN_STATE_COMPLETED}

    async def play(worker: HandWorker) -> None:
        done: list[pb.OutcomeBatch] = []
        while True:
            answer = await worker.acquire(12, wait=0.3, report=done)
            assert not answer.refused
            # As a worker that was busy: the runs in an order of its own.
            done = [
                pb.OutcomeBatch(run_id=batch.run_id, stage=0, outcomes=[completed(lease) for lease in batch.leases])
                for batch in answer.batches
            ]
            if not done and await over():
                return
            for batch in done[1:]:
                assert await worker.report(batch.run_id, list(batch.outcomes)) == []
            done = done[:1]

    await asyncio.gather(*(play(worker) for worker in workers))
    for run_id in run_ids:
        await other.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED, seconds=30)
    database = Database(one.settings.scheduler.database_url, "scheduler")
    with database.read() as connection:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert connection.execute(sa.text(query)).scalar_one() == 0
    database.close()


async def test_what_a_killed_scheduler_had_proposed_holds_nothing_up(
    tmp_path: Path, redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.start(tmp_path, redis_url, postgres_url)
    try:
        run_id = await world.run(20, concurrency=4)
        assert len(await world.worker("first").leases(1)) == 1

        async def killed(*_: object, **__: object) -> None:
            proposed.set()
            await asyncio.Event().wait()

        proposed = asyncio.Event()
        with monkeypatch.context() as patched:
            patched.setattr(Engine, "_record", killed)
            patched.setattr(Returning, "failed", killed)
            waiting = asyncio.create_task(world.worker("unheard").leases(3))
            await asyncio.wait_for(proposed.wait(), 20)
            await world.scheduler.crash()
        with pytest.raises(grpc.aio.AioRpcError):
            await waiting
        await world.start_scheduler()
        assert [lease.seq for lease in await world.worker("next").leases(9, wait=25)] == [1, 2, 3]
        made = await _maker(world)
        await world.restart_scheduler()
        assert await world.worker("more").leases(9, wait=2) == []
        assert await _maker(world) == made, "what every lease has a row of is taken over as it stands"
        run = await world.get(run_id)
        assert (run.counts.running, run.counts.queued) == (4, 16)
        world.check()
    finally:
        await world.stop()


async def test_what_a_living_scheduler_has_proposed_is_left_to_it(
    pair: tuple[World, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    await one.run(20, concurrency=4)
    made = await _maker(one)
    record, proposed, on = Engine._record, asyncio.Event(), asyncio.Event()

    async def slow(*values: Any, **named: Any) -> Any:
        proposed.set()
        await on.wait()
        return await record(*values, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_record", slow)
        waiting = asyncio.create_task(one.worker("slow").leases(3))
        await asyncio.wait_for(proposed.wait(), 20)
    await other.restart_scheduler()
    assert [lease.seq for lease in await other.worker("next").leases(9, wait=20)] == [3]
    on.set()
    assert [lease.seq for lease in await waiting] == [0, 1, 2]
    assert await _maker(one) == made
    await other.scheduler.stop()


async def _maker(world: World) -> str:
    """The generation of Redis."""
    database = Database(world.settings.scheduler.database_url, "scheduler")
    with database.read() as connection:
        found = leaders.leader(connection, leaders.REDIS)
    database.close()
    assert found is not None
    return found.value


async def test_a_limit_holds_at_both_and_what_one_learns_the_other_keeps(pair: tuple[World, World]) -> None:
    key = "domain:a.org"
    one, other = pair
    await one.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key=key, concurrency=3)))
    run_id = await one.run(30, payload=lambda i: {"limits": [key]})
    here, there = one.worker("here"), other.worker("there")
    leases = await here.leases(2)
    assert len(await there.leases(9)) == 1  # three in all
    await here.report(run_id, [throttled(leases[0], key, 60), throttled(leases[1], key, 60)])
    closed = (await other.limits.ListLimits(pb.ListLimitsRequest())).limits[0]
    assert (closed.state, closed.held) == ("closed", 1)
    await other.limits.CloseLimit(pb.CloseLimitRequest(key=key))
    assert await here.leases(9, wait=0.6) == []
    waiting = asyncio.create_task(here.leases(2, wait=20))
    await asyncio.sleep(0.1)
    await other.limits.OpenLimit(pb.OpenLimitRequest(key=key))
    async with asyncio.timeout(15):  # long before its call is over
        assert [lease.seq for lease in await waiting] == [0, 1]


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for before the schedulers: what they learn of each other they learn by messages."""
    for module in (engine, wakes):
        monkeypatch.setattr(module, "POLL_SECONDS", 60.0)


async def test_a_worker_that_waits_at_one_is_woken_by_what_the_other_does(
    no_polls: None, pair: tuple[World, World], redis_url: str
) -> None:
    one, other = pair
    client: Any = redis.asyncio.from_url(redis_url)
    deadline = time.monotonic() + 20
    while [count for _, count in await client.pubsub_numsub(f"{one.settings.redis_prefix}:{{s}}:wake")] != [2]:
        assert time.monotonic() < deadline, "both listen"
        await asyncio.sleep(0.02)
    await client.aclose()
    plan_id = await one.plan(2, concurrency=1)
    patient = other.worker("patient")
    waiting = asyncio.create_task(patient.leases(1, wait=20))
    await asyncio.sleep(0.1)
    run_id = (await one.runs.StartRun(pb.StartRunRequest(plan_id=plan_id))).run_id
    async with asyncio.timeout(15):
        (lease,) = await waiting
    assert lease.seq == 0
    again = asyncio.create_task(one.worker("next").leases(1, wait=20))
    await asyncio.sleep(0.1)
    assert await patient.report(run_id, [completed(lease)]) == []
    async with asyncio.timeout(15):
        assert [lease.seq for lease in await again] == [1]


async def test_what_one_pauses_the_other_does_not_grant(pair: tuple[World, World]) -> None:
    one, other = pair
    run_id = await one.run(50)
    worker = other.worker()
    leases = await worker.leases(5)
    await one.runs.PauseRun(pb.RunCommand(run_id=run_id))
    assert await worker.leases(5, wait=0.3) == []
    assert [x.seq for x in (await worker.renew(run_id, leases, begun=False)).wanted_back] == [0, 1, 2, 3, 4]
    await one.runs.ResumeRun(pb.RunCommand(run_id=run_id))
    assert [lease.seq for lease in await worker.leases(2)] == [5, 6]


@pytest.mark.parametrize("pair", [1.0], indirect=True, ids=["hasty"])
async def test_one_dies_and_the_other_goes_on_with_all_that_it_held(pair: tuple[World, World]) -> None:
    one, other = pair
    run_id = await one.run(300, concurrency=100)
    gone = one.worker("gone")
    held = await gone.leases(20)
    await one.scheduler.crash()
    worker = other.worker("stays")
    seen: list[int] = []
    deadline = time.monotonic() + 40
    while len(seen) < 300 and time.monotonic() < deadline:
        await take(worker, run_id, seen)
    assert sorted(seen) == list(range(300)), "what the dead one leased comes back after its term"
    assert len(held) == 20
    await other.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED)
    one.scheduler = await serve(scheduler.__main__.build, one.settings, address=one.scheduler.address)


async def test_a_flushed_redis_is_made_anew_by_one_and_both_go_on(pair: tuple[World, World], redis_url: str) -> None:
    one, other = pair
    run_id = await one.run(400, concurrency=400)
    first, second = one.worker("first"), other.worker("second")
    held = await first.leases(10), await second.leases(10)
    client = redis.asyncio.from_url(redis_url)
    await client.flushall()
    more = await first.leases(5, wait=20), await second.leases(5, wait=20)
    await client.aclose()
    assert sorted(lease.seq for part in (*held, *more) for lease in part) == list(range(30))
    assert not (await first.renew(run_id, held[0])).revoked
    for worker, part in ((first, held[0]), (second, held[1]), (first, more[0]), (second, more[1])):
        assert await worker.report(run_id, [completed(lease) for lease in part]) == []


def test_sqlite_takes_one_scheduler_and_names_the_other(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:

    database = Database(sqlite_url, "scheduler")
    prepared(database)
    holding.hold(database, 1)
    holding.hold(database, 2)  # the same process, begun again
    monkeypatch.setattr("os.getpid", lambda: 1)  # another that lives
    with pytest.raises(Conflict, match=r"another scheduler \(process \d+\) has this SQLite database"):
        holding.hold(database, 3)
    monkeypatch.undo()
    monkeypatch.setattr(holding, "start_time", lambda pid: 5)  # that process is gone, its id was given to another
    holding.hold(database, 4)
    database.close()


async def test_one_that_dies_while_it_makes_redis_anew_is_followed_by_the_other(
    pair: tuple[World, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    monkeypatch.setattr(recovery, "REBUILD_MS", 500)
    await one.run(50)
    worker = other.worker()
    assert [lease.seq for lease in await worker.leases(5)] == [0, 1, 2, 3, 4]
    database = Database(one.settings.scheduler.database_url, "scheduler")
    with database.write() as connection:  # as far as it came
        now = connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp()) * 1000")).scalar_one()
        until = int(now) + 500
        assert leaders.begin_rebuild(connection, "dead", "never-made", now_ms=int(now), until_ms=until)
    database.close()
    seqs: list[int] = []
    deadline = time.monotonic() + 30
    while not seqs and time.monotonic() < deadline:
        seqs = [lease.seq for lease in await worker.leases(5, wait=1)]
    assert seqs == [5, 6, 7, 8, 9]


async def test_what_an_ended_run_held_is_let_go_though_its_scheduler_died_before_redis_heard(
    pair: tuple[World, World], redis_url: str
) -> None:
    key = "domain:a.org"
    one, other = pair
    await one.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key=key, concurrency=1)))
    run_id = await one.run(1, payload=lambda i: {"limits": [key]})
    first = one.worker()
    (lease,) = await first.leases(1)
    client: Any = redis.asyncio.from_url(redis_url)
    prefix = f"{one.settings.redis_prefix}:{{s}}"
    held = {name: await client.hgetall(f"{prefix}:{name}") for name in ("slots", "shares")}
    leases = await client.zrange(f"{prefix}:leases:1:0", 0, -1, withscores=True)
    assert await first.report(run_id, [completed(lease)]) == []
    await one.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED)
    # As it stands where the word of the end was lost.
    await client.zadd(f"{prefix}:leases:1:0", dict(leases))
    for name, counts in held.items():
        await client.hset(f"{prefix}:{name}", mapping=counts)
    await other.run(1, payload=lambda i: {"limits": [key]})
    assert [lease.seq for lease in await other.worker("next").leases(1, wait=20)] == [0]
    assert await client.zcard(f"{prefix}:leases:1:0") == 0
    shares = await client.hgetall(f"{prefix}:shares")
    assert sorted(int(count) for count in shares.values()) == [1, 1], "of the second run and of its owner"
    await client.aclose()


async def test_an_older_copy_of_redis_is_taken_over_with_what_runs_though_nobody_is_left_who_saw_more(
    pair: tuple[World, World], redis_url: str
) -> None:
    key = "domain:a.org"
    one, other = pair
    await one.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key=key, concurrency=1)))
    await one.run(3, payload=lambda i: {"limits": [key]} if i < 2 else {})
    client: Any = redis.asyncio.from_url(redis_url)
    await one.worker("early").leases(0)
    before = {name: await client.dump(name) for name in await client.keys("*")}
    assert [lease.seq for lease in await one.worker().leases(1, wait=20)] == [0]
    await one.scheduler.crash()
    await other.scheduler.crash()
    await client.flushall()
    for name, value in before.items():
        await client.restore(name, 0, value)
    await client.aclose()
    one.scheduler = await serve(scheduler.__main__.build, one.settings, address=one.scheduler.address)
    assert [lease.seq for lease in await one.worker("next").leases(3, wait=20)] == [2], "the first one runs still"


async def test_a_failure_that_is_written_down_while_retries_are_allowed_is_not_forgotten(
    pair: tuple[World, World],
) -> None:
    one, other = pair
    run_id = await one.run(3, max_tries=5)
    worker = one.worker()
    (lease,) = await worker.leases(1)
    await one.runs.SetRetries(pb.SetRetriesRequest(allowed=False))
    with psycopg.connect(one.settings.scheduler.database_url, options="-c search_path=scheduler") as held:
        held.execute("SELECT seq FROM items WHERE seq = %s FOR UPDATE", [lease.seq])
        reporting = asyncio.create_task(worker.report(run_id, [failed(lease)]))
        await asyncio.sleep(0.3)  # it has read that retries are off, and waits for the row
        allowing = asyncio.ensure_future(other.runs.SetRetries(pb.SetRetriesRequest(allowed=True)))
        await asyncio.sleep(2.0)  # whoever does not wait for the failure has woken all others by now
        held.rollback()
    await reporting
    await allowing
    await one.until(run_id, lambda run: run.counts.retry == 0 and run.counts.queued == 3)


Ask = Callable[[World], Awaitable[Message]]


async def _gated(world: World) -> str:
    rules = rules_pb2.StageRules(gate=rules_pb2.GateRules(name="ready"))
    run_id = await world.run(3, rules=rules)
    await world.until(run_id, lambda run: run.state == pb.RUN_STATE_WAITING)
    return run_id


async def _asked(world: World, call: str) -> Ask:
    """A call with a request id that can be carried out once."""
    if call == "start":
        plan_id = await world.plan(3)
        start = pb.StartRunRequest(plan_id=plan_id, exclusive_keys=["project:x"], request_id="same")
        return lambda face: face.runs.StartRun(start, timeout=20)
    if call == "limit":
        limit = await world.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key="provider:x", concurrency=1)))
        again = pb.SetLimitRequest(
            limit=pb.Limit(key="provider:x", concurrency=2, etag=limit.etag), request_id="same", actor="me"
        )
        return lambda face: face.limits.SetLimit(again, timeout=20)
    run_id = await _gated(world)
    if call == "gate":
        yes = pb.AnswerGateRequest(run_id=run_id, gate="ready", answer=rules_pb2.GATE_ANSWER_APPROVE, request_id="same")
        return lambda face: face.runs.AnswerGate(yes, timeout=20)
    skip = pb.ActOnItemsRequest(run_id=run_id, verb=pb.ITEM_VERB_SKIP, seqs=[0, 1, 2], request_id="same")
    await world.runs.AnswerGate(
        pb.AnswerGateRequest(run_id=run_id, gate="ready", answer=rules_pb2.GATE_ANSWER_APPROVE), timeout=20
    )
    return lambda face: face.runs.ActOnItems(skip, timeout=20)


@pytest.mark.parametrize(
    ("call", "module", "name"),
    [
        ("start", commands, "use"),
        ("gate", commands, "lock"),
        ("skip", actions, "lock"),
        ("limit", limits, "locked"),
    ],
)
async def test_a_request_that_both_carry_out_in_the_same_moment_is_answered_by_both_alike(
    pair: tuple[World, World], monkeypatch: pytest.MonkeyPatch, call: str, module: ModuleType, name: str
) -> None:
    one, other = pair
    ask = await _asked(one, call)
    loop, real = asyncio.get_running_loop(), getattr(module, name)
    answers: list[Message] = []

    async def told_by(face: World) -> Message:
        return await ask(face)

    def later(*arguments: Any, **named: Any) -> Any:
        """The other one comes first, after this one has looked whether it was asked before."""
        monkeypatch.setattr(module, name, real)
        answers.append(asyncio.run_coroutine_threadsafe(told_by(other), loop).result(20))
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, later)
    second = await ask(one)
    (first,) = answers
    assert _same(first) == _same(second)


def _same(answer: Message) -> Any:
    """What was done; not how the run is doing meanwhile."""
    if isinstance(answer, pb.Run):
        return answer.run_id
    if isinstance(answer, pb.RunCommandResponse):
        return answer.run.run_id, answer.changed
    return answer
