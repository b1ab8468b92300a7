"""Plans that are removed: once no run needs them, with what nobody else has, whoever starts or dies meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import planner.__main__
from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, InvalidInput, NotFound, PenstockError, Unavailable
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from planner.removals.dropped_files import KEPT_MS, DroppedFiles
from planner.removals.plan_uses import PlanUses
from planner.removals.rows import RemovalRows
from planner.results.copying import Results
from scheduler.plans import Plans as SchedulersPlans
from tests.integration.planner.conftest import FakeClock, Planner
from tests.integration.planner.planned import NOOP, Plans, rows
from tests.integration.scheduler.world import World
from tests.servers.inprocess import serve

BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
"""Where locks and statements decide."""


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    kind = getattr(request, "param", "sqlite")
    url: str = request.getfixturevalue("sqlite_url" if kind == "sqlite" else "postgres_url")
    return url


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, database: str) -> AsyncIterator[World]:
    """Planner and scheduler that know each other, both on SQLite, or both on PostgreSQL."""
    planned = database if database.startswith("postgresql") else ""
    one = await World.start(tmp_path, redis_url, database, knows_scheduler=True, planner_database_url=planned)
    try:
        yield one
    finally:
        await one.stop()


@pytest.fixture
async def plans(world: World) -> Plans:
    one = Plans(world)
    await one.catalog(rows())
    return one


class Killed(Exception):
    """What a planner meets that dies here: nothing of it runs any more."""


async def remove(plans: Plans, plan: planner_pb2.Plan, **fields: Any) -> planner_pb2.DeletePlanResponse:
    with calling():
        return await plans.stub.DeletePlan(planner_pb2.DeletePlanRequest(plan_id=plan.plan_id, **fields), timeout=20)


async def remove_source(plans: Plans, name: str = "mice") -> planner_pb2.DeleteSourceResponse:
    with calling():
        return await plans.stub.DeleteSource(planner_pb2.DeleteSourceRequest(name=name))


async def there(plans: Plans, plan: planner_pb2.Plan) -> bool:
    try:
        with calling():
            await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id))
    except NotFound:
        return False
    return True


async def start(plans: Plans, plan: planner_pb2.Plan) -> pb.Run:
    with calling():
        return await plans.world.runs.StartRun(pb.StartRunRequest(plan_id=plan.plan_id, confirm=True), timeout=20)


async def runs_of(plans: Plans, plan: planner_pb2.Plan) -> list[pb.Run]:
    with calling():
        return list((await plans.world.runs.ListRuns(pb.ListRunsRequest(plan_id=plan.plan_id))).runs)


async def stopped(plans: Plans, plan: planner_pb2.Plan) -> pb.Run:
    """A run of it that nothing was done of."""
    run = await start(plans, plan)
    with calling():
        await plans.world.runs.StopRun(pb.StopRunRequest(run_id=run.run_id, actor="ann", force=True))
    return await plans.world.until(run.run_id, lambda one: one.state == pb.RUN_STATE_STOPPED)


async def restarted(world: World) -> None:
    """As after a kill -9 of the planner: a new one at its address."""
    address = world.planner.address
    await world.planner.crash()
    world.planner = await serve(planner.__main__.build, world.settings, address=address)
    await asyncio.wait_for(world.channel(address).channel_ready(), 10)


async def until_gone(plans: Plans, plan: planner_pb2.Plan) -> None:
    async with asyncio.timeout(20):
        while await there(plans, plan):  # noqa: ASYNC110 - the planner's own sweep removes it
            await asyncio.sleep(0.02)


# -- what goes, and what stands in the way


@BOTH
async def test_a_source_goes_once_its_plans_are_removed(plans: Plans) -> None:
    plan = await plans.plan(name="first")
    with pytest.raises(Conflict) as needed:
        await remove_source(plans)
    assert needed.value.code == "source_needed"
    assert f"'first' ({plan.plan_id})" in needed.value.message
    assert f"penstock plans remove {plan.plan_id}" in needed.value.message
    gone = await remove(plans, plan, etag=plan.etag, actor="ann")
    assert (gone.plan.plan_id, gone.plan.name, gone.run_count) == (plan.plan_id, "first", 0)
    assert not await there(plans, plan)
    assert (await remove_source(plans)).version_count == 1


@BOTH
async def test_drafts_go_with_their_source(plans: Plans) -> None:
    drafts = [await plans.plan(validate_only=True, stages=stages(n)) for n in (1, 2)]
    gone = await remove_source(plans)
    assert (gone.version_count, gone.draft_count) == (1, 2)
    for draft in drafts:
        assert not await there(plans, draft)
        with pytest.raises(NotFound):
            await start(plans, draft)


def stages(concurrency: int) -> list[planner_pb2.StageSpec]:
    return [planner_pb2.StageSpec(processor="noop", concurrency=concurrency)]


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


# -- a start meanwhile


@BOTH
async def test_a_start_that_asked_before_the_removal_makes_no_run(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    asked, go_on = asyncio.Event(), asyncio.Event()
    keep = SchedulersPlans.keep

    async def slowly(self: SchedulersPlans, plan_id: str, *, confirm: bool, **fields: Any) -> planner_pb2.Plan:
        kept = await keep(self, plan_id, confirm=confirm, **fields)
        asked.set()
        await go_on.wait()
        return kept

    monkeypatch.setattr(SchedulersPlans, "keep", slowly)
    starting = asyncio.create_task(start(plans, plan))
    await asked.wait()
    await remove(plans, plan)
    go_on.set()
    with pytest.raises(Conflict) as gone:
        await starting
    assert gone.value.code == "plan_removed"
    assert not await runs_of(plans, plan)


@BOTH
async def test_a_start_that_asked_before_two_removals_makes_no_run(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    asked, go_on = asyncio.Event(), asyncio.Event()
    keep = SchedulersPlans.keep

    async def slowly(self: SchedulersPlans, plan_id: str, *, confirm: bool, **fields: Any) -> planner_pb2.Plan:
        kept = await keep(self, plan_id, confirm=confirm, **fields)
        asked.set()
        await go_on.wait()
        return kept

    monkeypatch.setattr(SchedulersPlans, "keep", slowly)
    starting = asyncio.create_task(start(plans, plan))
    await asked.wait()
    await remove(plans, plan)
    again = await plans.plan()
    assert (again.plan_id, again.uid != plan.uid) == (plan.plan_id, True)
    await remove(plans, again)
    go_on.set()
    with pytest.raises(Conflict) as gone:
        await starting
    assert gone.value.code == "plan_removed"
    assert not await runs_of(plans, plan)


async def test_the_same_start_is_answered_as_before_once_its_plan_is_gone(plans: Plans) -> None:
    plan = await plans.plan()
    request = pb.StartRunRequest(plan_id=plan.plan_id, confirm=True, request_id="the-same")
    with calling():
        run = await plans.world.runs.StartRun(request)
        await plans.world.runs.StopRun(pb.StopRunRequest(run_id=run.run_id, actor="ann", force=True))
    await plans.world.until(run.run_id, lambda one: one.state == pb.RUN_STATE_STOPPED)
    await remove(plans, plan, force=True)
    with calling():
        assert (await plans.world.runs.StartRun(request)).run_id == run.run_id


@BOTH
async def test_a_run_that_is_made_between_mark_and_question_keeps_its_plan(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    asked, marked = asyncio.Event(), asyncio.Event()
    keep, release = SchedulersPlans.keep, PlanUses.release

    async def before(self: SchedulersPlans, plan_id: str, *, confirm: bool, **fields: Any) -> planner_pb2.Plan:
        kept = await keep(self, plan_id, confirm=confirm, **fields)
        asked.set()
        await marked.wait()
        return kept

    async def after(self: PlanUses, *args: Any, **more: Any) -> Any:
        marked.set()
        await starting
        monkeypatch.setattr(SchedulersPlans, "keep", keep)
        with pytest.raises(Conflict) as being:
            await start(plans, plan)
        assert being.value.code == "plan_removing"
        return await release(self, *args, **more)

    monkeypatch.setattr(SchedulersPlans, "keep", before)
    monkeypatch.setattr(PlanUses, "release", after)
    starting = asyncio.create_task(start(plans, plan))
    await asked.wait()
    with pytest.raises(Conflict) as needed:
        await remove(plans, plan)
    assert needed.value.code == "plan_needed"
    assert len(await runs_of(plans, plan)) == 1
    assert (await start(plans, plan)).run_id, "the mark is taken back"


@BOTH
async def test_whoever_is_faster_no_run_is_left_without_its_plan(plans: Plans) -> None:
    for turn in range(8):
        plan = await plans.plan(stages=stages(turn + 1))
        removed, *started = await asyncio.gather(
            remove(plans, plan), *(start(plans, plan) for _ in range(4)), return_exceptions=True
        )
        assert all(isinstance(one, pb.Run | Conflict | NotFound) for one in started), started
        runs = await runs_of(plans, plan)
        assert len(runs) == sum(isinstance(one, pb.Run) for one in started)
        if runs:
            assert isinstance(removed, Conflict)
            assert removed.code == "plan_needed"
        else:
            assert isinstance(removed, planner_pb2.DeletePlanResponse)
        assert await there(plans, plan) is bool(runs)


@BOTH
async def test_a_resume_and_a_removal_do_not_both_succeed(plans: Plans) -> None:
    for turn in range(4):
        plan = await plans.plan(stages=stages(turn + 1))
        run = await stopped(plans, plan)

        async def resume(run_id: str = run.run_id) -> pb.RunCommandResponse:
            with calling():
                return await plans.world.runs.ResumeRun(pb.RunCommand(run_id=run_id, actor="ann"))

        removed, resumed = await asyncio.gather(remove(plans, plan, force=True), resume(), return_exceptions=True)
        assert isinstance(removed, Conflict) != isinstance(resumed, Conflict), (removed, resumed)
        assert await there(plans, plan) is isinstance(removed, Conflict)


# -- deaths


@BOTH
@pytest.mark.parametrize(
    ("part", "step"),
    [(PlanUses, "release"), (Results, "catch_up"), (RemovalRows, "remove")],
    ids=["marked", "let go of", "copied"],
)
async def test_a_planner_that_dies_within_a_removal_goes_on_with_it(
    plans: Plans, monkeypatch: pytest.MonkeyPatch, part: type, step: str
) -> None:
    world, plan = plans.world, await plans.plan()
    await plans.run(plan)
    with monkeypatch.context() as patch:

        def dies(self: object, *args: Any, **more: Any) -> Any:
            raise Killed

        patch.setattr(part, step, dies)
        with pytest.raises(PenstockError):
            await remove(plans, plan)
        # The next one has the mark: nobody starts it, everybody reads it.
        with pytest.raises(Conflict) as being:
            await start(plans, plan)
        assert being.value.code == "plan_removing"
        assert await plans.keys(plan)
    await restarted(world)
    await until_gone(plans, plan)
    assert [run.plan_removed for run in await runs_of(plans, plan)] == [True]
    with pytest.raises(InvalidInput) as nothing:
        await plans.plan()
    assert nothing.value.code == "selection_empty", "its results were copied before it went"
    assert (await remove_source(plans)).version_count == 1


@BOTH
async def test_a_removal_that_was_begun_ends_with_the_plan_kept_where_a_run_needs_it(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    await stopped(plans, plan)

    async def dies(self: object, *args: Any, **more: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PlanUses, "release", dies)
        with pytest.raises(PenstockError):
            await remove(plans, plan)
        with pytest.raises(Conflict) as being:
            await plans.plan()
        assert being.value.code == "plan_removing"
    await restarted(plans.world)
    refused = []
    async with asyncio.timeout(20):
        while not await runs_of(plans, plan) or len(await runs_of(plans, plan)) < 2:
            try:
                await start(plans, plan)
            except Conflict as still:
                refused.append(still.code)
    assert set(refused) <= {"plan_removing"}


async def test_what_was_forced_before_the_planner_died_stays_so(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = await plans.plan()
    run = await stopped(plans, plan)

    def dies(self: object, *args: Any, **more: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RemovalRows, "remove", dies)
        with pytest.raises(PenstockError):
            await remove(plans, plan, force=True)
    with pytest.raises(Conflict) as gone, calling():
        await plans.world.runs.ResumeRun(pb.RunCommand(run_id=run.run_id, actor="ann"))
    assert gone.value.code == "plan_removed"
    await restarted(plans.world)
    await until_gone(plans, plan)


async def test_what_was_to_be_forced_is_forced_by_who_goes_on(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that the scheduler still works at may let go by force at any time: taking the mark back would be wrong."""
    plan = await plans.plan()
    await stopped(plans, plan)

    async def dies(self: object, *args: Any, **more: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PlanUses, "release", dies)
        with pytest.raises(PenstockError):
            await remove(plans, plan, force=True)
    await restarted(plans.world)
    await until_gone(plans, plan)


async def test_a_plan_that_a_run_needs_counts_as_made_anew(plans: Plans) -> None:
    plan = await plans.plan()
    await stopped(plans, plan)
    with pytest.raises(Conflict):
        await remove(plans, plan)
    with calling():
        kept = await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id))
    assert (kept.uid != plan.uid, kept.etag) == (True, plan.etag)
    assert (await start(plans, plan)).plan_id == plan.plan_id


async def test_while_the_scheduler_is_away_a_plan_is_marked_and_goes_later(plans: Plans) -> None:
    world, plan = plans.world, await plans.plan()
    await world.scheduler.crash()
    try:
        with pytest.raises(Unavailable) as away:
            await remove(plans, plan)
        assert away.value.code == "plan_removing"
        assert await there(plans, plan)
    finally:
        await world.start_scheduler()
    async with asyncio.timeout(20):
        while True:
            try:
                await remove(plans, plan)
                break
            except Unavailable:
                await asyncio.sleep(0.1)
    assert not await there(plans, plan)


# -- files


class Files:
    """The dropped files of a world, swept as by the planner."""

    def __init__(self, world: World) -> None:
        self.clock = FakeClock(4_000_000_000_000)
        self.blobs = BlobStore(world.settings.blob_folder())
        self.database = Database(world.settings.planner.database_url, "planner")
        self.dropped = DroppedFiles(self.database, self.blobs, self.clock)

    def sweep(self) -> int:
        """Long after all that was dropped so far."""
        self.clock.ms += KEPT_MS
        return self.dropped.sweep()

    def of(self, plan: planner_pb2.Plan) -> Path:
        with self.database.read() as connection:
            row = connection.exec_driver_sql(
                f"SELECT items_sha256 FROM plans WHERE plan_id = '{plan.plan_id}'"
            ).scalar_one()
        return self.blobs.path(row)


@pytest.fixture
def files(world: World) -> Any:
    one = Files(world)
    yield one
    one.database.close()


@BOTH
async def test_a_file_goes_with_the_last_plan_that_has_it(plans: Plans, files: Files) -> None:
    plan = await plans.plan()
    with calling():
        copied = await plans.stub.CopyPlan(
            planner_pb2.CopyPlanRequest(plan_id=plan.plan_id, changes=planner_pb2.StageSpec(concurrency=3))
        )
    place = files.of(plan)
    assert files.of(copied) == place
    await remove(plans, plan)
    assert files.sweep() == 0
    assert place.exists()
    assert len(await plans.keys(copied)) == copied.item_count
    await remove(plans, copied)
    assert place.exists(), "who reads it now reads on"
    assert files.sweep() == 1
    assert not place.exists()
    assert files.sweep() == 0


async def test_a_file_that_a_new_plan_has_stays(plans: Plans, files: Files) -> None:
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)
    again = await plans.plan()
    assert files.of(again) == place
    assert files.sweep() == 0
    assert place.exists()
    assert len(await plans.keys(again)) == again.item_count


async def test_a_file_that_is_written_while_it_is_removed_stays(
    plans: Plans, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)
    later = place.stat().st_mtime_ns + 1
    rename, data = os.rename, place.read_bytes()

    def written(one: Path, other: Path) -> None:
        """Somebody writes the same bytes between the look and the removal, and names them a moment later."""
        if one == place:
            place.write_bytes(data)
            os.utime(place, ns=(later, later))
        rename(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", written)
        assert files.sweep() == 0
    assert place.read_bytes() == data


async def test_a_file_that_was_written_since_stays_an_hour_more(plans: Plans, files: Files) -> None:
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)
    later = place.stat().st_mtime_ns + 1
    os.utime(place, ns=(later, later))
    assert files.sweep() == 0
    assert place.exists()
    assert files.dropped.sweep() == 0
    assert place.exists()
    assert files.sweep() == 1
    assert not place.exists()


async def test_a_planner_that_dies_within_a_sweep_sweeps_again(
    plans: Plans, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await plans.plan()
    place = files.of(plan)
    await remove(plans, plan)

    def dies(self: Path, missing_ok: bool = False) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(Killed):
            files.sweep()
    assert files.sweep() == 0
    assert not place.exists()
    (aside,) = (files.blobs.folder / ".tmp").iterdir()
    os.utime(aside, (0, 0))
    assert files.blobs.clean() == 1


async def test_files_of_drafts_past_their_end_go(planner: Planner, database_url: str) -> None:
    source = await planner.items(b'{"key": "a"}\n')
    before = planner.left_behind()
    await planner.plan(source.source_id, stages=NOOP, validate_only=True)
    assert planner.left_behind() > before
    database = Database(database_url, "planner")
    try:
        dropped = DroppedFiles(database, BlobStore(planner.blobs), planner.clock)
        assert RemovalRows(database, dropped).sweep_drafts(now_ms=planner.clock.now_ms() + 25 * 3_600_000) == 1
        planner.clock.ms += KEPT_MS
        assert dropped.sweep() == 1
    finally:
        database.close()
    assert planner.left_behind() == before
