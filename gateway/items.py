"""`/api/v1/runs/{run}/items`: what became of each item, why one waits, and actions on many."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import Field
from typing_extensions import TypedDict

from gateway.bodies import CommandBody, Flag, RunId, StageNumber, Token, Truth, resource_router, run_of
from gateway.wiring import Parts, Wired
from penstock.client.operator_views import ActionView, ExplanationView, action_view, explanation_view
from penstock.client.views import ItemView, item_view
from penstock.runtime.errors import NotFound
from penstock.runtime.plain_text import MAX_CHARACTERS
from penstock.v1 import scheduler_pb2
from penstock.words import numbers_there_are

__all__ = ["router"]

router = resource_router()

MAX_FILTER = 10_000
ItemState = Literal["queued", "running", "retry", "deferred", "completed", "failed", "skipped", "stopped"]
States = Annotated[list[ItemState], Query(description="Repeat it for several.")]
Filter = Annotated[
    str,
    Query(
        max_length=MAX_FILTER,
        description='As state = failed AND group = "Razer"; of items that were leased at least once.',
    ),
]


class ActBody(CommandBody):
    verb: Literal["retry", "skip", "release", "rerun", "front", "accept"]
    stage: int = Field(0, ge=0, le=1_000)
    seqs: list[Annotated[int, Field(ge=0, le=2**63 - 1)]] = Field(
        default_factory=list, max_length=100_000, description="These items, or those of `filter`."
    )
    filter: str = Field("", max_length=MAX_FILTER, description='As state = failed AND fingerprint = "3f…".')
    validate_only: Truth = Field(False, description="Answer the count and change nothing.")


class ItemPage(TypedDict):
    items: list[ItemView]
    next_page_token: str | None


@router.get("/runs/{run_id}/items", tags=["items"])
async def list_items(
    run_id: RunId,
    parts: Wired,
    stage: StageNumber = 0,
    state: States = [],  # noqa: B006
    filter: Filter = "",  # noqa: A002
    page_size: Annotated[int, Query(ge=1, le=5_000)] = 100,
    page_token: Token = "",
    with_payload: Flag = False,
) -> ItemPage:
    """The items of a stage, in the order of the plan; of an archived run from its archive."""
    run = await run_of(run_id, parts)
    page = await parts.client.items.page(
        run.run_id,
        stage=stage,
        states=state,
        filter=filter,
        page_size=page_size,
        page_token=page_token,
        with_payload=with_payload,
    )
    items = [item_view(item, with_payload=with_payload) for item in page.items]
    return {"items": items, "next_page_token": page.next_page_token or None}


async def _checked(run_id: str, stage: int, seq: int, parts: Parts) -> scheduler_pb2.Run:
    run = await run_of(run_id, parts)
    if not 0 <= stage < len(run.stages):
        there = numbers_there_are(len(run.stages), "stage")
        raise NotFound(f"run {run_id} has no stage {stage}; {there}", code="stage_not_found")
    total = run.stages[stage].counts.total
    if not 0 <= seq < total:
        there = numbers_there_are(total, "item")
        raise NotFound(f"stage {stage} of run {run_id} has no item {seq}; {there}", code="item_not_found")
    return run


@router.get("/runs/{run_id}/items/{stage}/{seq}", tags=["items"])
async def get_item(run_id: RunId, stage: int, seq: int, parts: Wired) -> ItemView:
    run = await _checked(run_id, stage, seq, parts)
    return item_view(await parts.client.items.get(run.run_id, seq, stage=stage))


@router.get("/runs/{run_id}/items/{stage}/{seq}/explain", tags=["items"])
async def explain_item(run_id: RunId, stage: int, seq: int, parts: Wired) -> ExplanationView:
    """Why it is not running, what would change that, since when, and how many items come before it."""
    run = await _checked(run_id, stage, seq, parts)
    return explanation_view(await parts.client.items.explain(run.run_id, seq, stage=stage))


@router.post("/runs/{run_id}/actions", tags=["items"])
async def act_on_items(run_id: RunId, body: ActBody, parts: Wired) -> ActionView:
    """Retry, skip, release, rerun, front or accept. A large action goes on after the answer: ask for it by its id."""
    run = await run_of(run_id, parts)
    action = await parts.client.items.act(
        run.run_id,
        body.verb,
        stage=body.stage,
        seqs=body.seqs,
        filter=body.filter,
        preview=body.validate_only,
        reason=body.reason,
        request_id=body.request_id,
    )
    return action_view(action)


@router.get("/actions/{action_id}", tags=["items"])
async def get_action(action_id: Annotated[str, Path(max_length=MAX_CHARACTERS)], parts: Wired) -> ActionView:
    """How far an action on items is."""
    return action_view(await parts.client.items.action(action_id))


@router.get("/items", tags=["items"])
async def items(
    run_id: Annotated[str, Query(min_length=1, max_length=MAX_CHARACTERS, description="The run's id, or its number.")],
    parts: Wired,
    stage: StageNumber = 0,
    state: States = [],  # noqa: B006
    filter: Filter = "",  # noqa: A002
    page_size: Annotated[int, Query(ge=1, le=5_000)] = 100,
    page_token: Token = "",
    with_payload: Flag = False,
) -> ItemPage:
    """As `/api/v1/runs/{run_id}/items`."""
    return await list_items(run_id, parts, stage, state, filter, page_size, page_token, with_payload)
