"""Rows of a source and of a plan with the latest results beside them, from a real scheduler: young, and never missing
because the scheduler is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2
from penstock.v1 import sources_pb2 as sp
from planner.results import recent
from tests.integration.planner.planned import Plans
from tests.integration.scheduler.world import World


async def asked(plans: Plans, plan: planner_pb2.Plan | None = None, **query: Any) -> sp.RowPage:
    question = sp.RowQuery(**{"result_of": "noop", **query})
    with calling():
        if plan is not None:
            return await plans.stub.ReadPlanRows(planner_pb2.ReadPlanRowsRequest(plan_id=plan.plan_id, query=question))
        return await plans.stub.ReadSourceRows(planner_pb2.ReadSourceRowsRequest(source_id="mice", query=question))


async def until(plans: Plans, what: Callable[[sp.RowPage], bool], **query: Any) -> sp.RowPage:
    """A page as soon as `what` holds: a copy that is a second old is not asked again."""
    async with asyncio.timeout(20):
        while True:
            page = await asked(plans, **query)
            if what(page):
                return page
            await asyncio.sleep(0.1)


async def test_the_latest_result_stands_beside_a_row_and_rows_are_chosen_by_it(plans: Plans) -> None:
    razer = await plans.plan(sp.Selection(filter="brand = Razer"))
    first = await plans.run(razer, wrong={"razer-1", "razer-2"})
    page = await until(plans, lambda page: page.results.read_time.seconds > 0, with_groups=True)
    assert page.total == 11
    assert {one.state: one.count for one in page.results.states} == {"": 6, "completed": 3, "failed": 2}
    assert not page.results.problem
    found = {row.key: row.result for row in page.rows if row.HasField("result")}
    assert len(found) == 5
    done = found["razer-3"]
    assert (done.processor, done.version, done.state, done.run_id) == ("noop", "1", "completed", first)
    assert (done.confidence, done.run_number, done.tries) == (0.9, 1, 0)
    assert orjson.loads(done.value) == {"confidence": 0.9}
    assert 0 <= done.seconds < 60
    assert done.end_time.seconds > 1_600_000_000
    assert (found["razer-1"].state, found["razer-1"].kind, found["razer-1"].error) == ("failed", "item", "it broke")
    assert "result.value.confidence" in [column.name for column in page.results.columns]

    again = await plans.plan(sp.Selection(failed_of_run=first))
    await plans.run(again, confidence=0.4)
    page = await until(plans, lambda page: page.total == 2, filter="result.run = 2")
    assert {row.key for row in page.rows} == {"razer-1", "razer-2"}
    page = await asked(plans, filter="result.confidence < 0.5 AND brand = Razer", order_by="result.end_time desc,model")
    assert page.total == 2
    page = await asked(plans, razer, filter="result.confidence > 0.5", order_by="model")
    assert [row.key for row in page.rows] == ["razer-3", "razer-4", "razer-5"]
    assert all(row.why and row.result.run_number == 1 for row in page.rows)


async def test_rows_are_told_while_the_scheduler_is_away_and_say_so(plans: Plans, world: World) -> None:
    page = await until(plans, lambda page: not page.results.problem)
    assert page.total == 11
    await plans.run(await plans.plan())
    await until(plans, lambda page: page.total == 11, filter="result.state = completed")
    await world.scheduler.crash()
    page = await until(plans, lambda page: bool(page.results.problem), filter="result.state = completed")
    assert page.total == 11, "what was copied is told"
    assert page.results.read_time.seconds > 1_600_000_000
    await world.start_scheduler()
    assert (await until(plans, lambda page: not page.results.problem)).total == 11


async def test_who_asks_waits_no_longer_than_a_bound(plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "WAIT_SECONDS", 0.0)
    page = await asked(plans)
    assert page.total == 11
    assert "still being copied" in page.results.problem
    await until(plans, lambda page: not page.results.problem)


async def test_a_processor_that_nobody_knows_is_refused_with_those_that_are(plans: Plans) -> None:
    with pytest.raises(InvalidInput, match=r"no processor 'nop'.*noop"):
        await asked(plans, result_of="nop")
    page = await asked(plans, result_of="document")
    assert page.total == 11, "a processor without results is none the less one"
