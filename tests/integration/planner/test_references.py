"""A selection names a plan and a run as people do, and is made into another one that names them by their ids."""

from __future__ import annotations

import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import sources_pb2 as sp
from planner.references import selection_by_ids
from planner.results.asked import Asked
from planner.store import Store
from tests.integration.planner.copied import Copy, ended
from tests.integration.planner.planned import Plans, rows
from tests.integration.scheduler.world import World


@pytest.fixture
def knows_scheduler() -> bool:
    """No: the planner copies nothing by itself."""
    return False


async def test_what_is_named_stands_by_its_id_and_what_was_handed_in_as_it_was(world: World, copy: Copy) -> None:
    plans = Plans(world)
    await plans.catalog(rows())
    named = await plans.plan(sp.Selection(again=True), name="two words")
    run_id = await ended(world, 3, wrong=1)
    with calling():
        number = (await world.runs.GetRun(pb.GetRunRequest(run_id=run_id))).number

    async def results() -> Asked:
        return Asked(copy.files, await copy.results.catch_up())

    store = Store(copy.database)
    for asked, by_ids in (
        (sp.Selection(changed_since_plan="two words"), sp.Selection(changed_since_plan=named.plan_id)),
        (sp.Selection(changed_since_plan=named.plan_id), sp.Selection(changed_since_plan=named.plan_id)),
        (sp.Selection(failed_of_run=str(number), limit=3), sp.Selection(failed_of_run=run_id, limit=3)),
        (sp.Selection(failed_of_run=run_id), sp.Selection(failed_of_run=run_id)),
        (sp.Selection(failed_of_run="77"), sp.Selection(failed_of_run="77")),
        (sp.Selection(filter="a = 1"), sp.Selection(filter="a = 1")),
    ):
        before = sp.Selection.FromString(asked.SerializeToString())
        assert await selection_by_ids(asked, store, results) == by_ids
        assert asked == before, "the message of who asked is theirs"
    with pytest.raises(NotFound, match="three words"):
        await selection_by_ids(sp.Selection(changed_since_plan="three words"), store, results)
    with pytest.raises(InvalidInput, match=r"selection\.changed_since_plan is missing"):
        await selection_by_ids(sp.Selection(changed_since_plan=""), store, results)


async def test_results_are_read_for_a_run_alone(world: World, copy: Copy) -> None:
    async def never() -> Asked:
        raise AssertionError("nothing here needs results")

    assert await selection_by_ids(sp.Selection(), Store(copy.database), never) == sp.Selection(all=True)
    for asked in (sp.Selection(missing="noop"), sp.Selection(changed_since_plan="plan-" + "0" * 32)):
        assert await selection_by_ids(asked, Store(copy.database), never) == asked
