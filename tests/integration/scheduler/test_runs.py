"""Runs: their commands, their ends, what is listed and watched."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import HandWorker, World, completed, failed


async def work_off(worker: HandWorker, run_id: str, world: World) -> list[int]:
    """Completes what there is until the run ends; the seqs in order of their leases."""
    seqs = []
    while (await world.get(run_id)).state == pb.RUN_STATE_RUNNING:
        leases = await worker.leases(50, wait=0.2)
        seqs += [lease.seq for lease in leases]
        if leases:
            assert await worker.report(run_id, [completed(lease) for lease in leases]) == []
    return seqs


async def test_a_run_completes_and_its_events_tell_the_story(world: World) -> None:
    run_id = await world.run(120)
    assert await work_off(world.worker(), run_id, world) == list(range(120))
    run = await world.get(run_id)
    assert run.state == pb.RUN_STATE_COMPLETED
    assert run.quiesced
    assert (run.counts.total, run.counts.completed) == (120, 120)
    told = [(e.type, e.old_state, e.new_state) for e in await world.events(run_id)]
    assert told == [
        ("run.created", "", "queued"),
        ("run.state", "queued", "running"),
        ("stage.state", "pending", "running"),
        ("stage.state", "running", "completed"),
        ("run.state", "running", "completed"),
    ]


async def test_failures_are_tried_again_up_to_the_bound_and_the_run_completes_with_failures(world: World) -> None:
    run_id = await world.run(2, max_tries=2)
    worker = world.worker()
    first = await worker.leases(2)
    assert await worker.report(run_id, [completed(first[0]), failed(first[1], "broken pipe")]) == []
    (again,) = await worker.leases(1)
    assert await worker.report(run_id, [failed(again, "broken again")]) == []
    run = await world.get(run_id)
    assert run.state == pb.RUN_STATE_COMPLETED_WITH_FAILURES
    (item,) = (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, states=[pb.ITEM_STATE_FAILED]))).items
    assert (item.seq, item.attempt, item.tries, item.error, item.error_kind) == (1, 2, 2, "broken again", "item")
    assert [e.type for e in await world.events(run_id, "item.retry", "item.failed")] == ["item.retry", "item.failed"]


async def test_a_permanent_failure_is_not_tried_again_and_a_run_without_any_success_fails(world: World) -> None:
    run_id = await world.run(1)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    assert await worker.report(run_id, [failed(lease, "empty", permanent=True)]) == []
    run = await world.get(run_id)
    assert run.state == pb.RUN_STATE_FAILED
    assert "none of 1 items completed" in run.error


async def test_what_was_not_the_items_fault_costs_no_try(world: World) -> None:
    run_id = await world.run(1, max_tries=1)
    worker = world.worker()
    for attempt in (1, 2, 3):
        (lease,) = await worker.leases(1)
        assert (lease.attempt, lease.tries) == (attempt, 0)
        assert await worker.report(run_id, [failed(lease, "analyzer away", no_try=True)]) == []
    (lease,) = await worker.leases(1)
    assert await worker.report(run_id, [completed(lease)]) == []
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED


async def test_pause_grants_nothing_more_asks_for_the_unbegun_and_resume_goes_on(world: World) -> None:
    run_id = await world.run(10)
    worker = world.worker()
    begun, unbegun = await worker.leases(2)
    paused = await world.runs.PauseRun(pb.RunCommand(run_id=run_id, reason="lunch", actor="ann"))
    assert (paused.changed, paused.run.state, paused.run.quiesced) == (True, pb.RUN_STATE_PAUSED, False)
    assert not (await world.runs.PauseRun(pb.RunCommand(run_id=run_id))).changed
    assert await worker.leases(5, wait=0.3) == []
    await worker.renew(run_id, [begun])
    wanted = await worker.renew(run_id, [unbegun], begun=False)
    assert [lease.seq for lease in wanted.wanted_back] == [unbegun.seq]
    released = pb.Outcome(seq=unbegun.seq, attempt=unbegun.attempt, kind=pb.OUTCOME_KIND_RELEASED)
    assert await worker.report(run_id, [completed(begun), released]) == []
    run = await world.get(run_id)
    assert run.quiesced
    assert (run.counts.completed, run.counts.queued) == (1, 9)
    await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))
    assert await work_off(worker, run_id, world) == list(range(1, 10))
    told = [e for e in await world.events(run_id, "run.state") if e.new_state == "paused"]
    assert [(e.actor, e.reason) for e in told] == [("ann", "lunch")]


async def test_stop_lets_what_runs_finish_and_resume_runs_nothing_twice(world: World) -> None:
    run_id = await world.run(8)
    worker = world.worker()
    leases = await worker.leases(3)
    assert await worker.report(run_id, [completed(leases[0])]) == []
    stopping = await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, reason="wrong list"))
    assert stopping.run.state == pb.RUN_STATE_STOPPING
    assert await worker.leases(5, wait=0.2) == []
    assert await worker.report(run_id, [completed(leases[1]), failed(leases[2])]) == []
    run = await world.get(run_id)
    assert (run.state, run.error) == (pb.RUN_STATE_STOPPED, "stopped by api: wrong list")
    assert (run.counts.completed, run.counts.stopped) == (2, 6)
    listed = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, states=[pb.ITEM_STATE_STOPPED]))
    assert [item.seq for item in listed.items] == [2, 3, 4, 5, 6, 7]
    resumed = await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))
    assert resumed.run.state == pb.RUN_STATE_RUNNING
    assert sorted(await work_off(worker, run_id, world)) == [2, 3, 4, 5, 6, 7]
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED


async def test_after_a_force_stop_no_outcome_is_accepted(world: World) -> None:
    run_id = await world.run(5)
    worker = world.worker()
    leases = await worker.leases(2)
    stopped = await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, force=True))
    assert (stopped.run.state, stopped.run.quiesced) == (pb.RUN_STATE_STOPPED, True)
    assert stopped.run.counts.stopped == 5
    assert await worker.report(run_id, [completed(leases[0])]) == ["stopped"]
    assert [lease.seq for lease in (await worker.renew(run_id, leases)).revoked] == [0, 1]
    await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))
    again = await worker.leases(5)
    if len(again) < 5:  # what was stopped is ready before the rest is read from the plan
        again += await worker.leases(5)
    assert [(lease.seq, lease.attempt) for lease in again] == [(0, 2), (1, 2), (2, 1), (3, 1), (4, 1)]
    assert await worker.report(run_id, [completed(lease) for lease in again]) == []


async def test_an_illegal_command_tells_the_state_and_what_it_takes(world: World) -> None:
    run_id = await world.run(1)
    await work_off(world.worker(), run_id, world)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.runs.PauseRun(pb.RunCommand(run_id=run_id))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "is completed" in (refused.value.details() or "")
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await world.get("run-nobody-made")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert run_id in (unknown.value.details() or ""), "names what exists nearby"


async def test_start_is_idempotent_by_request_id_and_refuses_its_reuse(world: World) -> None:
    plan_id = await world.plan(3)
    request = pb.StartRunRequest(plan_id=plan_id, request_id="once")
    first, second = await asyncio.gather(world.runs.StartRun(request), world.runs.StartRun(request))
    assert first.run_id == second.run_id
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, name="other", request_id="once"))
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    other = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id))
    assert (other.run_id != first.run_id, other.number) == (True, first.number + 1)


async def test_items_without_a_row_are_listed_from_the_plan(world: World) -> None:
    run_id = await world.run(30)
    worker = world.worker()
    leases = await worker.leases(3)
    assert await worker.report(run_id, [completed(leases[0], {"n": 1})]) == []
    page = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, page_size=5, with_payload=True))
    assert [(i.seq, i.key, i.state) for i in page.items] == [
        (0, "k0", pb.ITEM_STATE_COMPLETED),
        (1, "k1", pb.ITEM_STATE_RUNNING),
        (2, "k2", pb.ITEM_STATE_RUNNING),
        (3, "k3", pb.ITEM_STATE_QUEUED),
        (4, "k4", pb.ITEM_STATE_QUEUED),
    ]
    assert page.items[4].payload == b'{"i":4}'
    rest: list[int] = []
    token = page.next_page_token
    while token:
        page = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, page_size=7, page_token=token))
        rest += [item.seq for item in page.items]
        token = page.next_page_token
    assert rest == list(range(5, 30))
    queued = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, states=[pb.ITEM_STATE_QUEUED], page_size=10))
    assert [item.seq for item in queued.items] == list(range(3, 13))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, stage=4))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watch_gives_a_snapshot_then_events_and_resumes_where_it_was_cut(world: World) -> None:
    run_id = await world.run(4)
    watch = world.runs.WatchRun(pb.WatchRunRequest(run_id=run_id))
    first = await anext(aiter(watch))
    assert [event.number for event in first.events] == [1, 2, 3]
    watch.cancel()
    await work_off(world.worker(), run_id, world)
    seen = [message async for message in world.runs.WatchRun(pb.WatchRunRequest(run_id=run_id, after_number=3))]
    assert [event.number for message in seen for event in message.events] == [4, 5]
    assert seen[-1].run.state == pb.RUN_STATE_COMPLETED


async def test_outcomes_are_read_in_commit_order(world: World) -> None:
    run_id = await world.run(5)
    worker = world.worker()
    leases = await worker.leases(5)
    for lease in reversed(leases):
        assert await worker.report(run_id, [completed(lease)]) == []
    stream = world.runs.ReadOutcomes(pb.ReadOutcomesRequest(run_id=run_id, after_settle_number=1))
    got = [(item.seq, item.settle_number) async for message in stream for item in message.items]
    assert got == [(3, 2), (2, 3), (1, 4), (0, 5)]


async def test_runs_are_listed_newest_first_in_pages(world: World) -> None:
    plan_id = await world.plan(1)
    made = [(await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id))).run_id for _ in range(5)]
    page = await world.runs.ListRuns(pb.ListRunsRequest(page_size=3))
    rest = await world.runs.ListRuns(pb.ListRunsRequest(page_size=3, page_token=page.next_page_token))
    assert [run.run_id for run in (*page.runs, *rest.runs)] == made[::-1]
    assert rest.next_page_token == ""
    for request in (pb.ListRunsRequest(page_size=-1), pb.ListRunsRequest(page_token="x")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.runs.ListRuns(request)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
