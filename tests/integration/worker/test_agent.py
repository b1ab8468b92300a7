"""The worker: every item gets one outcome, whatever its processor does; leases end in order whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import orjson
import pytest

from penstock.runtime.blobs import BlobStore
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import World, completed
from tests.integration.worker.conftest import MakeAgent
from tests.integration.worker.trial import TrialProcessor
from worker.runner import Runner


async def until(what: str, condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.01)


def ended(run: pb.Run) -> bool:
    return run.state in (
        pb.RUN_STATE_COMPLETED,
        pb.RUN_STATE_COMPLETED_WITH_FAILURES,
        pb.RUN_STATE_FAILED,
        pb.RUN_STATE_STOPPED,
    )


async def item(world: World, run_id: str, seq: int = 0) -> pb.RunItem:
    return (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, seqs=[seq]))).items[0]


async def test_a_run_is_worked_off_and_every_result_is_its_item_s(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(60, processor="trial", parameters={"mode": "brief"})
    make_agent()
    make_agent()
    run = await world.until(run_id, ended)
    assert run.counts.completed == 60
    listed = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, page_size=100))
    assert [orjson.loads(i.result) for i in listed.items] == [{"key": f"k{n}", "payload": {"i": n}} for n in range(60)]
    assert sorted(TrialProcessor.began) == list(range(60)), "each was executed once"


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("raise", "item", "RuntimeError: a plain defect"),
        ("refuse", "item", "this item can't be done"),
        ("not_json", "invalid_result", "its result is no JSON"),
        ("hang", "timeout", "not done within 1 s"),
    ],
)
async def test_what_a_processor_does_wrong_is_the_item_s_failure(
    world: World, make_agent: MakeAgent, mode: str, kind: str, words: str
) -> None:
    run_id = await world.run(1, processor="trial", parameters={"mode": mode}, max_tries=1, max_run_seconds=1)
    make_agent()
    await world.until(run_id, ended)
    failure = await item(world, run_id)
    assert failure.state == pb.ITEM_STATE_FAILED
    assert failure.error_kind == kind
    assert words in failure.error


async def test_too_few_answers_fail_the_whole_batch(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(3, processor="miscounting")
    make_agent()
    run = await world.until(run_id, ended)
    assert run.counts.failed == 3
    assert "answered 2 outcomes for 3 items" in (await item(world, run_id)).error


async def test_a_large_result_becomes_a_blob(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(1, processor="trial", parameters={"mode": "large"})
    make_agent()
    await world.until(run_id, ended)
    done = await item(world, run_id)
    assert not done.result
    assert world.settings.blobs is not None
    assert orjson.loads(BlobStore(world.settings.blobs).get(done.result_blob.sha256)) == "x" * 200_000


async def test_what_was_lost_with_its_worker_runs_while_nothing_else_does(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(12, processor="trial", parameters={"mode": "brief"})
    dying = world.worker()
    dying.session.processors["trial"] = "1"
    assert len(await dying.leases(3)) == 3
    assert len(await dying.leases(1)) == 1  # confirms
    await world.until(run_id, lambda run: run.counts.running == 0)
    make_agent()
    run = await world.until(run_id, ended)
    assert run.counts.completed == 12
    assert all(not TrialProcessor.beside[seq] for seq in (0, 1, 2, 3)), TrialProcessor.beside


async def test_an_item_that_lost_every_worker_fails_and_costs_no_other(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(2, processor="trial", max_tries=2)
    for _ in range(2):
        dying = world.worker()
        dying.session.processors["trial"] = "1"
        (lease,) = await dying.leases(1)
        assert lease.seq == 0
        await dying.renew(run_id, [lease])
        await world.until(run_id, lambda run: run.counts.running == 0)
    make_agent()
    run = await world.until(run_id, ended)
    assert (run.counts.completed, run.counts.failed) == (1, 1)
    assert (await item(world, run_id)).error_kind == "worker_lost"


async def test_a_force_stop_cancels_what_runs(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(1, processor="trial", parameters={"mode": "wait"})
    make_agent()
    await until("it began", lambda: TrialProcessor.began == [0])
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, force=True))
    await until("it was cancelled", lambda: TrialProcessor.cancelled == [0])
    assert (await item(world, run_id)).state == pb.ITEM_STATE_STOPPED


async def test_progress_is_seen_while_it_runs(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(1, processor="trial", parameters={"mode": "wait"})
    make_agent()
    run = await world.until(run_id, lambda run: run.stages[0].phase == "waiting")
    assert run.stages[0].progress == 0.5
    TrialProcessor.gate.set()
    await world.until(run_id, ended)


async def test_a_drain_finishes_what_runs_and_hands_back_the_rest_without_a_try(
    world: World, make_agent: MakeAgent
) -> None:
    run_id = await world.run(4, processor="trial", parameters={"mode": "wait"}, concurrency=2)
    agent = make_agent()
    await until("two began", lambda: len(TrialProcessor.began) == 2)
    draining = asyncio.create_task(agent.drain())
    await asyncio.sleep(0.1)
    TrialProcessor.gate.set()
    await draining
    run = await world.get(run_id)
    assert (run.counts.completed, run.counts.running, run.counts.queued) == (2, 0, 2)
    assert not await world.events(run_id, "lease.lost")


async def test_a_drain_releases_what_does_not_finish_in_its_time(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(1, processor="trial", parameters={"mode": "wait"})
    agent = make_agent(drain_seconds=0.2)
    await until("it began", lambda: TrialProcessor.began == [0])
    await agent.drain()
    run = await world.get(run_id)
    assert (run.counts.running, run.counts.queued) == (0, 1)


async def test_an_outcome_survives_a_restart_of_the_scheduler(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(3, processor="trial", parameters={"mode": "wait"})
    make_agent()
    await until("all began", lambda: len(TrialProcessor.began) == 3)
    await world.scheduler.crash()
    TrialProcessor.gate.set()
    await until("all ended", lambda: not TrialProcessor.running)
    await world.start_scheduler()
    run = await world.until(run_id, ended)
    assert run.counts.completed == 3
    assert TrialProcessor.began == [0, 1, 2], "nothing was executed twice"


async def test_a_lease_that_can_t_be_trusted_any_more_is_not_begun(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(2, processor="trial", parameters={"mode": "brief"})
    agent = make_agent()
    await world.until(run_id, ended)
    worker = world.worker()
    stale = pb.AcquireResponse(term_seconds=1.0)
    stale.batches.add(run_id=run_id, stage=0, processor="trial", parameters=b"{}").leases.add(seq=9, attempt=1)
    TrialProcessor.reset()
    agent._begin(stale, asyncio.get_running_loop().time() - 2.0)
    await asyncio.sleep(0.1)
    assert TrialProcessor.began == []
    assert await worker.report(run_id, [completed(pb.Lease(seq=0, attempt=1))]) != []


def test_a_processor_that_can_t_be_loaded_is_left_out(tmp_path: object) -> None:
    versions = Runner(None, {}).versions()  # type: ignore[arg-type]  # no item is run
    assert {"noop", "document", "collection", "trial", "miscounting"} <= set(versions)
    assert "broken" not in versions
