"""Estimates and histories of runs that did not go straight through: no time, cost or comparison is made up of what
people, clocks and dying programs did between."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import pytest

import planner.__main__
from penstock.runtime.channel import calling
from penstock.runtime.clock import SystemClock
from penstock.runtime.errors import Unavailable
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import sources_pb2 as sp
from planner.domain.history import HistoryKey
from planner.domain.moments import RunFacts
from planner.results.histories import LONGEST_STARTUP_SECONDS, StageRun, facts_of, measured
from tests.integration.planner.copied import Copy, ended
from tests.integration.planner.planned import BRANDS, Plans
from tests.integration.scheduler.world import HandWorker, World, completed, failed
from tests.servers.inprocess import serve

AGAIN = sp.Selection(again=True)
KEY = HistoryKey("noop", "1", "sleep_seconds=0.0")
COUNT = sum(BRANDS.values())


async def begun(world: World, plan: planner_pb2.Plan) -> str:
    with calling():
        return (await world.runs.StartRun(pb.StartRunRequest(plan_id=plan.plan_id, actor="ann", confirm=True))).run_id


async def reported(worker: HandWorker, run_id: str, count: int, *, cost: int = 0, wrong: bool = False) -> None:
    """So many items of a run, by hand."""
    while count:
        leases = await worker.leases(count)
        outcomes = [failed(lease, permanent=True) if wrong else completed(lease) for lease in leases]
        for outcome in outcomes:
            outcome.cost_micros = cost
        assert not await worker.report(run_id, outcomes)
        count -= len(leases)


async def estimates(plans: Plans) -> list[planner_pb2.RunEstimate]:
    with calling():
        return list((await plans.stub.ListEstimates(planner_pb2.ListEstimatesRequest())).estimates)


async def facts(copy: Copy, run_id: str) -> RunFacts | None:
    await copy.results.catch_up()
    return copy.histories.read([KEY])[KEY].runs[run_id].facts


async def changed(world: World, run_id: str) -> list[tuple[str, int]]:
    return [(event.new_state, event.time.ToMilliseconds()) for event in await world.events(run_id, "run.state")]


async def seconds_to_first(world: World, run_id: str) -> float:
    """From the start of a run's stage until an item of it began."""
    items = (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id))).items
    first = min(item.start_time.ToMilliseconds() for item in items)
    return (first - (await world.get(run_id)).stages[0].start_time.ToMilliseconds()) / 1000


@pytest.mark.parametrize("stops", [False, True], ids=["paused", "stopped"])
async def test_a_person_before_the_first_item_is_no_startup(
    plans: Plans, world: World, copy: Copy, stops: bool
) -> None:
    run_id, worker = await begun(world, await plans.plan()), world.worker()
    with calling():
        if stops:
            await world.runs.StopRun(pb.StopRunRequest(run_id=run_id, actor="ann", force=True))
        else:
            await world.runs.PauseRun(pb.RunCommand(run_id=run_id, actor="ann"))
    assert not await worker.leases(1, wait=1.0), "the time that passes here is a person's"
    with calling():
        await world.runs.ResumeRun(pb.RunCommand(run_id=run_id, actor="ann"))
    await reported(worker, run_id, COUNT)
    await worker.end()
    found = await facts(copy, run_id)
    at = await changed(world, run_id)
    away_ms = next(when for state, when in at if state in ("paused", "stopped"))
    back_ms = next(when for state, when in at if state == "running" and when > away_ms)
    assert found is not None
    assert back_ms - away_ms >= 1_000
    assert found.startup_seconds == pytest.approx(
        await seconds_to_first(world, run_id) - (back_ms - away_ms) / 1000, abs=0.005
    )


async def test_items_that_ran_again_after_the_end_tell_no_startup(plans: Plans, world: World, copy: Copy) -> None:
    run_id, worker = await begun(world, await plans.plan()), world.worker()
    await reported(worker, run_id, COUNT, wrong=True)
    with calling():
        seqs = list(range(COUNT))
        request = pb.ActOnItemsRequest(run_id=run_id, verb=pb.ITEM_VERB_RETRY, seqs=seqs, actor="ann")
        await world.runs.ActOnItems(request)
    await reported(worker, run_id, COUNT)
    await worker.end()
    assert await facts(copy, run_id) is None


@pytest.mark.parametrize("looked", [False, True], ids=["late", "between"])
async def test_of_a_reopened_run_the_first_end_counts_whenever_it_is_looked_at(
    plans: Plans, world: World, looked: bool
) -> None:
    await reported_whole(plans, world, cost=1_000)
    run_id, worker = await begun(world, await plans.plan(AGAIN)), world.worker()
    await reported(worker, run_id, COUNT - 1, cost=1_000)
    await reported(worker, run_id, 1, cost=1_000, wrong=True)
    first = await world.get(run_id)
    if looked:
        assert len(await estimates(plans)) == 1
    with calling():
        seqs = [item.seq for item in (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id))).items]
        request = pb.ActOnItemsRequest(run_id=run_id, verb=pb.ITEM_VERB_RETRY, seqs=seqs, actor="ann")
        await world.runs.ActOnItems(request)
    await reported(worker, run_id, 1, cost=5_000_000)
    await worker.end()
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED
    (one,) = await estimates(plans)
    took_ms = first.end_time.ToMilliseconds() - first.start_time.ToMilliseconds()
    assert (one.state, one.end_time) == ("completed_with_failures", first.end_time)
    assert one.runtime_seconds.actual == pytest.approx(took_ms / 1000, abs=0.002)
    assert one.HasField("cost_micros") == looked, "what it had spent by its first end is known then, and not later"
    if looked:
        assert one.cost_micros.actual == COUNT * 1_000


async def reported_whole(plans: Plans, world: World, *, cost: int) -> str:
    """A first run, from which the others are estimated."""
    plan = await plans.plan()
    run_id, worker = await begun(world, plan), world.worker()
    await reported(worker, run_id, COUNT, cost=cost)
    await worker.end()
    return run_id


async def test_a_run_of_which_items_were_skipped_is_not_compared(plans: Plans, world: World) -> None:
    await reported_whole(plans, world, cost=1_000)
    run_id, worker = await begun(world, await plans.plan(AGAIN)), world.worker()
    await reported(worker, run_id, 1, cost=1_000)
    with calling():
        request = pb.ActOnItemsRequest(run_id=run_id, verb=pb.ITEM_VERB_SKIP, seqs=list(range(1, COUNT)), actor="ann")
        await world.runs.ActOnItems(request)
    await world.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED)
    await worker.end()
    assert await estimates(plans) == [], "one item of eleven is not what was planned"


async def test_a_run_that_was_paused_is_compared_alike_once_it_is_archived(plans: Plans, world: World) -> None:
    """Its rows and its events are gone from the database before anybody looks."""
    await reported_whole(plans, world, cost=1_000)
    run_id, worker = await begun(world, await plans.plan(AGAIN)), world.worker()
    await reported(worker, run_id, 1, cost=1_000)
    with calling():
        await world.runs.PauseRun(pb.RunCommand(run_id=run_id, actor="ann"))
    assert not await worker.leases(1, wait=1.0)
    with calling():
        await world.runs.ResumeRun(pb.RunCommand(run_id=run_id, actor="ann"))
    await reported(worker, run_id, COUNT - 1, cost=1_000)
    await worker.end()
    section = world.settings.scheduler.model_copy(update={"archive_hours": 0.0, "event_hours": 0.0})
    world.settings = world.settings.model_copy(update={"scheduler": section})
    await world.restart_scheduler()
    last = await world.until(run_id, lambda run: run.archived, seconds=30)
    (one,) = await estimates(plans)
    took_ms = last.end_time.ToMilliseconds() - last.start_time.ToMilliseconds()
    assert one.runtime_seconds.actual <= took_ms / 1000 - 1.0
    assert one.cost_micros.actual == COUNT * 1_000


async def test_a_clone_is_compared_with_its_own_estimate(plans: Plans, world: World) -> None:
    await reported_whole(plans, world, cost=1_000)
    plan = await plans.plan(AGAIN)
    run_id, worker = await begun(world, plan), world.worker()
    await reported(worker, run_id, COUNT - 2, cost=1_000)
    await reported(worker, run_id, 2, cost=1_000, wrong=True)
    with calling():
        cloned = await world.runs.CloneRun(pb.CloneRunRequest(run_id=run_id, actor="ann"))
    await reported(worker, cloned.run_id, 2, cost=1_000)
    await worker.end()
    of_clone, of_run = await estimates(plans)
    assert (of_clone.run_id, of_run.run_id) == (cloned.run_id, run_id)
    assert of_clone.plan_id == cloned.plan_id != plan.plan_id
    assert of_clone.cost_micros.told.middle < of_run.cost_micros.told.middle / 2
    assert of_clone.cost_micros.actual == 2 * 1_000


async def test_a_comparison_is_asked_for_while_the_run_goes_on(plans: Plans, world: World) -> None:
    await reported_whole(plans, world, cost=1_000)
    run_id, worker = await begun(world, await plans.plan(AGAIN)), world.worker()
    for _ in range(COUNT):
        assert await estimates(plans) == []
        await reported(worker, run_id, 1, cost=1_000)
    await worker.end()
    assert [one.run_id for one in await estimates(plans)] == [run_id]


async def test_a_scheduler_that_dies_as_it_is_asked_is_asked_again(
    plans: Plans, world: World, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reported_whole(plans, world, cost=1_000)
    run_id, worker = await begun(world, await plans.plan(AGAIN)), world.worker()
    await reported(worker, run_id, COUNT, cost=1_000)
    await worker.end()
    asked = copy.outcomes.states

    async def dying(run_id: str) -> object:
        await world.scheduler.crash()
        return await asked(run_id)

    monkeypatch.setattr(copy.outcomes, "states", dying)
    with pytest.raises(Unavailable):
        await copy.results.catch_up()
    monkeypatch.undo()
    assert copy.estimates.compared(before=0, limit=9) == []
    await world.start_scheduler()
    await copy.results.catch_up()
    assert [one.run_id for one in copy.estimates.compared(before=0, limit=9)] == [run_id]
    assert copy.histories.read([KEY])[KEY].items == 2 * COUNT


async def test_what_was_told_stands_by_the_clock_of_the_run(plans: Plans, world: World) -> None:
    """A planner whose clock is an hour behind: by that clock the second start would have been before the first run."""
    await reported_whole(plans, world, cost=1_000)
    behind = SystemClock(time.time_ns() // 1_000_000 - 3_600_000, time.monotonic())
    await world.planner.crash()
    world.planner = await serve(
        lambda settings: planner.__main__.build(settings, behind), world.settings, address=world.planner.address
    )
    await world.restart_scheduler()
    plans = Plans(world)
    first = await plans.plan(AGAIN)
    run_id, worker = await begun(world, first), world.worker()
    await reported(worker, run_id, COUNT, cost=900_000)
    second = await plans.plan(AGAIN)
    assert second.plan_id == first.plan_id
    assert second.estimate.cost_micros.middle > 10 * first.estimate.cost_micros.middle
    again = await begun(world, second)
    await reported(worker, again, COUNT, cost=1_000)
    await worker.end()
    told = {one.run_id: one.cost_micros.told for one in await estimates(plans)}
    assert told == {run_id: first.estimate.cost_micros, again: second.estimate.cost_micros}


async def test_what_another_planner_has_copied_for_good_meanwhile_counts_once(world: World, copy: Copy) -> None:
    """This one has asked where to begin, and then the other removes the cursors of what no longer changes."""
    other = Copy(world)
    try:
        run_id = await ended(world, 20)
        asked = copy.outcomes.settled

        async def slow(after: int) -> object:
            answer = await asked(after)
            await other.results.catch_up()
            other.rows.finish(answer[0][-1].number + 1)
            return answer

        copy.outcomes.settled = slow  # type: ignore[method-assign, assignment]
        await copy.results.catch_up()
        history = copy.histories.read([KEY])[KEY]
        assert (history.items, history.runs[run_id].items) == (20, 20)
    finally:
        await other.close()


def part(copy: Copy, rows: str) -> Path:
    """A part of (seq, tries, healed, start_ms, end_ms)."""
    place = copy.staging.session / "part"
    duckdb.execute(
        f"COPY (SELECT 'run' AS run_id, 0 AS stage, seq::BIGINT AS seq, seq::BIGINT AS settle_number, "
        "'a' AS \"group\", 'completed' AS state, 7::BIGINT AS cost_micros, tries, healed, "
        f"b::BIGINT AS start_ms, e::BIGINT AS end_ms FROM (VALUES {rows}) AS t(seq, tries, healed, b, e)) "
        f"TO '{place}' (FORMAT parquet)"
    )
    return place


def ran(start_ms: int, *, steady: bool = True, laned: bool = False) -> StageRun:
    """A run of one stage that did nothing but work."""
    return StageRun(
        run_id="run",
        stage=0,
        run_ms=0,
        start_ms=start_ms,
        max_run_seconds=600,
        worked=lambda begin, end: (end - begin) / 1000,
        steady=steady,
        laned=laned,
    )


async def test_where_items_have_limits_a_long_wait_for_the_first_was_one_for_a_limit(copy: Copy) -> None:
    """Two slots, of which one had nothing to do for seconds between its items."""
    longest_ms = int(LONGEST_STARTUP_SECONDS * 1000)
    begins = [longest_ms, *(longest_ms + 2_000 + 5_000 * number for number in range(3))]
    times = [(begin, begin + 5_000) for begin in begins]
    place = part(copy, ", ".join(f"({seq}, 0, false, {begin}, {end})" for seq, (begin, end) in enumerate(times)))

    def told(start_ms: int, *, laned: bool) -> RunFacts | None:
        found = facts_of(copy.files, [place], ran(start_ms, laned=laned))
        return found.runs["run"].facts if found is not None else None

    known = told(0, laned=False)
    assert known is not None
    assert known.gap_seconds is not None
    assert told(0, laned=True) == RunFacts(LONGEST_STARTUP_SECONDS), "how long slots stood empty, limits may have said"
    assert told(-1, laned=True) is None
    free = told(-1, laned=False)
    assert free is not None
    assert free.startup_seconds == LONGEST_STARTUP_SECONDS + 0.001


@pytest.mark.parametrize("steady", [False, True])
async def test_what_a_clock_that_was_set_says_is_no_time_of_an_item(copy: Copy, steady: bool) -> None:
    """One of two seconds; one that ended before it began, one that took ten years, one that never began."""
    times = ((1_000, 3_000), (5_000, 4_000), (2_000, 315_360_000_000), ("NULL", 5))
    place = part(copy, ", ".join(f"({seq}, 0, false, {begin}, {end})" for seq, (begin, end) in enumerate(times)))
    history = measured(copy.files, place, run_id="run", run_ms=0, max_tries=5, max_run_seconds=600)
    assert (history.items, history.groups["a"].seconds.total) == (1, 2.0)
    found = facts_of(copy.files, [place], ran(500, steady=steady))
    assert found is not None
    assert found.runs["run"].facts == RunFacts(0.5)


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [("(0, 5, true, 0, 60000), (1, 1, false, 0, 2000)", 60 + 5 * 2 + 2 * 2), ("(0, 5, true, 0, 60000)", 6 * 60)],
)
async def test_tries_before_a_heal_took_no_heal_each(copy: Copy, rows: str, seconds: float) -> None:
    """Five tries failed, then a healer worked for a minute; where nothing else is known the last stands for all."""
    place = part(copy, rows)
    history = measured(copy.files, place, run_id="run", run_ms=0, max_tries=5, max_run_seconds=600)
    assert history.groups["a"].seconds.total == pytest.approx(seconds)
