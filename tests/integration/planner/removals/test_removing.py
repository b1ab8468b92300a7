"""Plans that are removed: once no run needs them, with what nobody else has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, InvalidInput, NotFound
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from tests.integration.planner.planned import Plans
from tests.integration.planner.removals.asking import (
    BOTH,
    Files,
    remove,
    remove_source,
    runs_of,
    stages,
    start,
    stopped,
    there,
)


@BOTH
async def test_a_source_goes_once_its_plans_are_removed(plans: Plans) -> None:
    plan = await plans.plan(name="first")
    with pytest.raises(Conflict) as looked:
        await remove_source(plans, look=True)
    with pytest.raises(Conflict) as needed:
        await remove_source(plans)
    assert looked.value.message == needed.value.message
    assert needed.value.code == "source_needed"
    assert f"'first' ({plan.plan_id})" in needed.value.message
    assert f"penstock plans remove {plan.plan_id}" in needed.value.message
    gone = await remove(plans, plan, etag=plan.etag, actor="ann")
    assert (gone.plan.plan_id, gone.plan.name, gone.run_count) == (plan.plan_id, "first", 0)
    assert not await there(plans, plan)
    assert (await remove_source(plans)).version_count == 1


@BOTH
async def test_drafts_go_with_their_source_and_what_was_told_of_them(plans: Plans, files: Files) -> None:
    drafts = [await plans.plan(validate_only=True, stages=stages(n)) for n in (1, 2)]
    assert files.count("plan_estimates") == 2
    seen, gone = await remove_source(plans, look=True), await remove_source(plans)
    assert seen == gone
    with pytest.raises(NotFound):
        await remove_source(plans, look=True)
    assert (gone.version_count, gone.draft_count) == (1, 2)
    assert files.count("plan_estimates") == 0
    for draft in drafts:
        assert not await there(plans, draft)
        with pytest.raises(NotFound):
            await start(plans, draft)


async def test_a_plan_whose_runs_go_on_stays_and_the_newest_of_them_are_told(plans: Plans) -> None:
    plan = await plans.plan()
    started = [await start(plans, plan) for _ in range(12)]
    with pytest.raises(Conflict) as needed:
        await remove(plans, plan, force=True)
    told = needed.value.message
    assert needed.value.code == "plan_needed"
    assert "12 runs" in told
    assert "2 more" in told
    assert "stop it" in told
    newest = [f"run {run.number} is" for run in started[::-1]]
    assert all(one in told for one in newest[:10])
    assert not any(f"{one} " in told for one in newest[10:])
    assert told.index(newest[0]) < told.index(newest[9])
    assert (await start(plans, plan)).run_id, "it is a plan like any other again"


async def test_who_waits_for_a_paused_run_is_told_that_it_does_not_end_by_itself(plans: Plans) -> None:
    plan = await plans.plan()
    paused = await start(plans, plan)
    with calling():
        await plans.world.runs.PauseRun(pb.RunCommand(run_id=paused.run_id, actor="ann"))
    with pytest.raises(Conflict) as needed:
        await remove(plans, plan)
    assert f"run {paused.number} is paused" in needed.value.message
    assert "resume or stop what is paused" in needed.value.message
    assert "wait" not in needed.value.message
    await start(plans, plan)
    with pytest.raises(Conflict) as needed:
        await remove(plans, plan)
    assert "resume or stop what is paused" in needed.value.message
    assert "wait for the end of what runs, or stop it" in needed.value.message


async def test_runs_of_a_plan_are_listed_by_pages(plans: Plans) -> None:
    plan, other = await plans.plan(), await plans.plan(stages=stages(2))
    mine = [await start(plans, plan) for _ in range(3)]
    await start(plans, other)
    first = await plans.world.runs.ListRuns(pb.ListRunsRequest(plan_id=plan.plan_id, page_size=2))
    rest = await plans.world.runs.ListRuns(
        pb.ListRunsRequest(plan_id=plan.plan_id, page_size=2, page_token=first.next_page_token)
    )
    assert [run.run_id for run in (*first.runs, *rest.runs)] == [run.run_id for run in mine[::-1]]
    assert not rest.next_page_token
    assert not await runs_of(plans, planner_pb2.Plan(plan_id="plan-none"))


@BOTH
async def test_a_run_with_items_left_keeps_its_plan_unless_somebody_forces_it(plans: Plans) -> None:
    plan = await plans.plan()
    run_id = await plans.run(plan, wrong={"razer-1", "acer-2"})
    with pytest.raises(Conflict, match="2 items not completed") as needed:
        await remove(plans, plan)
    assert needed.value.code == "plan_needed"
    assert "force" in needed.value.message
    assert (await remove(plans, plan, force=True)).run_count == 1
    run = await plans.world.get(run_id)
    assert run.plan_removed
    runs = plans.world.runs
    refused: dict[str, Callable[[], Any]] = {
        "resume": lambda: runs.ResumeRun(pb.RunCommand(run_id=run_id, actor="ann")),
        "clone": lambda: runs.CloneRun(pb.CloneRunRequest(run_id=run_id, actor="ann")),
        "retry": lambda: runs.ActOnItems(
            pb.ActOnItemsRequest(run_id=run_id, verb=pb.ITEM_VERB_RETRY, filter="state = failed", actor="ann")
        ),
        "skip": lambda: runs.ActOnItems(
            pb.ActOnItemsRequest(run_id=run_id, verb=pb.ITEM_VERB_SKIP, filter="seq >= 0", actor="ann")
        ),
    }
    for call in refused.values():
        with pytest.raises(Conflict) as gone, calling():
            await call()
        assert gone.value.code == "plan_removed"
    explained = await runs.ExplainRun(pb.ExplainRunRequest(run_id=run_id))
    assert [reason.code for reason in explained.reasons] == ["plan_removed"]


@BOTH
async def test_a_completed_run_is_read_on_and_its_results_stay(plans: Plans) -> None:
    plan = await plans.plan()
    run_id = await plans.run(plan)
    keys = await plans.keys(plan)
    assert (await remove(plans, plan)).run_count == 1
    runs = plans.world.runs
    with calling():
        page = await runs.ListItems(pb.ListItemsRequest(run_id=run_id, page_size=4, with_payload=True))
        rest = await runs.ListItems(pb.ListItemsRequest(run_id=run_id, page_token=page.next_page_token))
        two = await runs.ListItems(pb.ListItemsRequest(run_id=run_id, seqs=[1, 3, 999]))
        none = await runs.ListItems(pb.ListItemsRequest(run_id=run_id, states=[pb.ITEM_STATE_FAILED]))
        one = await runs.ExplainItem(pb.ExplainItemRequest(run_id=run_id, seq=2))
    assert [item.key for item in (*page.items, *rest.items)] == keys
    assert not rest.next_page_token
    assert [item.seq for item in two.items] == [1, 3]
    assert not none.items
    assert one.reasons
    # What it did was never asked for before: it was copied on the plan's way out.
    with pytest.raises(InvalidInput) as nothing:
        await plans.plan()
    assert nothing.value.code == "selection_empty"
    assert (await remove_source(plans)).version_count == 1


async def test_what_was_never_come_to_is_not_listed_any_more(plans: Plans) -> None:
    plan = await plans.plan()
    run = await stopped(plans, plan)
    await remove(plans, plan, force=True)
    with calling():
        assert not (await plans.world.runs.ListItems(pb.ListItemsRequest(run_id=run.run_id))).items
        why = await plans.world.runs.ExplainItem(pb.ExplainItemRequest(run_id=run.run_id, seq=1))
    assert [(one.text, one.change) for one in why.reasons[:1]] == [("it is stopped, and it never began", "")]
    assert (await plans.world.get(run.run_id)).counts.stopped == plan.item_count


async def test_a_stop_of_what_is_stopped_is_answered_without_its_plan_too(plans: Plans) -> None:
    plan = await plans.plan()
    run = await stopped(plans, plan)
    await remove(plans, plan, force=True)
    for force in (False, True):
        with calling():
            told = await plans.world.runs.StopRun(pb.StopRunRequest(run_id=run.run_id, actor="ann", force=force))
        assert (told.changed, told.run.state) == (False, pb.RUN_STATE_STOPPED)
    with pytest.raises(Conflict) as gone, calling():
        await plans.world.runs.PauseRun(pb.RunCommand(run_id=run.run_id, actor="ann"))
    assert gone.value.code == "plan_removed"


async def test_a_plan_that_is_made_again_has_its_id_and_is_another(plans: Plans) -> None:
    plan = await plans.plan(name="first")
    await stopped(plans, plan)
    await remove(plans, plan, force=True)
    again = await plans.plan(name="second")
    assert (again.plan_id, again.name) == (plan.plan_id, "second")
    assert again.uid != plan.uid
    run_id = await plans.run(again)
    assert [one.plan_removed for one in await runs_of(plans, plan)] == [False, True]
    assert (await plans.world.get(run_id)).state == pb.RUN_STATE_COMPLETED
    assert (await remove(plans, again)).run_count == 2, "what the first one left needs no plan any more"


async def test_a_look_and_an_old_etag_remove_nothing(plans: Plans) -> None:
    plan = await plans.plan(name="first")
    await remove(plans, plan, validate_only=True, etag=plan.etag)
    with calling():
        await plans.stub.UpdatePlan(planner_pb2.UpdatePlanRequest(plan_id=plan.plan_id, name="mine", etag=plan.etag))
    for look in (True, False):
        with pytest.raises(Conflict) as changed:
            await remove(plans, plan, validate_only=look, etag=plan.etag)
        assert changed.value.code == "etag_mismatch"
        assert "'mine'" in changed.value.message
    with pytest.raises(InvalidInput) as bad:
        await remove(plans, plan, etag="x")
    assert bad.value.code == "bad_etag"
    run = await start(plans, plan)
    with pytest.raises(Conflict) as needed:
        await remove(plans, plan, validate_only=True)
    assert needed.value.code == "plan_needed"
    assert f"run {run.number}" in needed.value.message
    with pytest.raises(NotFound):
        await remove(plans, planner_pb2.Plan(plan_id="plan-none"))
