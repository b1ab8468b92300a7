"""A plan that was made is told as made: its source is asked only for what is shown, and may fail to answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli.plan_text import own_order_of, show_made
from penstock.client import AsyncClient, Endpoints, Ordering
from penstock.client.plan_views import PlanView, plan_view
from penstock.runtime.errors import Unavailable
from penstock.v1 import planner_pb2

NOBODY = AsyncClient()
"""Not opened: whoever asks it anything fails."""


def plan(ordering: Ordering | None) -> PlanView:
    message = None if ordering is None else ordering.message()
    return plan_view(planner_pb2.Plan(plan_id="plan-1", source_id="src-1", ordering=message))


async def test_as_json_nothing_more_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    await show_made(NOBODY, plan(Ordering()), as_json=True)
    assert json.loads(capsys.readouterr().out)["plan_id"] == "plan-1"


@pytest.mark.parametrize("ordering", [None, Ordering(sort=["price desc"]), Ordering(as_selected=True)])
async def test_an_order_of_ones_own_needs_none_of_the_source(ordering: Ordering | None) -> None:
    assert not await own_order_of(NOBODY, plan(ordering))


async def test_a_source_that_does_not_answer_hides_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = f"unix:{tmp_path}/none"
    async with AsyncClient(endpoints=Endpoints(nowhere, nowhere, nowhere), retry_seconds=0.01) as client:
        with pytest.raises(Unavailable):
            await client.sources.get("src-1")
        await show_made(client, plan(Ordering(pinned=["Razer"])), as_json=False, note=" (the same)")
    told = capsys.readouterr().out
    assert "first Razer; by the source's own order\n" in told
    assert told.splitlines()[-1] == "plan-1: 0 items (the same)"
