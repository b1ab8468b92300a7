"""The lease protocol: grants, fences, reports, renewals, loss."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from penstock.runtime.sql import Database
from penstock.v1 import common_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler import engine, first_window
from scheduler.first_window import FirstWindows
from scheduler.proposals import Proposals
from scheduler.ready import Ready
from scheduler.store.effects import Slot, StageKey
from scheduler.store.rows import Opening
from scheduler.sweeps import Sweeps
from tests.integration.scheduler.world import HASTY_SECONDS, TERM_SECONDS, World, completed, failed


async def test_items_start_in_order_of_rank_and_a_retry_returns_at_its_rank(world: World) -> None:
    run_id = await world.run(6, concurrency=2)
    worker = world.worker()
    first = await worker.leases(2)
    assert [lease.seq for lease in first] == [0, 1]
    batch = pb.OutcomeBatch(run_id=run_id, stage=0, outcomes=[failed(first[0]), completed(first[1])])
    second = await worker.acquire(1, report=[batch])  # in one call: the back-off is short
    assert [lease.seq for batch in second.batches for lease in batch.leases] == [2]
    await world.until_ready((await world.get(run_id)).number, 4)  # what is behind, and the one whose back-off is over
    third = await worker.leases(1)
    assert [(lease.seq, lease.attempt, lease.tries) for lease in third] == [(0, 2, 1)]


async def test_leases_never_exceed_the_stage_s_concurrency(world: World) -> None:
    run_id = await world.run(20, concurrency=5)
    await world.until_ready((await world.get(run_id)).number, 20)
    workers = [world.worker(str(i)) for i in range(3)]
    answers = await asyncio.gather(*(worker.leases(4, wait=0.3) for worker in workers))
    assert sum(len(leases) for leases in answers) == 5


async def test_the_same_grant_number_returns_the_same_leases(world: World) -> None:
    run_id = await world.run(10)
    worker = world.worker()
    first = await worker.leases(3)
    again = await worker.acquire(3, grant_number=worker.grant_number)
    assert [(x.seq, x.attempt, x.key, x.payload) for b in again.batches for x in b.leases] == [
        (x.seq, x.attempt, x.key, x.payload) for x in first
    ]
    assert (await world.get(run_id)).counts.running == 3
    assert [lease.seq for lease in await worker.leases(2)] == [3, 4]


async def test_the_same_report_gets_the_same_answer_and_another_is_refused(world: World) -> None:
    run_id = await world.run(2)
    worker = world.worker()
    leases = await worker.leases(2)
    outcome = completed(leases[0], {"answer": 42})
    assert await worker.report(run_id, [outcome]) == []
    assert await worker.report(run_id, [outcome]) == []
    assert await worker.report(run_id, [completed(leases[0], {"answer": 43})]) == ["different"]
    assert await worker.report(run_id, [outcome]) == []
    retried = failed(leases[1])
    assert await worker.report(run_id, [retried]) == []
    (second,) = await worker.leases(1)
    assert (second.seq, second.attempt) == (1, 2)
    assert await worker.report(run_id, [retried]) == [], "also while a later attempt runs"
    assert await worker.report(run_id, [completed(leases[1])]) == ["different"]
    listed = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, seqs=[0]))
    assert listed.items[0].result == b'{"answer":42}'


async def test_a_report_without_a_lease_is_told_why(world: World) -> None:
    run_id = await world.run(3)
    worker, other = world.worker(), world.worker("other")
    (lease,) = await worker.leases(1)
    assert await other.report(run_id, [completed(lease)]) == ["foreign"]
    assert await worker.report(run_id, [completed(pb.Lease(seq=2, attempt=1))]) == ["unknown"]
    assert await worker.report(run_id, [completed(pb.Lease(seq=0, attempt=7))]) == ["unknown"]
    assert await worker.report("run-of-nobody", [completed(lease)]) == ["unknown"]
    assert await worker.report(run_id, [completed(lease)], stage=5) == ["unknown"]
    assert await worker.report(run_id, [completed(lease)]) == []


async def test_a_lost_lease_returns_alone_and_the_late_report_is_refused_with_an_event(hasty: World) -> None:
    world = hasty
    run_id = await world.run(3)
    worker, other = world.worker(), world.worker("other")
    leases = await worker.leases(2)
    await worker.renew(run_id, leases)
    run = await world.until(run_id, lambda run: run.counts.running == 0)
    assert run.counts.queued == 3
    await world.until_ready(run.number, 3)
    lost = await world.events(run_id, "lease.lost")
    assert [event.subject for event in lost] == ["item:0/0", "item:0/1"]
    again = await other.leases(3) + await other.leases(1)
    assert [(x.seq, x.attempt, x.tries, x.alone) for x in again] == [
        (0, 2, 1, True),
        (2, 1, 0, False),
        (1, 2, 1, True),
    ]
    await other.renew(run_id, again, begun=False)
    late = completed(leases[0])
    assert await worker.report(run_id, [late]) == ["expired"]
    assert await worker.report(run_id, [late]) == ["expired"]
    assert len(await world.events(run_id, "report.refused")) == 1, "a repetition is no second event"
    assert await other.report(run_id, [completed(x) for x in again]) == []
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED


async def test_a_renewal_of_which_redis_heard_too_late_is_noted_once_more_for_the_whole_term(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await world.run(1)
    worker = world.worker()
    leases = await worker.leases(1)
    database = Database(world.settings.scheduler.database_url, "scheduler")

    async def until_ms() -> int:
        """Until when the session is taken to renew, from now."""
        assert not (await worker.renew(run_id, leases)).revoked
        with database.read() as connection:
            query = sa.text("SELECT renew_ms FROM sessions WHERE session = :name")
            found: int = connection.execute(query, {"name": worker.session.session}).scalar_one()
        return found - time.time_ns() // 1_000_000

    assert await until_ms() <= 0
    monkeypatch.setattr(engine, "telling_ms", lambda term_ms: -1_000_000)
    assert 0 < await until_ms() <= 1000 * TERM_SECONDS
    monkeypatch.undo()
    assert await until_ms() > 0, "an earlier note takes nothing back"
    database.close()


async def test_a_sweep_that_asked_redis_just_after_a_renewal_ends_nothing(
    hasty: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis says that the lease ran out, though it was renewed a moment before."""
    world = hasty
    run_id = await world.run(1)
    worker = world.worker()
    leases = await worker.leases(1)
    sweep, granted, lies = Sweeps.expired, time.monotonic(), 0

    async def just_renewed(self: Sweeps) -> int:
        assert not (await worker.renew(run_id, leases)).revoked
        return await sweep(self)

    async def all_ran_out(self: Ready, stages: Sequence[StageKey], *_: object) -> dict[StageKey, list[Slot]]:
        nonlocal lies
        lies += time.monotonic() > granted + 1.2 * HASTY_SECONDS
        return {stage: [(leases[0].seq, "")] for stage in stages}

    monkeypatch.setattr(Sweeps, "expired", just_renewed)
    monkeypatch.setattr(Ready, "expired", all_ran_out)
    while lies < 3:
        assert time.monotonic() < granted + 40
        await asyncio.sleep(0.05)
    assert not await world.events(run_id, "lease.lost")


async def test_a_renewed_lease_lives_past_its_term(hasty: World) -> None:
    world = hasty
    run_id = await world.run(1)
    worker = world.worker()
    leases = await worker.leases(1)
    until = time.monotonic() + 2.5 * HASTY_SECONDS
    while time.monotonic() < until:
        answer = await worker.renew(run_id, leases)
        assert not answer.revoked
        await asyncio.sleep(HASTY_SECONDS / 4)
    assert await worker.report(run_id, [completed(leases[0])]) == []


async def test_what_a_worker_hands_back_at_its_end_costs_no_try_and_is_no_loss(world: World) -> None:
    run_id = await world.run(4)
    worker, other = world.worker(), world.worker("other")
    await worker.leases(2)
    await worker.leases(1)  # the next number confirms the one before
    await worker.end()
    assert [(x.seq, x.attempt, x.tries, x.alone) for x in await other.leases(3)] == [
        (0, 2, 0, False),
        (1, 2, 0, False),
        (2, 2, 0, False),
    ]
    assert not await world.events(run_id, "lease.lost")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await worker.leases(1)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_of_what_is_lost_only_what_had_begun_costs_a_try_and_is_leased_alone(hasty: World) -> None:
    world = hasty
    run_id = await world.run(3)
    worker, other = world.worker(), world.worker("other")
    leases = await worker.leases(3)
    await worker.renew(run_id, leases[:1])
    run = await world.until(run_id, lambda run: run.counts.running == 0)
    await world.until_ready(run.number, 3)
    again = await other.leases(3)
    assert [(x.seq, x.tries, x.alone) for x in again] == [(0, 1, True), (1, 0, False), (2, 0, False)]
    run = await world.until(run_id, lambda run: run.counts.running == 0)
    await world.until_ready(run.number, 3)
    third = [lease for _ in range(3) for lease in await world.worker("third").leases(3)]
    assert [(x.seq, x.tries, x.alone) for x in third] == [(0, 1, True), (1, 0, True), (2, 0, True)]


async def test_a_scheduler_that_stood_still_declares_no_lease_lost(hasty: World) -> None:
    world = hasty
    run_id = await world.run(1)
    worker = world.worker()
    leases = await worker.leases(1)
    await worker.renew(run_id, leases)
    time.sleep(1.5 * HASTY_SECONDS)  # noqa: ASYNC251 the loop that all of it runs on stands still
    await asyncio.sleep(HASTY_SECONDS / 4)
    assert not (await worker.renew(run_id, leases)).revoked
    assert await worker.report(run_id, [completed(leases[0])]) == []
    assert not await world.events(run_id, "lease.lost")


async def test_a_sweep_that_was_under_way_when_all_stood_still_declares_none_lost_either(
    hasty: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch sees the gap before the sweep goes on: it is told once, and counts for both."""
    world = hasty
    run_id = await world.run(1)
    worker = world.worker()
    leases = await worker.leases(1)
    stages, asked, go_on = Sweeps._stages, threading.Event(), threading.Event()

    def slow(sweeps: Sweeps) -> list[StageKey]:
        asked.set()
        go_on.wait(10)
        return stages(sweeps)

    monkeypatch.setattr(Sweeps, "_stages", slow)
    await asyncio.to_thread(asked.wait, 10)
    await worker.renew(run_id, leases)
    time.sleep(1.5 * HASTY_SECONDS)  # noqa: ASYNC251 the loop that all of it runs on stands still
    await asyncio.sleep(HASTY_SECONDS / 5)
    go_on.set()
    await asyncio.sleep(HASTY_SECONDS / 5)
    assert not await world.events(run_id, "lease.lost")
    assert await worker.report(run_id, [completed(leases[0])]) == []


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        ({"result": b"not json"}, "no JSON"),
        ({"result": b'"' + b"x" * 70_000 + b'"'}, "must be a blob"),
        ({"result_blob": common_pb2.BlobRef(sha256="../../etc/passwd", size_bytes=3)}, "names no blob"),
        ({"result_blob": common_pb2.BlobRef(sha256="0" * 64, size_bytes=-3)}, "names no blob"),
    ],
)
async def test_an_outcome_that_could_not_be_read_back_is_bad_input(
    world: World, outcome: dict[str, Any], problem: str
) -> None:
    run_id = await world.run(1)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    bad = pb.Outcome(seq=lease.seq, attempt=lease.attempt, kind=pb.OUTCOME_KIND_COMPLETED, **outcome)
    with pytest.raises(grpc.aio.AioRpcError, match=problem) as refused:
        await worker.report(run_id, [bad])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await worker.report(run_id, [completed(lease)]) == []


async def test_a_nul_in_an_error_harms_nobody(world: World) -> None:
    run_id = await world.run(1)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    assert await worker.report(run_id, [failed(lease, "a NUL \0 here", permanent=True)]) == []
    (event,) = await world.events(run_id, "item.failed")
    assert event.reason == "a NUL \ufffd here"
    assert (await world.get(run_id)).error.endswith("a NUL \ufffd here")


async def test_grant_numbers_only_rise(world: World) -> None:
    await world.run(3)
    worker = world.worker()
    await worker.acquire(1, grant_number=5)
    with pytest.raises(grpc.aio.AioRpcError, match="grant_number 4 after 5"):
        await worker.acquire(1, grant_number=4)


async def test_a_released_item_costs_no_try_and_is_ready_at_once(world: World) -> None:
    run_id = await world.run(2)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    released = pb.Outcome(seq=lease.seq, attempt=lease.attempt, kind=pb.OUTCOME_KIND_RELEASED)
    assert await worker.report(run_id, [released]) == []
    (again,) = await worker.leases(1)
    assert (again.seq, again.attempt, again.tries, again.alone) == (0, 2, 0, False)


async def test_report_and_acquire_share_a_call_and_the_slot(world: World) -> None:
    run_id = await world.run(3, concurrency=1)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    batch = pb.OutcomeBatch(run_id=run_id, stage=0, outcomes=[completed(lease)])
    response = await worker.acquire(1, report=[batch])
    assert [x.seq for b in response.batches for x in b.leases] == [1]


async def test_after_redis_lost_everything_what_runs_stays_and_others_lease_within_three_seconds(
    world: World, redis_server: object
) -> None:
    run_id = await world.run(500)
    worker, other = world.worker(), world.worker("other")
    held = await worker.leases(5)
    more: list[pb.Lease] = []
    took: list[float] = []
    while not took or (took[-1] >= 3.0 and len(took) < 3):  # again when the machine stood still meanwhile
        redis_server.flush()  # type: ignore[attr-defined]
        began = time.monotonic()
        more += await other.leases(5, wait=20)
        took.append(time.monotonic() - began)
    assert took[-1] < 3.0, took
    assert [x.seq for x in more] == list(range(5, 5 + 5 * len(took)))
    assert not (await worker.renew(run_id, held)).revoked
    assert await worker.report(run_id, [completed(x) for x in held]) == []


async def test_a_restarted_scheduler_goes_on_and_answers_the_grant_that_was_lost(world: World) -> None:
    run_id = await world.run(300)
    worker = world.worker()
    first = await worker.leases(4)
    await world.restart_scheduler()
    back = world.worker()
    back.session.CopyFrom(worker.session)
    again = await back.acquire(4, grant_number=worker.grant_number)
    assert [(x.seq, x.attempt, x.payload) for b in again.batches for x in b.leases] == [
        (x.seq, x.attempt, x.payload) for x in first
    ]
    back.grant_number = worker.grant_number
    assert await back.report(run_id, [completed(x) for x in first]) == []
    assert [x.seq for x in await back.leases(3)] == [4, 5, 6]


async def test_a_worker_is_woken_at_once_when_a_run_starts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "POLL_SECONDS", 60.0)
    worker = world.worker()
    waiting = asyncio.create_task(worker.leases(1, wait=20))
    plan_id = await world.plan(1)
    assert not waiting.done()
    await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id))
    async with asyncio.timeout(15):  # woken: nobody looks by himself so soon
        assert len(await waiting) == 1


async def test_of_many_that_wait_few_ask_when_there_is_little(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    propose = Ready.propose

    async def counted(ready: Ready, *args: Any, **more: Any) -> Proposals:
        nonlocal asked
        asked += 1
        return await propose(ready, *args, **more)

    monkeypatch.setattr(Ready, "propose", counted)
    monkeypatch.setattr(engine, "POLL_SECONDS", 60.0)
    waiting = [asyncio.create_task(world.worker(str(i)).leases(2, wait=20)) for i in range(40)]
    await asyncio.sleep(0.5)
    asked = 0
    await world.run(3)
    async with asyncio.timeout(15):
        while sum(len(task.result()) for task in waiting if task.done()) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)  # for those who would ask in vain
    done = {task for task in waiting if task.done()}
    assert sorted(lease.seq for task in done for lease in task.result()) == [0, 1, 2]
    assert asked < 20, "two have them; the others need not ask"
    later = await world.run(75, concurrency=100)
    answers = await asyncio.gather(*(task for task in waiting if task not in done))
    assert sum(map(len, answers)) == 75, "nobody waits while there is work"
    assert (await world.get(later)).counts.running == 75


async def test_a_worker_gets_only_what_its_class_and_versions_can_do(world: World) -> None:
    await world.run(1)
    stranger = world.worker()
    stranger.session.processors["noop"] = "2"
    assert await stranger.leases(1, wait=0.2) == []
    foreign = world.worker()
    foreign.session.worker_class = "gpu"
    assert await foreign.leases(1, wait=0.2) == []
    assert len(await world.worker().leases(1)) == 1


async def test_what_follows_a_first_window_that_was_read_in_time_is_read_on_without_a_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = FirstWindows.begin

    async def in_time(self: FirstWindows, one: Opening) -> bool:
        await self._reading[one.plan_id]
        return await begin(self, one)

    monkeypatch.setattr(FirstWindows, "begin", in_time)
    monkeypatch.setattr(first_window, "KEPT_SECONDS", 60.0)
    run_id = await world.run(400, concurrency=400, padding=60_000)  # several answers of the planner
    await world.until_ready((await world.get(run_id)).number, 400)


async def test_many_payloads_that_together_pass_a_message_go_as_blobs(world: World) -> None:
    run_id = await world.run(400, concurrency=400, padding=60_000)
    number = (await world.get(run_id)).number
    await world.until_ready(number, 400)
    response = await world.worker().acquire(400)
    leases = [lease for batch in response.batches for lease in batch.leases]
    assert len(leases) == 400
    assert response.ByteSize() < 20 << 20
    assert {lease.HasField("payload_blob") for lease in leases} == {True, False}
    assert all(lease.payload or lease.payload_blob.size_bytes > 60_000 for lease in leases)
    assert (await world.get(run_id)).counts.running == 400
