"""The worker: every item gets one outcome, whatever its processor does; leases end in order whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

import worker.runner
from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import TooLarge
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from tests.integration.scheduler.world import World
from tests.integration.worker.conftest import MakeAgent
from tests.integration.worker.trial import TrialProcessor, held_threads
from worker import outcomes
from worker.held import HeldLease
from worker.outbox import MAX_REPORT_BYTES
from worker.runner import Runner, StageWork


async def until(what: str, condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.01)


class RecordingStub:
    """The scheduler's stub; notes the size of what is reported, and refuses what is told."""

    def __init__(self, world: World) -> None:
        self._stub = scheduler_pb2_grpc.LeaseServiceStub(world.channel())
        self.sizes: list[int] = []
        self.refuse: Callable[[pb.Outcome], bool] = lambda outcome: False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._stub, name)

        async def call(request: Any, timeout: float) -> Any:
            for batch in getattr(request, "outcomes", ()):
                if any(self.refuse(outcome) for outcome in batch.outcomes):
                    raise TooLarge("more than a report may have")
            self.sizes.append(request.ByteSize())
            return await method(request, timeout=timeout)

        return call


def sent(ended: Sequence[outcomes.Ended]) -> list[pb.Outcome]:
    """The outcomes of leases as a request has them."""
    request = pb.ReportRequest()
    outcomes.put(request.outcomes, ended)
    return [outcome for batch in request.outcomes for outcome in batch.outcomes]


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
        ("time_out_itself", "item", "TimeoutError: the site is slow"),
        ("exit", "item", "SystemExit: 3"),
        ("interrupt", "item", "KeyboardInterrupt"),
        ("cancel", "item", "CancelledError: by itself"),
        ("end", "item", "Ending: <exception str() failed>"),
        ("refuse", "item", "this item can't be done"),
        ("not_json", "invalid_result", "its result is no JSON"),
        ("nothing", "invalid_result", "answered a NoneType, not a Result or a Failure"),
        ("no_blob", "invalid_result", "its blob is no answer of context.blobs.put"),
        ("odd_blob", "invalid_result", "its blob is no answer of context.blobs.put"),
        ("far_away", "invalid_result", "a Deferred waits until"),
        ("half_a_character", "item", "a name that is no text: ?"),
        ("no_words", "k" * 40, "None"),
        ("hang", "timeout", "not done within 1 s"),
    ],
)
async def test_what_a_processor_does_wrong_is_the_item_s_failure_and_nothing_else(
    world: World, make_agent: MakeAgent, mode: str, kind: str, words: str
) -> None:
    agent = make_agent()
    run_id = await world.run(1, processor="trial", parameters={"mode": mode}, max_tries=1, max_run_seconds=1)
    await world.until(run_id, ended)
    failure = await item(world, run_id)
    assert failure.state == pb.ITEM_STATE_FAILED
    assert failure.error_kind == kind
    assert words in failure.error
    after = await world.run(3, processor="trial")
    assert (await world.until(after, ended)).counts.completed == 3
    await until("every lease is let go", lambda: not len(agent._held))


async def test_a_call_that_goes_on_after_its_cancellation_is_left_behind(world: World, make_agent: MakeAgent) -> None:
    make_agent()
    run_id = await world.run(1, processor="trial", parameters={"mode": "stubborn"}, max_tries=1, max_run_seconds=1)
    await world.until(run_id, ended)
    assert (await item(world, run_id)).error_kind == "timeout"
    after = await world.run(3, processor="trial")
    assert (await world.until(after, ended)).counts.completed == 3
    TrialProcessor.gate.set()


async def test_threads_that_hang_do_not_starve_the_calls_after(tmp_path: Path) -> None:
    runner = Runner(BlobStore(tmp_path), {})

    async def run(count: int, seconds: int, **parameters: object) -> list[pb.Outcome]:
        work = StageWork("run-1", 0, "trial", orjson.dumps(parameters), seconds)
        held = [HeldLease("run-1", 0, pb.Lease(seq=seq, attempt=1), 1e9) for seq in range(count)]
        answers = await asyncio.gather(*(runner.run(work, [lease], list) for lease in held))
        return sent([ended for answer in answers for ended in answer])

    try:
        hung = await run(40, 1, mode="hold_a_thread")
        assert {outcome.error_kind for outcome in hung} == {"timeout"}
        threaded = await run(3, 5, mode="thread")
        assert [outcome.kind for outcome in threaded] == [pb.OUTCOME_KIND_COMPLETED] * 3
        large = await run(3, 5, size=100_000)
        assert all(outcome.result_blob.size_bytes > 100_000 for outcome in large)
    finally:
        held_threads.set()


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        ("miscounting", "answered 2 outcomes for 3 items"),
        ("silent", "answered a NoneType for 3 items"),
        ("never-made", "processor never-made can't be made: OSError: no model on this machine"),
    ],
)
async def test_a_processor_that_answers_no_list_of_outcomes_fails_its_batch(
    world: World, make_agent: MakeAgent, processor: str, words: str
) -> None:
    run_id = await world.run(3, processor=processor, max_tries=1)
    make_agent()
    run = await world.until(run_id, ended)
    assert run.counts.failed == 3
    assert words in (await item(world, run_id)).error
    after = await world.run(3, processor="trial")
    assert (await world.until(after, ended)).counts.completed == 3


@pytest.mark.parametrize("size", [200_000, 50_000_000])
async def test_large_results_become_blobs(world: World, make_agent: MakeAgent, size: int) -> None:
    run_id = await world.run(3, processor="batched", parameters={"size": size})
    make_agent()
    assert (await world.until(run_id, ended)).counts.completed == 3
    done = await item(world, run_id)
    assert not done.result
    assert world.settings.blobs is not None
    assert len(BlobStore(world.settings.blobs).get(done.result_blob.sha256)) == size + 2


async def test_an_item_whose_payload_can_t_be_read_fails_alone(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    refs = blobs.put_many(orjson.dumps({"words": "x" * 100_000, "i": seq}) for seq in range(3))
    blobs.path(refs[1].sha256).write_bytes(b"damaged")
    blobs.path(refs[2].sha256).unlink()
    leases = [pb.Lease(seq=seq, attempt=1, key=f"k{seq}", payload_blob=ref) for seq, ref in enumerate(refs)]
    leases.append(pb.Lease(seq=3, attempt=1, key="k3", payload=b"{}"))
    held = [HeldLease("run", 0, lease, trusted_until=0.0) for lease in leases]
    ended = await Runner(blobs, {}).run(StageWork("run", 0, "batched", b"", 60), held, list)
    assert [lease for lease, _ in ended] == held
    assert sorted(TrialProcessor.began) == [0, 3]
    good, damaged, missing, inline = sent(ended)
    assert {good.kind, inline.kind} == {pb.OUTCOME_KIND_COMPLETED}
    assert (damaged.error_kind, damaged.no_try) == ("unavailable", True)
    assert "no blob" in missing.error


async def test_reports_are_cut_by_bytes(world: World, make_agent: MakeAgent) -> None:
    stub = RecordingStub(world)
    run_id = await world.run(200, processor="trial", parameters={"mode": "wait", "size": 60_000}, concurrency=200)
    make_agent(stub, slots=200)
    await until("all began", lambda: len(TrialProcessor.began) == 200)
    TrialProcessor.gate.set()
    assert (await world.until(run_id, ended)).counts.completed == 200
    assert sum(stub.sizes) > 200 * 60_000
    assert max(stub.sizes) <= MAX_REPORT_BYTES + 100_000


async def test_an_outcome_that_will_never_be_taken_fails_alone(world: World, make_agent: MakeAgent) -> None:
    stub = RecordingStub(world)
    stub.refuse = lambda outcome: outcome.seq == 3 and outcome.kind == pb.OUTCOME_KIND_COMPLETED
    run_id = await world.run(8, processor="batched", max_tries=1)
    make_agent(stub)
    run = await world.until(run_id, ended)
    assert (run.counts.completed, run.counts.failed) == (7, 1)
    failure = await item(world, run_id, 3)
    assert (failure.error_kind, failure.error) == (
        "invalid_result",
        "its outcome was refused: more than a report may have",
    )
    assert sorted(TrialProcessor.began) == list(range(8)), "no neighbour was executed again"


async def test_a_report_of_which_nothing_is_ever_taken_is_given_up(world: World, make_agent: MakeAgent) -> None:
    stub = RecordingStub(world)
    stub.refuse = lambda outcome: outcome.seq == 0 and outcome.attempt == 1
    run_id = await world.run(3, processor="trial")
    make_agent(stub)
    run = await world.until(run_id, ended)
    assert run.counts.completed == 3
    assert (await item(world, run_id)).attempt == 2, "its lease expired"


@pytest.mark.parametrize("mode", ["odd_blob", "far_away", "not_json", "nothing"])
async def test_what_one_item_answers_costs_no_other_of_its_batch_anything(
    world: World, make_agent: MakeAgent, mode: str
) -> None:
    run_id = await world.run(
        8, processor="batched", max_tries=1, payload=lambda i: {"mode": mode} if i == 2 else {"mode": "complete"}
    )
    make_agent()
    run = await world.until(run_id, ended)
    assert (run.counts.completed, run.counts.failed) == (7, 1)
    assert sorted(TrialProcessor.began) == list(range(8))


async def test_what_an_acquire_brings_while_an_item_runs_alone_goes_to_others(
    world: World, make_agent: MakeAgent
) -> None:
    """Neither does it wait here, nor does its time run out before it begins."""
    run_id = await world.run(1, processor="trial", parameters={"mode": "wait"})
    dying = world.worker()
    dying.session.processors["trial"] = "1"
    (lease,) = await dying.leases(1)
    await dying.renew(run_id, [lease])
    await world.until(run_id, lambda run: run.counts.running == 0)
    make_agent(poll_seconds=5.0)
    await until("it runs alone", lambda: TrialProcessor.began == [0])
    others = await world.run(6, processor="trial", max_tries=1, max_run_seconds=1)
    await asyncio.sleep(0.3)
    await world.until(others, lambda run: run.counts.running == 0)  # none is kept by the worker that is not free
    make_agent()
    assert (await world.until(others, ended)).counts.completed == 6
    TrialProcessor.gate.set()
    assert (await world.until(run_id, ended)).counts.completed == 1


async def test_a_worker_that_retires_does_what_it_has_begun_however_long_it_takes(
    world: World, make_agent: MakeAgent
) -> None:
    run_id = await world.run(10, processor="trial", parameters={"mode": "wait"}, concurrency=4)
    agent = make_agent(drain_seconds=0.1)
    await until("they began", lambda: len(TrialProcessor.began) == 4)
    retiring = asyncio.create_task(agent.retire())
    await asyncio.sleep(1.0)
    assert not retiring.done()
    TrialProcessor.gate.set()
    await retiring
    run = await world.get(run_id)
    assert (run.counts.completed, run.counts.running) == (4, 0)


async def test_what_was_lost_with_its_worker_runs_while_nothing_else_does(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(12, processor="trial", parameters={"mode": "brief"})
    dying = world.worker()
    dying.session.processors["trial"] = "1"
    began = await dying.leases(4)
    assert [lease.seq for lease in began] == [0, 1, 2, 3]
    await dying.renew(run_id, began)
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


async def test_a_force_stop_cancels_a_batch_that_runs(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(8, processor="batched", parameters={"mode": "wait"})
    make_agent()
    await until("all began", lambda: len(TrialProcessor.began) == 8)
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, force=True))
    await until("all were cancelled", lambda: sorted(TrialProcessor.cancelled) == list(range(8)))


async def test_a_batch_that_lost_some_of_its_leases_goes_on(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(4, processor="batched", parameters={"mode": "wait"})
    agent = make_agent()
    await until("all began", lambda: len(TrialProcessor.began) == 4)
    for seq in range(3):
        agent._held.revoke((run_id, 0, seq, 1))
    TrialProcessor.gate.set()
    await until("it was reported", lambda: not len(agent._held))
    assert TrialProcessor.cancelled == []
    assert [(await item(world, run_id, seq)).state for seq in (2, 3)] == [
        pb.ITEM_STATE_RUNNING,
        pb.ITEM_STATE_COMPLETED,
    ]


async def test_a_processor_that_goes_on_after_a_force_stop_is_cancelled(
    world: World, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.runner, "CANCEL_SECONDS", 0.05)
    run_id = await world.run(1, processor="gated", parameters={"mode": "hang"})
    make_agent()
    await until("it began", lambda: TrialProcessor.began == [0])
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, force=True))
    await until("it ended", lambda: not TrialProcessor.running)
    after = await world.run(1, processor="gated")
    assert (await world.until(after, ended)).counts.completed == 1, "there is room for the next"


async def test_a_pause_holds_for_what_waits_for_its_processor(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(4, processor="gated", parameters={"mode": "wait"})
    make_agent()
    await until("one began", lambda: TrialProcessor.began == [0])
    await world.until(run_id, lambda run: run.counts.running == 4)
    await world.runs.PauseRun(pb.RunCommand(run_id=run_id))
    await world.until(run_id, lambda run: run.counts.running == 1)
    TrialProcessor.gate.set()
    await world.until(run_id, lambda run: run.quiesced)
    assert TrialProcessor.began == [0], "what was handed back was not begun"
    await world.runs.ResumeRun(pb.RunCommand(run_id=run_id))
    await world.until(run_id, ended)
    assert TrialProcessor.began == [0, 1, 2, 3], "each was executed once"


async def test_a_force_stop_holds_for_what_waits_for_its_processor(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(4, processor="gated", parameters={"mode": "wait"})
    agent = make_agent()
    await until("one began", lambda: TrialProcessor.began == [0])
    await world.until(run_id, lambda run: run.counts.running == 4)
    await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, force=True))
    await until("all were revoked", lambda: not len(agent._held))
    await until("nothing runs", lambda: not agent._running)
    assert (TrialProcessor.began, TrialProcessor.cancelled) == ([0], [0])


async def test_progress_is_seen_while_it_runs(world: World, make_agent: MakeAgent) -> None:
    run_id = await world.run(1, processor="trial", parameters={"mode": "wait"})
    make_agent()
    run = await world.until(run_id, lambda run: run.stages[0].phase == "waiting")
    assert run.stages[0].progress == 0.5
    TrialProcessor.gate.set()
    await world.until(run_id, ended)


@pytest.mark.parametrize(("processor", "begun"), [("trial", 6), ("gated", 1), ("batched", 6)])
async def test_a_drain_finishes_what_runs_and_hands_back_the_rest_without_a_try(
    world: World, make_agent: MakeAgent, processor: str, begun: int
) -> None:
    run_id = await world.run(10, processor=processor, parameters={"mode": "wait"}, concurrency=6)
    agent = make_agent(drain_seconds=60.0)
    await world.until(run_id, lambda run: run.counts.running == 6)
    await until("they began", lambda: len(TrialProcessor.began) == begun)
    draining = asyncio.create_task(agent.drain())
    await world.until(run_id, lambda run: run.counts.running == begun)
    TrialProcessor.gate.set()
    await draining
    run = await world.get(run_id)
    assert (run.counts.completed, run.counts.running, run.counts.queued) == (begun, 0, 10 - begun)
    assert sorted(TrialProcessor.began) == list(range(begun))
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
    run_id = await world.run(3, processor="gated", parameters={"mode": "wait"})
    agent = make_agent()
    await until("one began", lambda: TrialProcessor.began == [0])
    await world.until(run_id, lambda run: run.counts.running == 3)
    await world.scheduler.crash()
    now = asyncio.get_running_loop().time
    await until("no lease can be trusted", lambda: all(lease.trusted_until <= now() for lease in agent._held))
    TrialProcessor.gate.set()
    await until("what waited was dropped", lambda: len(agent._held) == 1)
    assert TrialProcessor.began == [0]
    await world.start_scheduler()
    run = await world.until(run_id, ended)
    assert run.counts.completed == 3
    assert sorted(TrialProcessor.began) == [0, 1, 2], "what was dropped ran later, what ran counted"


def test_a_processor_that_can_t_be_loaded_is_left_out(tmp_path: object) -> None:
    versions = Runner(None, {}).versions()  # type: ignore[arg-type]  # no item is run
    assert {"noop", "document", "collection", "trial", "miscounting"} <= set(versions)
    assert not {"broken", "unbounded"} & set(versions)
