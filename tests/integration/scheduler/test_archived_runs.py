"""An archived run over real parts: everything that reads it goes on, everything that changes it says what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa

from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from scheduler.store.schema import events
from tests.integration.scheduler.world import World, completed, failed


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[World]:
    """One that archives what has ended at once."""
    one = await World.start(tmp_path, redis_url, database_url, archive_hours=0)
    try:
        yield one
        one.check()
    finally:
        await one.stop()


async def archived(world: World) -> str:
    """A run of 30 items, one failed and ten never leased, that was stopped and archived."""
    run_id = await world.run(30, max_tries=1)
    worker = world.worker()
    leases = await worker.leases(20)
    outcomes = [completed(lease, {"n": lease.seq}) for lease in leases[:19]] + [failed(leases[19], "broke")]
    assert await worker.report(run_id, outcomes) == []
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, actor="ann"))
    await world.until(run_id, lambda run: run.archived)
    return run_id


async def outcomes(world: World, run_id: str, **request: object) -> list[pb.RunItem]:
    stream = world.runs.ReadOutcomes(pb.ReadOutcomesRequest(run_id=run_id, **request))  # type: ignore[arg-type]
    return [item async for answer in stream for item in answer.items]


async def test_every_report_of_an_archived_run_gets_the_same_answer(world: World) -> None:
    run_id = await world.run(3, max_tries=1)
    worker = world.worker()
    leases = await worker.leases(3)
    said = [completed(leases[0]), failed(leases[1])]
    assert await worker.report(run_id, said) == []
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, actor="ann", force=True))
    run = await world.until(run_id, lambda run: run.archived)
    before = len(await world.events(run_id))
    for _ in range(2):
        assert await worker.report(run_id, [*said, completed(leases[2])]) == ["archived"] * 3
    assert len(await world.events(run_id)) == before
    assert (await world.get(run_id)).stages == run.stages


async def test_an_archived_run_is_read_as_before(world: World) -> None:
    run_id = await archived(world)
    items = (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, with_payload=True), timeout=10)).items
    assert [item.seq for item in items] == list(range(30))
    states = {pb.ITEM_STATE_COMPLETED: 19, pb.ITEM_STATE_FAILED: 1, pb.ITEM_STATE_STOPPED: 10}
    assert {state: sum(item.state == state for item in items) for state in states} == states
    assert items[3].result == b'{"n":3}'
    assert items[3].payload == b'{"i":3}'
    request = pb.ListItemsRequest(run_id=run_id, states=[pb.ITEM_STATE_FAILED])
    (broken,) = (await world.runs.ListItems(request, timeout=10)).items
    assert (broken.key, broken.error) == ("k19", "broke")
    request = pb.ListItemsRequest(run_id=run_id, seqs=[1, 25])
    assert [item.key for item in (await world.runs.ListItems(request, timeout=10)).items] == ["k1", "k25"]
    request = pb.ListItemsRequest(run_id=run_id, states=[pb.ITEM_STATE_STOPPED], page_size=4)
    page = await world.runs.ListItems(request, timeout=10)
    assert [item.seq for item in page.items] == [20, 21, 22, 23]
    request.page_token = page.next_page_token
    assert [item.seq for item in (await world.runs.ListItems(request, timeout=10)).items] == [24, 25, 26, 27]
    settled = await outcomes(world, run_id)
    assert [item.settle_number for item in settled] == list(range(1, 21))
    assert [item.settle_number for item in await outcomes(world, run_id, after_settle_number=17)] == [18, 19, 20]
    story = [event.number for event in await world.events(run_id)]
    assert story == list(range(1, len(story) + 1))
    summary = await world.runs.GetRunSummary(pb.GetRunSummaryRequest(run_id=run_id), timeout=10)
    assert (summary.run.counts.completed, summary.run.archived) == (19, True)
    assert summary.failures[0].example_error == "broke"
    watched = [answer async for answer in world.runs.WatchRun(pb.WatchRunRequest(run_id=run_id))]
    assert [event.number for answer in watched for event in answer.events] == story
    why = await world.runs.ExplainRun(pb.ExplainRunRequest(run_id=run_id), timeout=10)
    assert [reason.code for reason in why.reasons] == ["run_archived"]
    for seq, state in ((3, "completed"), (19, "failed"), (25, "stopped")):
        told = await world.runs.ExplainItem(pb.ExplainItemRequest(run_id=run_id, seq=seq), timeout=10)
        assert (told.state, [reason.code for reason in told.reasons]) == (state, [state, "run_archived"])


async def test_a_watcher_misses_no_event_while_those_of_an_archived_run_are_being_forgotten(world: World) -> None:
    run_id = await archived(world)
    story = [event.number for event in await world.events(run_id)]
    database = Database(world.settings.scheduler.database_url, "scheduler")
    try:
        with database.write() as connection:  # as their sweep does: the oldest first, some at a time
            connection.execute(sa.delete(events).where(events.c.number <= len(story) // 2))
    finally:
        database.close()
    for after in (0, 1, len(story) // 2, len(story) - 1, len(story)):
        stream = world.runs.WatchRun(pb.WatchRunRequest(run_id=run_id, after_number=after), timeout=10)
        assert [event.number async for answer in stream for event in answer.events] == story[after:], after


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await call
    assert told.value.code() is grpc.StatusCode.FAILED_PRECONDITION, told.value
    return told.value.details() or ""


async def test_nothing_changes_an_archived_run_and_a_clone_is_named(world: World) -> None:
    run_id = await archived(world)
    assert "clone" in await refused(world.runs.ResumeRun(pb.RunCommand(run_id=run_id), timeout=10))
    request = pb.ActOnItemsRequest(run_id=run_id, verb=pb.ITEM_VERB_RETRY, seqs=[19])
    for validate_only in (False, True):
        request.validate_only = validate_only
        assert "clone" in await refused(world.runs.ActOnItems(request, timeout=10))


async def test_an_archived_run_is_cloned_and_listed_by_a_filter(world: World) -> None:
    run_id = await archived(world)
    request = pb.ListItemsRequest(run_id=run_id, filter="state = failed OR seq < 2")
    assert [item.seq for item in (await world.runs.ListItems(request, timeout=10)).items] == [0, 1, 19]
    clone = await world.runs.CloneRun(pb.CloneRunRequest(run_id=run_id), timeout=10)
    items = (await world.runs.ListItems(pb.ListItemsRequest(run_id=clone.run_id), timeout=10)).items
    assert [item.key for item in items] == [f"k{seq}" for seq in range(19, 30)]
    failures = await world.runs.CloneRun(pb.CloneRunRequest(run_id=run_id, failed=True), timeout=10)
    assert failures.counts.total == 1


async def test_a_scheduler_that_dies_after_the_mark_leaves_its_purge_to_the_next(world: World) -> None:
    run_id = await archived(world)
    await world.restart_scheduler()
    assert len(await outcomes(world, run_id)) == 20
