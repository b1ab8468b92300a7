"""Estimates of plans: from what runs recorded, told before the start, and compared with what came of it."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, Unavailable
from penstock.v1 import planner_pb2, rules_pb2
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import sources_pb2 as sp
from planner import estimate_making, limits_seen
from planner.domain.history import History, HistoryKey
from planner.domain.parameter_names import shown_parameters
from planner.results import copying
from planner.results.rows import ResultRows
from tests.integration.planner.copied import Copy, ended
from tests.integration.planner.planned import Plans, rows
from tests.integration.scheduler.world import World, completed, failed

AGAIN = sp.Selection(again=True)
NOOP = HistoryKey("noop", "1", "sleep_seconds=0.0")


async def recorded(world: World, plan: planner_pb2.Plan, *, cost: int = 0, wrong: int = 0) -> str:
    """A run of a plan to its end: each item costs that much, the first `wrong` fail; its id."""
    with calling():
        run = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan.plan_id, actor="ann", confirm=True))
    worker, left = world.worker(), plan.item_count
    while left:
        leases = await worker.leases(left)
        outcomes = []
        for lease in leases:
            outcome = failed(lease, permanent=True) if lease.seq < wrong else completed(lease, {})
            outcome.cost_micros = cost
            outcomes.append(outcome)
        assert not await worker.report(run.run_id, outcomes)
        left -= len(leases)
    await worker.end()
    return run.run_id


def known(copy: Copy, key: HistoryKey = NOOP) -> History:
    return copy.histories.read([key]).get(key, History())


def counted(history: History) -> tuple[int, float, dict[str, int]]:
    """Items, the sum of their cost, and how many each group has."""
    cost = sum(group.cost.total for group in history.groups.values())
    return history.items, cost, {name: group.items for name, group in history.groups.items()}


async def estimates(plans: Plans, **fields: object) -> planner_pb2.ListEstimatesResponse:
    with calling():
        return await plans.stub.ListEstimates(planner_pb2.ListEstimatesRequest(**fields))  # type: ignore[arg-type]


async def test_without_history_there_is_no_number(plans: Plans) -> None:
    plan = await plans.plan()
    assert not plan.estimate.HasField("runtime_seconds")
    (stage,) = plan.estimate.stages
    assert (stage.runtime_rest.basis, stage.runtime_rest.words) == ("none", "no history")
    assert not stage.HasField("runtime_seconds")
    assert not any(group.HasField("runtime_seconds") for group in stage.groups)
    assert "no history" in plan.estimate.words
    assert not plan.estimate.notes


async def test_a_preview_tells_what_runs_recorded_and_the_run_is_compared_with_it(plans: Plans, world: World) -> None:
    first = await recorded(world, await plans.plan(), cost=2_000)
    plan = await plans.plan(AGAIN, validate_only=True)
    told = plan.estimate
    (stage,) = told.stages
    rest = stage.runtime_rest
    assert (rest.basis, rest.processor, rest.version, rest.items, rest.runs) == ("measured", "noop", "1", 11, 1)
    assert rest.parameters == "sleep_seconds=0.0"
    assert 0 < told.runtime_seconds.low <= told.runtime_seconds.middle <= told.runtime_seconds.high
    assert told.cost_micros.low <= 11 * 2_000 <= told.cost_micros.high
    assert [(group.group, group.items) for group in stage.groups] == [("Acer", 2), ("Logitech", 4), ("Razer", 5)]
    assert all(group.HasField("cost_micros") for group in stage.groups)
    assert "from 11 items of noop 1" in stage.words
    with calling():
        again = await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id))
        listed = await plans.stub.ListPlans(planner_pb2.ListPlansRequest())
    assert again.estimate == told
    assert not listed.plans[0].estimate.stages[0].groups, "a list tells totals"

    assert not (await estimates(plans)).estimates, f"{first} was told nothing"
    run_id = await recorded(world, plan, cost=2_000)
    # It is made again, and may tell something else: the run keeps what was told when it was started.
    await plans.plan(AGAIN, validate_only=True)
    found = await estimates(plans)
    (one,) = found.estimates
    assert (one.run_id, one.plan_id, one.state) == (run_id, plan.plan_id, "completed")
    assert one.runtime_seconds.told == told.runtime_seconds
    assert one.cost_micros.told == told.cost_micros
    assert (one.cost_micros.actual, one.cost_micros.within, one.cost_micros.off) == (22_000, True, 1.0)
    run = await world.get(run_id)
    took = run.end_time.ToMilliseconds() - run.start_time.ToMilliseconds()
    assert one.runtime_seconds.actual == pytest.approx(took / 1000, abs=0.002)
    assert found.runtime.count == found.cost.count == 1
    assert found.cost.words.startswith("1 of the last 1 estimate held")
    assert await estimates(plans) == found, "once"


async def test_the_history_of_a_run_is_what_it_recorded(plans: Plans, world: World, copy: Copy) -> None:
    run_id = await recorded(world, await plans.plan(), cost=1_500, wrong=2)
    await copy.results.catch_up()
    history = known(copy)
    assert counted(history) == (11, 11 * 1_500, {"Acer": 2, "Logitech": 4, "Razer": 5})
    assert history.failed_share == pytest.approx(2 / 11)
    with calling():
        items = (await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id))).items
    took = sum(max(item.end_time.ToMilliseconds() - item.start_time.ToMilliseconds(), 0.5) / 1000 for item in items)
    assert sum(group.seconds.total for group in history.groups.values()) == pytest.approx(took)
    (run,) = history.runs.values()
    assert (run.items, run.facts is not None) == (11, True)
    assert run.facts is not None
    stage = (await world.get(run_id)).stages[0]
    first = min(item.start_time.ToMilliseconds() for item in items)
    assert run.facts.startup_seconds == pytest.approx((first - stage.start_time.ToMilliseconds()) / 1000)


@pytest.mark.parametrize("died", [1, 2, 3, 4])
async def test_nothing_counts_twice_when_the_planner_dies_between(
    world: World, copy: Copy, monkeypatch: pytest.MonkeyPatch, died: int
) -> None:
    monkeypatch.setattr(copying, "PART_ROWS", 500)
    await ended(world, 1_200, wrong=50)
    kept, calls = ResultRows.keep, 0

    def dying(self: ResultRows, *args: object, **fields: object) -> None:
        """Before the transaction, or after it and before anybody was told."""
        nonlocal calls
        calls += 1
        if died == calls * 2 - 1:
            raise Unavailable("killed", code="disk_full")
        kept(self, *args, **fields)  # type: ignore[arg-type]
        if died == calls * 2:
            raise Unavailable("killed", code="disk_full")

    monkeypatch.setattr(ResultRows, "keep", dying)
    with pytest.raises(Unavailable):
        await copy.results.catch_up()
    for _ in range(2):
        await copy.results.catch_up()
        assert known(copy).items == 1_200
    assert known(copy).failed_share == pytest.approx(50 / 1_200)
    (run,) = known(copy).runs.values()
    assert run.items == 1_200
    assert run.facts is not None


async def test_two_planners_that_copy_the_same_count_it_once(world: World, copy: Copy) -> None:
    other = Copy(world)
    try:
        await ended(world, 800)
        await asyncio.gather(copy.results.catch_up(), other.results.catch_up())
        await copy.results.catch_up()
        assert known(copy).items == 800
    finally:
        await other.close()


async def test_archived_runs_count_like_others(world: World, copy: Copy) -> None:
    run_id = await ended(world, 20)
    world.settings = world.settings.model_copy(
        update={"scheduler": world.settings.scheduler.model_copy(update={"archive_hours": 0.0})}
    )
    await world.restart_scheduler()
    for _ in range(400):
        if (await world.get(run_id)).archived:
            break
        await asyncio.sleep(0.05)
    assert (await world.get(run_id)).archived
    await copy.results.catch_up()
    history = known(copy)
    assert history.items == 20
    assert history.runs[run_id].facts is not None


async def test_time_in_which_a_run_was_paused_is_no_runtime(plans: Plans, world: World) -> None:
    await recorded(world, await plans.plan())
    plan = await plans.plan(AGAIN)
    with calling():
        run = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan.plan_id, actor="ann", confirm=True))
    worker = world.worker()
    (lease,) = await worker.leases(1)
    await worker.report(run.run_id, [completed(lease)])
    await world.runs.PauseRun(pb.RunCommand(run_id=run.run_id, actor="ann"))
    assert not await worker.leases(1, wait=1.0), "the time that passes here is a person's"
    await world.runs.ResumeRun(pb.RunCommand(run_id=run.run_id, actor="ann"))
    leases = await worker.leases(20)
    await worker.report(run.run_id, [completed(lease) for lease in leases])
    await worker.end()
    last = await world.get(run.run_id)
    took_ms = last.end_time.ToMilliseconds() - last.start_time.ToMilliseconds()
    changes = await world.runs.ListEvents(pb.ListEventsRequest(run_id=run.run_id, types=["run.state"]))
    at_ms = [(event.new_state, event.time.ToMilliseconds()) for event in changes.events]
    (paused_ms,) = [when for state, when in at_ms if state == "paused"]
    resumed_ms = next(when for state, when in at_ms if state == "running" and when > paused_ms)
    (one,) = (await estimates(plans)).estimates
    assert resumed_ms - paused_ms >= 1_000
    assert one.runtime_seconds.actual == pytest.approx((took_ms - (resumed_ms - paused_ms)) / 1000, abs=0.05)


async def test_a_run_that_was_stopped_is_not_compared_until_it_completes(plans: Plans, world: World) -> None:
    await recorded(world, await plans.plan())
    plan = await plans.plan(AGAIN)
    with calling():
        run = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan.plan_id, actor="ann", confirm=True))
        worker = world.worker()
        (lease,) = await worker.leases(1)
        await worker.report(run.run_id, [completed(lease)])
        await world.runs.StopRun(pb.StopRunRequest(run_id=run.run_id, actor="ann", force=True))
    assert not (await estimates(plans)).estimates
    with calling():
        await world.runs.ResumeRun(pb.RunCommand(run_id=run.run_id, actor="ann"))
    leases = await worker.leases(20)
    await worker.report(run.run_id, [completed(lease) for lease in leases])
    await worker.end()
    assert [one.run_id for one in (await estimates(plans)).estimates] == [run.run_id]


async def test_other_parameters_are_another_history_that_is_near(plans: Plans, world: World) -> None:
    await recorded(world, await plans.plan())
    slower = planner_pb2.StageSpec(processor="noop", parameters=b'{"sleep_seconds": 2}')
    plan = await plans.plan(stages=[slower])
    rest = plan.estimate.stages[0].runtime_rest
    assert (rest.basis, rest.parameters) == ("nearest", "sleep_seconds=0.0")
    assert "the nearest that was measured" in rest.words


async def test_a_budget_that_is_too_small_is_told(plans: Plans, world: World) -> None:
    await recorded(world, await plans.plan(), cost=1_000_000)

    def capped(budget: int) -> list[planner_pb2.StageSpec]:
        return [planner_pb2.StageSpec(processor="noop", rules=rules_pb2.StageRules(budget_micros=budget))]

    def codes(plan: planner_pb2.Plan) -> list[str]:
        return [one.code for one in plan.warnings if one.code.startswith("budget")]

    small = await plans.plan(AGAIN, stages=capped(1_000_000))
    assert codes(small) == ["budget_too_small"]
    assert "has a budget of $1.00 and will cost $" in small.warnings[-1].message
    with pytest.raises(Conflict, match="it can't finish"), calling():
        await plans.stub.KeepPlan(planner_pb2.KeepPlanRequest(plan_id=small.plan_id))
    with calling():
        await plans.stub.KeepPlan(planner_pb2.KeepPlanRequest(plan_id=small.plan_id, confirm=True))
    cost = small.estimate.cost_micros
    between = round((cost.low + cost.high) / 2)
    assert codes(await plans.plan(AGAIN, stages=capped(between))) == ["budget_may_not_do"]
    assert codes(await plans.plan(AGAIN, stages=capped(round(cost.high * 2)))) == []


async def test_a_run_s_budget_that_is_too_small_is_told_and_asks(plans: Plans, world: World) -> None:
    await recorded(world, await plans.plan(), cost=1_000_000)
    plan = await plans.plan(AGAIN)
    cost = plan.estimate.cost_micros
    enough = round(cost.high) + 1
    between = round((cost.low + cost.high) / 2)

    async def shown(budget: int | None) -> tuple[list[str], bool]:
        with calling():
            found = await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id, budget_micros=budget))
        return [one.code for one in found.warnings if one.code.startswith("budget")], found.needs_confirm

    assert await shown(None) == await shown(enough) == ([], False)
    assert await shown(between) == (["budget_may_not_do"], False)
    assert await shown(0) == await shown(1_000_000) == (["budget_too_small"], True)

    async def started(budget: int, *, confirm: bool = False) -> pb.Run:
        request = pb.StartRunRequest(plan_id=plan.plan_id, actor="ann", budget_micros=budget, confirm=confirm)
        with calling():
            return await world.runs.StartRun(request)

    with pytest.raises(Conflict, match=r"the run has a budget of \$1.00 and will cost .*: it can't finish") as caught:
        await started(1_000_000)
    assert caught.value.code == "confirm_required"
    for run in (await started(1_000_000, confirm=True), await started(between), await started(enough)):
        assert run.money.budget_micros


async def test_who_uploads_items_for_a_run_has_confirmed_its_budget(plans: Plans, world: World) -> None:
    await ended(world, 40)
    plan_id = (await world.runs.ListRuns(pb.ListRunsRequest())).runs[0].plan_id
    with calling():
        source = (await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan_id))).source_id
        again = await plans.stub.CreatePlan(
            planner_pb2.CreatePlanRequest(source_id=source, stages=[planner_pb2.StageSpec(processor="noop")])
        )
        await recorded(world, again, cost=1_000_000)
        asked = planner_pb2.CreatePlanRequest(
            source_id=source, stages=[planner_pb2.StageSpec(processor="noop", concurrency=3)]
        )
        again = await plans.stub.CreatePlan(asked)
        found = await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=again.plan_id, budget_micros=1))
        assert ([one.code for one in found.warnings], found.needs_confirm) == (["budget_too_small"], False)
        await world.runs.StartRun(pb.StartRunRequest(plan_id=again.plan_id, actor="ann", budget_micros=1))


async def test_items_of_every_kind_of_source_are_estimated(plans: Plans, world: World) -> None:
    await ended(world, 40)
    plan_id = (await world.runs.ListRuns(pb.ListRunsRequest())).runs[0].plan_id
    with calling():
        plan = await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan_id))
        again = await plans.stub.CreatePlan(
            planner_pb2.CreatePlanRequest(source_id=plan.source_id, stages=[planner_pb2.StageSpec(processor="noop")])
        )
    assert again.estimate.HasField("runtime_seconds")
    assert sum(group.items for group in again.estimate.stages[0].groups) == 40


async def test_without_the_scheduler_an_estimate_says_what_it_lacks(plans: Plans, world: World) -> None:
    plan = await plans.plan(AGAIN)
    await recorded(world, plan)
    assert (await plans.plan(AGAIN)).estimate.HasField("runtime_seconds")
    await world.scheduler.crash()
    told = (await plans.plan(AGAIN)).estimate
    await world.start_scheduler()
    assert told.HasField("runtime_seconds"), "of what is here already"
    assert "what settled last was not read" in told.notes[0]


async def test_limits_that_will_apply_bound_the_runtime(plans: Plans, world: World) -> None:
    lined = rows().replace(b'"limits":[]', b'"limits":["domain:example.org"]')
    await plans.catalog(lined, name="lined")
    await recorded(world, await plans.plan(source_id="lined"))
    free = await plans.plan(AGAIN, source_id="lined")
    with calling():
        limit = pb.Limit(key="domain:*", rates=[pb.Rate(dimension="requests", per_minute=2, burst=1)])
        await world.limits.SetLimit(pb.SetLimitRequest(limit=limit, actor="ann"))
    held = await plans.plan(AGAIN, source_id="lined")
    assert held.plan_id == free.plan_id
    assert free.estimate.runtime_seconds.high < 60
    assert held.estimate.runtime_seconds.low > 240
    assert "limit domain:example.org" in held.estimate.stages[0].bound


async def test_an_estimate_with_some_of_the_limits_says_so(
    plans: Plans, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plans.catalog(rows().replace(b'"limits":[]', b'"limits":["domain:example.org"]'), name="lined")
    with calling():
        for key in ("domain:a", "domain:b"):
            await world.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key=key, concurrency=1), actor="ann"))
    monkeypatch.setattr(limits_seen, "PAGE", 1)
    monkeypatch.setattr(limits_seen, "MOST_PAGES", 1)
    assert list((await plans.plan(source_id="lined")).estimate.notes) == ["with no limits past domain:a"]
    monkeypatch.setattr(limits_seen, "MOST_PAGES", 2)
    assert not (await plans.plan(source_id="lined")).estimate.notes


async def test_a_price_that_an_operator_set_is_a_cost_where_nothing_was_measured(plans: Plans, world: World) -> None:
    paid = [planner_pb2.StageSpec(processor="noop", parameters=b'{"paid": true}')]
    unknown = (await plans.plan(stages=paid)).estimate
    assert not unknown.HasField("cost_micros")
    with calling():
        await world.limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=5_000, actor="ann"))
    told = (await plans.plan(stages=paid)).estimate
    assert told.stages[0].cost_rest.basis == "price table"
    assert (told.cost_micros.low, told.cost_micros.high) == (55_000, 55_000)
    assert not told.HasField("runtime_seconds")


async def test_an_estimate_that_fails_is_told_and_the_plan_is_made(
    plans: Plans, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(estimate_making, "made", wrong)
    plan = await plans.plan()
    assert plan.item_count
    assert plan.estimate.words == "not known"
    assert list(plan.estimate.notes) == ["it could not be made: the planner's log says why"]


async def test_the_settings_of_each_profile_have_their_own_estimate(plans: Plans, world: World) -> None:
    await recorded(world, await plans.plan(), cost=1_000)
    slow = [planner_pb2.StageSpec(processor="noop", max_run_seconds=99)]
    plan = await plans.plan(AGAIN, stages=slow)
    told = {one.profile: one for one in plan.profiles}
    assert {name: one.concurrency for name, one in told.items()} == {"fast": 256, "standard": 64, "thorough": 16}
    assert told["standard"].estimate.runtime_seconds == plan.estimate.runtime_seconds, "what the plan is without one"
    assert all(one.estimate.HasField("cost_micros") for one in plan.profiles)
    assert not any(stage.groups for one in plan.profiles for stage in one.estimate.stages)


def test_parameters_are_told_short_and_apart() -> None:
    assert shown_parameters({}) == ""
    assert shown_parameters({"b": 1, "a": "x"}) == shown_parameters({"a": "x", "b": 1}) == "a=x, b=1"
    long = [shown_parameters({"prompt": "p" * 500 + tail}) for tail in "ab"]
    assert long[0] != long[1]
    assert all(len(one) < 80 for one in long)
    assert shown_parameters({"a": "1"}) != shown_parameters({"a": 1})


@pytest.mark.parametrize("kept", ['{"format": 99}', '{"format": 1}', "[]", "{"])
async def test_a_history_that_cant_be_read_keeps_no_plan_and_no_outcome_out(
    plans: Plans, world: World, copy: Copy, kept: str
) -> None:
    first = await plans.plan()
    await recorded(world, first)
    await copy.results.catch_up()
    with copy.database.write() as connection:
        assert connection.execute(sa.text("UPDATE histories SET history = :kept"), {"kept": kept}).rowcount == 1
    plan = await plans.plan(AGAIN, validate_only=True)
    assert not plan.estimate.HasField("runtime_seconds"), "what can't be read is no history"
    assert "no history" in plan.estimate.words
    await recorded(world, plan)
    assert len(await copy.latest()) == 11
    assert known(copy).items == 11, "it is begun anew"
    assert (await plans.plan(AGAIN, validate_only=True)).estimate.HasField("runtime_seconds")
