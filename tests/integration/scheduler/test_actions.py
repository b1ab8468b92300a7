"""Verbs on items: which they take, what becomes of them, of their stage and of their run; as jobs that survive."""

from __future__ import annotations

import grpc
import pytest

import scheduler.actions
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.test_operators import refused
from tests.integration.scheduler.test_runs import work_off
from tests.integration.scheduler.world import HandWorker, World, completed, failed


async def act(
    world: World, run_id: str, verb: str, *, seqs: list[int] | None = None, filter_: str = "", **more: object
) -> pb.ItemAction:
    request = pb.ActOnItemsRequest(
        run_id=run_id,
        verb=pb.ItemVerb.Value(f"ITEM_VERB_{verb.upper()}"),
        seqs=seqs or [],
        filter=filter_,
        actor="ann",
        **more,  # type: ignore[arg-type]
    )
    return await world.runs.ActOnItems(request, timeout=30)


def counted(action: pb.ItemAction) -> tuple[int, int, int, int]:
    return action.matched, action.changed, action.already, action.refused


async def states(world: World, run_id: str) -> dict[int, str]:
    items = (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, page_size=1000))).items
    return {item.seq: pb.ItemState.Name(item.state).removeprefix("ITEM_STATE_").lower() for item in items}


async def half_failed(world: World, worker: HandWorker, count: int = 10, **settings: object) -> str:
    """A run that has ended, of which every second item has failed for good."""
    run_id = await world.run(count, **settings)
    while (await world.get(run_id)).state == pb.RUN_STATE_RUNNING:
        leases = await worker.leases(count, wait=0.2)
        outcomes = [
            failed(lease, f"error {lease.seq % 4}", permanent=True) if lease.seq % 2 else completed(lease)
            for lease in leases
        ]
        assert await worker.report(run_id, outcomes) == []
    return run_id


async def test_a_retry_takes_up_an_ended_run_and_runs_only_what_failed(world: World) -> None:
    worker = world.worker()
    run_id = await half_failed(world, worker)
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED_WITH_FAILURES
    preview = await act(world, run_id, "retry", filter_="state = failed", validate_only=True)
    assert (counted(preview), preview.action_id, preview.done) == ((5, 5, 0, 0), "", True)
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED_WITH_FAILURES
    action = await act(world, run_id, "retry", filter_="state = failed", request_id="r1")
    assert (counted(action), action.done) == ((5, 5, 0, 0), True)
    run = await world.get(run_id)
    assert (run.state, run.counts.queued, run.counts.failed) == (pb.RUN_STATE_RUNNING, 5, 0)
    again = await act(world, run_id, "retry", filter_="state = failed", request_id="r1")
    assert (again.action_id, counted(again)) == (action.action_id, (5, 5, 0, 0)), "the same request, the same answer"
    assert await world.runs.GetItemAction(pb.GetItemActionRequest(action_id=action.action_id)) == action
    assert sorted(await work_off(worker, run_id, world)) == [1, 3, 5, 7, 9]
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED
    told = await world.events(run_id, "items.action", "items.action_done", "run.state")
    assert [event.type for event in told[2:5]] == ["items.action", "run.state", "items.action_done"]
    assert (told[2].actor, told[3].new_state) == ("ann", "running")


async def test_equal_failures_are_retried_by_their_fingerprint(world: World) -> None:
    worker = world.worker()
    run_id = await world.run(4)
    leases = await worker.leases(4)
    errors = ["disk is full", "disk is full", "no such host", ""]
    outcomes = [
        failed(lease, error, permanent=True) if error else completed(lease)
        for lease, error in zip(leases, errors, strict=True)
    ]
    assert await worker.report(run_id, outcomes) == []
    items = (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, filter='error:"DISK"'))).items
    assert [item.seq for item in items] == [0, 1]
    (fingerprint,) = {item.fingerprint for item in items}
    action = await act(world, run_id, "retry", filter_=f'state = failed AND fingerprint = "{fingerprint}"')
    assert counted(action) == (2, 2, 0, 0)
    assert await states(world, run_id) == {0: "queued", 1: "queued", 2: "failed", 3: "completed"}


async def test_items_by_seq_are_judged_one_by_one_and_the_first_refused_is_named(world: World) -> None:
    worker = world.worker()
    run_id = await half_failed(world, worker)
    action = await act(world, run_id, "retry", seqs=[1, 2, 3, 3])
    assert counted(action) == (3, 2, 0, 1)
    assert action.example == "item 2 of stage 0: it is completed; retry takes items that are failed"
    assert counted(await act(world, run_id, "retry", seqs=[1])) == (1, 0, 1, 0)
    code, words = await refused(act(world, run_id, "retry", seqs=[1, 10]))
    assert (code, "0 to 9" in words) == (grpc.StatusCode.NOT_FOUND, True)


async def test_what_was_never_leased_is_skipped_by_a_filter_and_never_runs(world: World) -> None:
    run_id = await world.run(12, group=lambda i: "odd" if i % 2 else "even")
    worker = world.worker()
    first = await worker.leases(2)
    preview = await act(world, run_id, "skip", filter_="group = odd", validate_only=True)
    assert counted(preview) == (6, 5, 0, 1)
    action = await act(world, run_id, "skip", filter_="group = odd", reason="not wanted")
    assert counted(action) == (6, 5, 0, 1)
    assert "item 1 of stage 0: it is running" in action.example
    assert counted(await act(world, run_id, "skip", seqs=[3])) == (1, 0, 1, 0)
    run = await world.get(run_id)
    assert (run.counts.skipped, run.counts.queued) == (5, 5)
    assert await worker.report(run_id, [completed(lease) for lease in first]) == []
    assert sorted(await work_off(worker, run_id, world)) == [2, 4, 6, 8, 10]
    run = await world.get(run_id)
    assert (run.state, run.counts.completed, run.counts.skipped) == (pb.RUN_STATE_COMPLETED, 7, 5)


async def test_skipping_all_that_is_left_ends_the_run(world: World) -> None:
    run_id = await world.run(5)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    assert await worker.report(run_id, [completed(lease)]) == []
    assert counted(await act(world, run_id, "skip", filter_="state = queued")) == (4, 4, 0, 0)
    run = await world.get(run_id)
    assert (run.state, run.counts.completed, run.counts.skipped) == (pb.RUN_STATE_COMPLETED, 1, 4)


async def test_a_rerun_of_skipped_and_completed_items_takes_up_the_run(world: World) -> None:
    run_id = await world.run(4)
    worker = world.worker()
    await act(world, run_id, "skip", seqs=[3])
    await work_off(worker, run_id, world)
    action = await act(world, run_id, "rerun", filter_="seq in (0, 3)")
    assert counted(action) == (2, 2, 0, 0)
    leases = await worker.leases(4)
    while len(leases) < 2:
        leases += await worker.leases(4)
    assert sorted((lease.seq, lease.attempt, lease.tries) for lease in leases) == [(0, 2, 0), (3, 1, 0)]
    assert await worker.report(run_id, [completed(lease, {"again": True}) for lease in leases]) == []
    run = await world.get(run_id)
    assert (run.state, run.counts.completed) == (pb.RUN_STATE_COMPLETED, 4)


async def test_an_older_report_of_a_rerun_item_still_gets_its_answer(world: World) -> None:
    run_id = await world.run(1)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    assert await worker.report(run_id, [completed(lease, 1)]) == []
    await act(world, run_id, "rerun", seqs=[0])
    (again,) = await worker.leases(1)
    assert again.attempt == 2
    assert await worker.report(run_id, [completed(lease, 1)]) == [], "it was accepted"
    assert await worker.report(run_id, [completed(lease, 2)]) == ["different"]
    assert await worker.report(run_id, [completed(again)]) == []


async def test_a_released_item_does_not_wait_for_its_back_off(world: World) -> None:
    run_id = await world.run(2)
    worker = world.worker()
    leases = await worker.leases(2)
    await world.runs.SetRetries(pb.SetRetriesRequest(allowed=False))
    assert await worker.report(run_id, [failed(lease) for lease in leases]) == []
    assert counted(await act(world, run_id, "release", seqs=[1])) == (1, 1, 0, 0)
    (lease,) = await worker.leases(2)
    assert (lease.seq, lease.attempt, lease.tries) == (1, 2, 1)
    assert counted(await act(world, run_id, "release", filter_="seq >= 0")) == (2, 1, 1, 0)
    assert [one.seq for one in await worker.leases(2)] == [0]


async def test_items_moved_to_the_front_run_first_in_their_own_order(world: World) -> None:
    run_id = await world.run(30, concurrency=1)
    worker = world.worker()
    assert [lease.seq for lease in await worker.leases(1)] == [0]
    assert counted(await act(world, run_id, "front", filter_="seq >= 20 AND seq < 23")) == (3, 3, 0, 0)
    assert counted(await act(world, run_id, "front", seqs=[28, 7, 0])) == (3, 2, 1, 0)
    (running,) = (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, filter="state = running"))).items
    order = []
    lease = pb.Lease(seq=running.seq, attempt=running.attempt)
    for _ in range(8):
        assert await worker.report(run_id, [completed(lease)]) == []
        (lease,) = await worker.leases(1)
        order.append(lease.seq)
    assert order == [7, 28, 20, 21, 22, 1, 2, 3]


async def test_the_order_of_what_was_moved_survives_a_pause(world: World) -> None:
    run_id = await world.run(10)
    await act(world, run_id, "front", seqs=[6, 8])
    await world.runs.PauseRun(pb.RunCommand(run_id=run_id))
    await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))
    assert await work_off(world.worker(), run_id, world) == [6, 8, 0, 1, 2, 3, 4, 5, 7, 9]


async def test_what_ended_unknown_is_retried_only_where_it_is_named_and_accepted_by_a_person(world: World) -> None:
    run_id = await world.run(3)
    worker = world.worker()
    leases = await worker.leases(3)
    outcomes = [failed(lease, "who knows", permanent=True) for lease in leases]
    for outcome in outcomes[:2]:
        outcome.error_kind = "unknown"
    assert await worker.report(run_id, outcomes) == []
    bulk = await act(world, run_id, "retry", filter_="state = failed", validate_only=True)
    assert counted(bulk) == (3, 1, 0, 2)
    assert "kind = unknown" in bulk.example
    code, words = await refused(act(world, run_id, "skip", seqs=[0]))
    assert (code, "failed" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    accepted = await act(world, run_id, "accept", seqs=[0, 2])
    assert counted(accepted) == (2, 1, 0, 1)
    run = await world.get(run_id)
    assert (run.state, run.counts.completed) == (pb.RUN_STATE_COMPLETED_WITH_FAILURES, 1)
    named = await act(world, run_id, "retry", filter_="state = failed AND kind = unknown")
    assert counted(named) == (1, 1, 0, 0)
    assert await work_off(worker, run_id, world) == [1]


async def test_a_verb_that_the_run_does_not_take_is_refused_whole(world: World) -> None:
    run_id = await world.run(3)
    worker = world.worker()
    await worker.leases(1)
    code, words = await refused(act(world, run_id, "skip"))
    assert (code, "seqs or by a filter" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    code, words = await refused(act(world, run_id, "skip", filter_="stat = 1"))
    assert (code, "character 1" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    code, _ = await refused(act(world, run_id, "skip", seqs=[1], stage=3))
    assert code is grpc.StatusCode.NOT_FOUND
    code, _ = await refused(world.runs.GetItemAction(pb.GetItemActionRequest(action_id="none")))
    assert code is grpc.StatusCode.NOT_FOUND
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id))
    code, words = await refused(act(world, run_id, "retry", seqs=[1]))
    assert (code, "stopping" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, force=True))
    code, words = await refused(act(world, run_id, "skip", seqs=[1]))
    assert (code, "resume" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)


async def test_a_large_action_goes_on_after_its_scheduler_was_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler.actions, "CHUNK", 7)
    monkeypatch.setattr(scheduler.actions, "INLINE_CHUNKS", 1)
    run_id = await world.run(50)
    monkeypatch.setattr(scheduler.actions.Actions, "go_on", lambda self: _never())
    begun = await act(world, run_id, "skip", filter_="seq >= 10", request_id="big")
    assert (begun.done, 0 < begun.changed < 40) == (False, True)
    monkeypatch.undo()
    await world.restart_scheduler()
    request = pb.GetItemActionRequest(action_id=begun.action_id)
    while not (action := await world.runs.GetItemAction(request)).done:
        pass
    assert counted(action) == (40, 40, 0, 0)
    assert counted(await act(world, run_id, "skip", filter_="seq >= 10", request_id="big")) == (40, 40, 0, 0)
    assert sorted(await work_off(world.worker(), run_id, world)) == list(range(10))


async def _never() -> int:
    return 0


async def test_a_filter_over_the_payload_is_refused_with_the_fields_that_there_are(world: World) -> None:
    run_id = await world.run(3)
    for verb in (pb.ITEM_VERB_SKIP, pb.ITEM_VERB_RETRY):
        request = pb.ActOnItemsRequest(run_id=run_id, verb=verb, filter="payload.i = 1", actor="ann", reason="test")
        with pytest.raises(grpc.aio.AioRpcError, match="there is no such field; there are: seq, key, group") as told:
            await world.runs.ActOnItems(request, timeout=10)
        assert told.value.code() == grpc.StatusCode.INVALID_ARGUMENT
