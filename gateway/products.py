"""`/api/v1/indexlab/batch/*`: the products contract as its frontends know it, over the same plans and runs.

A batch is a plan of a catalog or table, and a run of it. Runs of other things are none: they are not found here. Of one
plan one run lives at a time, so that a start that is sent twice, or whose answer was lost, makes no second one: 409
`exclusive_key_held` has the id of the first.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import Field
from typing_extensions import TypedDict

from gateway.bodies import Body, Token, Truth, Whole, resource_router, run_of
from gateway.plans import PlanId
from gateway.product_views import (
    ITEM_STATES,
    BatchItem,
    BatchPlan,
    BatchRun,
    BatchStatus,
    batch_item,
    batch_plan,
    batch_run,
    batch_status,
)
from gateway.selections import MAX_FILTER, Cells
from gateway.sources import PageSize
from gateway.wiring import Parts, Wired
from penstock.client.filling import filled
from penstock.client.resources import StageOptions
from penstock.client.views import source_kind
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.runtime.paging import page_position
from penstock.runtime.plain_text import MAX_CHARACTERS
from penstock.v1 import planner_pb2, scheduler_pb2, sources_pb2

__all__ = ["router"]

router = resource_router()

BATCH = "/indexlab/batch"
TAGS: list[str | Enum] = ["products"]
FIRST_PAGE = 100
KINDS = (planner_pb2.SOURCE_KIND_CATALOG, planner_pb2.SOURCE_KIND_TABLE)
LIVE = ("queued", "running", "waiting", "stopping", "paused")
BatchRunId = Annotated[
    str, Path(alias="batchRunId", max_length=MAX_CHARACTERS, description="The run's id, or its number.")
]


class ExcludeBody(Body):
    ids: Cells = Field(default_factory=list)
    filter: str = Field("", max_length=MAX_FILTER)


class ChosenBody(Body):
    """One of ids, filter and all; of that, all but what is excluded."""

    ids: Cells | None = None
    filter: str | None = Field(None, max_length=MAX_FILTER)
    all: Truth = False
    exclude: Cells | ExcludeBody = Field(default_factory=list, description="Ids, or an object of ids and filter.")

    def message(self) -> sources_pb2.Selection:
        """Raises InvalidInput: selection_empty where nothing is chosen, bad_selection for two ways at once."""
        given = [name for name in ("ids", "filter", "all") if getattr(self, name) not in (None, False)]
        if len(given) > 1:
            raise InvalidInput(
                f"selection has one of ids, filter and all; {' and '.join(given)} are given", code="bad_selection"
            )
        if not given or self.ids == []:
            raise InvalidInput("the selection is empty: name ids, a filter, or all", code="selection_empty")
        exclude = self.exclude if isinstance(self.exclude, ExcludeBody) else ExcludeBody(ids=self.exclude)
        selection = filled(sources_pb2.Selection, exclude_keys=exclude.ids, exclude_filter=exclude.filter)
        if self.ids is not None:
            selection.keys.CopyFrom(filled(sources_pb2.Selection.Keys, keys=self.ids))
        elif self.filter is not None:
            selection.MergeFrom(filled(sources_pb2.Selection, filter=self.filter))
        else:
            selection.all = True
        return selection


class PlanBody(Body):
    source: str = Field(min_length=1, max_length=MAX_CHARACTERS, description="A catalog's or table's name or id.")
    selection: ChosenBody
    brand_order: Cells = Field(default_factory=list, description="Brands by priority; others follow by name.")
    pinned: Cells = Field(default_factory=list, description="Brands before all others.")
    processor: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    profile: str = Field("", max_length=MAX_CHARACTERS)
    concurrency: Whole = Field(0, description="Products at once; 0: the default.")
    max_run_seconds: Whole = Field(0, description="For one product; 0: the default.")
    name: str = Field("", max_length=MAX_CHARACTERS)
    validate_only: Truth = Field(False, description="Preview: the same plan, as a draft of 24 hours.")

    def message(self) -> planner_pb2.CreatePlanRequest:
        stage = StageOptions(
            processor=self.processor, concurrency=self.concurrency, max_run_seconds=self.max_run_seconds
        )
        return filled(
            planner_pb2.CreatePlanRequest,
            source_id=self.source,
            stages=[stage.message()],
            name=self.name,
            validate_only=self.validate_only,
            selection=self.selection.message(),
            ordering=filled(sources_pb2.Ordering, pinned=self.pinned, groups=self.brand_order),
            profile=self.profile,
        )


class StartBody(Body):
    plan_id: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    confirm: Truth = Field(False, description="Of a plan that warns: 409 `confirm_required` without it.")


class RunBody(Body):
    batch_run_id: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    force: Literal[False] = Field(False, description="Only a stop can be forced.")


class StopBody(Body):
    batch_run_id: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    force: Truth = Field(False, description="Revoke what runs at once.")


class BatchItemPage(TypedDict):
    items: list[BatchItem]
    next_page_token: str | None


@router.post(f"{BATCH}/plan", tags=TAGS)
async def plan_batch(body: PlanBody, parts: Wired) -> BatchPlan:
    """What will run, in which order, and why; kept under its id, and the same for the same request."""
    plan = await parts.client.plans.make(body.message())
    return await _shown(plan, parts, skip=0, page_size=FIRST_PAGE)


@router.get(f"{BATCH}/plan/{{plan_id}}", tags=TAGS)
async def load_plan(
    plan_id: PlanId, parts: Wired, page_size: PageSize = FIRST_PAGE, page_token: Token = ""
) -> BatchPlan:
    """A plan again, with the page of its order that the token says."""
    skip = page_position(page_token) or 0
    return await _shown(await _plan(plan_id, parts), parts, skip=skip, page_size=page_size)


@router.post(f"{BATCH}/start", tags=TAGS)
async def start_batch(body: StartBody, parts: Wired) -> BatchRun:
    """Starts a run of a plan; it is durable when this answers."""
    plan = await _plan(body.plan_id, parts)
    run = await parts.client.runs.start(
        plan.plan_id,
        confirm=body.confirm,
        name=plan.name,
        exclusive_keys=[f"batch:{plan.plan_id}"],
    )
    return batch_run(run)


@router.post(f"{BATCH}/pause", tags=TAGS)
async def pause_batch(body: RunBody, parts: Wired) -> BatchRun:
    """Nothing starts after the answer; what runs finishes."""
    run = await _run(body.batch_run_id, parts)
    return batch_run((await parts.client.runs.pause(run.run_id)).run)


@router.post(f"{BATCH}/resume", tags=TAGS)
async def resume_batch(body: RunBody, parts: Wired) -> BatchRun:
    """Goes on with what is not completed."""
    run = await _run(body.batch_run_id, parts)
    return batch_run((await parts.client.runs.resume(run.run_id)).run)


@router.post(f"{BATCH}/stop", tags=TAGS)
async def stop_batch(body: StopBody, parts: Wired) -> BatchRun:
    """What runs may finish, the rest is stopped; with `force` what runs is revoked too."""
    run = await _run(body.batch_run_id, parts)
    return batch_run((await parts.client.runs.stop(run.run_id, force=body.force)).run)


@router.get(f"{BATCH}/latest", tags=TAGS)
async def latest_batch(parts: Wired) -> BatchStatus:
    """The newest batch that is active or paused; 404 when there is none."""
    found: list[scheduler_pb2.Run] = []
    for kind in KINDS:
        found.extend((await parts.client.runs.list_page(page_size=1, kind=kind, states=LIVE)).runs)
    if not found:
        raise NotFound("no batch is active or paused", code="no_live_batch")
    return batch_status(max(found, key=lambda run: run.number))


@router.get(f"{BATCH}/{{batchRunId}}/status", tags=TAGS)
async def batch_state(batch_run_id: BatchRunId, parts: Wired) -> BatchStatus:
    return batch_status(await _run(batch_run_id, parts))


@router.get(f"{BATCH}/{{batchRunId}}/items", tags=TAGS)
async def batch_items(
    batch_run_id: BatchRunId,
    parts: Wired,
    state: Annotated[
        list[Literal["queued", "running", "completed", "failed", "skipped", "stopped"]],
        Query(description="Repeat it for several."),
    ] = [],  # noqa: B006
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    page_token: Token = "",
) -> BatchItemPage:
    """What became of each product, in the order of the plan."""
    run = await _run(batch_run_id, parts)
    page = await parts.client.items.page(
        run.run_id,
        states=[ours for one in dict.fromkeys(state) for ours in ITEM_STATES[one]],
        page_size=page_size,
        page_token=page_token,
        with_payload=True,
    )
    return {"items": [batch_item(item) for item in page.items], "next_page_token": page.next_page_token or None}


async def _shown(plan: planner_pb2.Plan, parts: Parts, *, skip: int, page_size: int) -> BatchPlan:
    return batch_plan(plan, await parts.client.plans.rows(plan.plan_id, skip=skip, page_size=page_size), skip=skip)


async def _plan(plan_id: str, parts: Parts) -> planner_pb2.Plan:
    """Raises NotFound, also for a plan of something else than rows."""
    plan = await parts.client.plans.get(plan_id)
    if plan.kind not in KINDS:
        raise NotFound(f"plan {plan_id!r} is of {source_kind(plan.kind)}, not of products", code="plan_not_found")
    return plan


async def _run(batch_run_id: str, parts: Parts) -> scheduler_pb2.Run:
    """Raises NotFound, also for a run of something else than rows."""
    run = await run_of(batch_run_id, parts)
    if run.kind not in KINDS:
        raise NotFound(f"run {batch_run_id!r} is of {source_kind(run.kind)}, not of products", code="run_not_found")
    return run
