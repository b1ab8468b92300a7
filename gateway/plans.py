"""`/api/v1/plans`: preview, make, list, look through, compare, name, remove. A preview is the plan, by the same id.

Starting one is `gateway.runs`. Rows of an order are paged, filtered and counted by the planner, never here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Header, Path, Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse
from typing_extensions import TypedDict

from gateway.bodies import Body, Flag, Token, Truth, Whole, resource_router
from gateway.forms import Body as UploadBody
from gateway.selections import OrderingBody, SelectionBody
from gateway.sources import Filter, Groups, OrderBy, PageSize, ResultOf, Search, Skip
from gateway.streams import streamed
from gateway.table_views import row_page
from gateway.wiring import Wired
from penstock.client.estimate_views import EstimatePageView, estimate_page_view
from penstock.client.filling import filled
from penstock.client.plan_views import (
    PlanComparisonView,
    PlanItemView,
    PlanView,
    ProfileView,
    RemovedPlan,
    plan_comparison_view,
    plan_item_view,
    plan_view,
    profile_view,
    removed_plan_view,
)
from penstock.client.resources import StageOptions
from penstock.client.rules import Rules
from penstock.client.source_views import RowPageView
from penstock.runtime.errors import InvalidInput
from penstock.runtime.paging import page_position, whole_number
from penstock.runtime.plain_text import MAX_CHARACTERS
from penstock.v1 import planner_pb2
from penstock.words import Granularity

__all__ = ["PlanId", "router"]

router = resource_router()

PlanId = Annotated[str, Path(max_length=MAX_CHARACTERS, description="The plan's id, or the name of a kept one.")]


class StageBody(Body):
    """Numbers out of range are the planner's to refuse, with all else that is wrong with a plan."""

    processor: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    parameters: dict[str, Any] = Field(default_factory=dict)
    concurrency: Whole = Field(0, description="Leases at once, 1-10,000; 0: the default.")
    max_tries: Whole = Field(0, description="1-100; 0: the default.")
    max_run_seconds: Whole = Field(0, description="For one item, 1-604,800; 0: the default.")
    worker_class: str = Field("", max_length=63)
    rules: Rules | None = Field(None, description="What goes wrong, what waits and what costs; absent: the defaults.")

    def options(self) -> StageOptions:
        return StageOptions(**{**self.model_dump(), "rules": self.rules})


class PlanBody(Body):
    source_id: str = Field(min_length=1, max_length=MAX_CHARACTERS, description="A source's name, or a version's id.")
    stages: list[StageBody] = Field(default_factory=list, max_length=100, description="None for documents.")
    granularity: Literal[""] | Granularity = Field("", description="Documents only.")
    name: str = Field("", max_length=MAX_CHARACTERS)
    validate_only: Truth = Field(False, description="Preview: a draft, kept for 24 hours unless it is started.")
    request_id: str = Field("", max_length=MAX_CHARACTERS)
    selection: SelectionBody | None = Field(None, description="Of a catalog or table; absent: all.")
    ordering: OrderingBody | None = Field(None, description="Of a catalog or table; absent: the source's own.")
    profile: str = Field("", max_length=MAX_CHARACTERS)

    def message(self) -> planner_pb2.CreatePlanRequest:
        """Raises InvalidInput."""
        request = filled(
            planner_pb2.CreatePlanRequest,
            source_id=self.source_id,
            stages=[stage.options().message() for stage in self.stages],
            granularity=self.granularity,
            name=self.name,
            validate_only=self.validate_only,
            profile=self.profile,
        )
        if self.selection is not None:
            request.selection.CopyFrom(self.selection.message())
        if self.ordering is not None:
            request.ordering.CopyFrom(self.ordering.message())
        return request


class CopyBody(Body):
    """What is left out stays as it is in the plan; parameters take the place of those of their names."""

    name: str = Field("", max_length=MAX_CHARACTERS)
    processor: str = Field("", max_length=MAX_CHARACTERS)
    parameters: dict[str, Any] = Field(default_factory=dict)
    concurrency: Whole = 0
    max_tries: Whole = 0
    max_run_seconds: Whole = 0
    worker_class: str = Field("", max_length=63)
    rules: Rules | None = None
    request_id: str = Field("", max_length=MAX_CHARACTERS)

    def changes(self) -> StageOptions:
        return StageOptions(**{**self.model_dump(exclude={"name", "request_id"}), "rules": self.rules})


class NameBody(Body):
    name: str = Field(max_length=MAX_CHARACTERS)
    etag: str = Field("", max_length=40, description="Of the plan as it was looked at, or in the header If-Match.")


PlanIdQuery = Annotated[str, Query(max_length=MAX_CHARACTERS, description="Of runs of this plan alone.")]


class SampleBody(Body):
    size: Whole = Field(description="Items, 1-10,000; as many as the plan has, or more: all of it.")
    name: str = Field("", max_length=MAX_CHARACTERS)
    request_id: str = Field("", max_length=MAX_CHARACTERS)


class ProfileList(TypedDict):
    profiles: list[ProfileView]


class PlanPage(TypedDict):
    plans: list[PlanView]
    next_page_token: str | None


class PlanItemPage(TypedDict):
    items: list[PlanItemView]
    next_page_token: str | None


@router.post("/plans", tags=["plans"])
async def create_plan(body: PlanBody, parts: Wired) -> PlanView:
    """Makes the plan of a source. The same inputs are the same plan."""
    plan = await parts.client.plans.make(body.message(), request_id=body.request_id)
    return plan_view(plan)


@router.get("/plans", tags=["plans"])
async def list_plans(
    parts: Wired,
    search: Annotated[str, Query(max_length=MAX_CHARACTERS, description="A part of a name.")] = "",
    source: Annotated[str, Query(max_length=MAX_CHARACTERS, description="Of this source, by name or id.")] = "",
    processor: Annotated[str, Query(max_length=MAX_CHARACTERS, description="That a stage or its rules name.")] = "",
    actor: Annotated[str, Query(max_length=MAX_CHARACTERS, description="Who made it.")] = "",
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
    page_token: Token = "",
) -> PlanPage:
    """Plans that are kept, the latest first; previews are not."""
    page = await parts.client.plans.list_page(
        search=search, source=source, processor=processor, actor=actor, page_size=page_size, page_token=page_token
    )
    return {"plans": [plan_view(plan) for plan in page.plans], "next_page_token": page.next_page_token or None}


@router.get("/estimates", tags=["plans"])
async def list_estimates(
    parts: Wired,
    plan: PlanIdQuery = "",
    page_size: Annotated[int, Query(ge=1, le=200)] = 20,
    page_token: Token = "",
) -> EstimatePageView:
    """What was told when runs were started, beside what happened, the latest first; and how good the last twenty
    were."""
    page = await parts.client.plans.estimates(plan_id=plan, page_size=page_size, page_token=page_token)
    return estimate_page_view(page)


@router.post(
    "/plans/import",
    tags=["plans"],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def import_plan(
    request: Request,
    parts: Wired,
    name: Annotated[str, Query(max_length=MAX_CHARACTERS, description="Absent: as it is called in the file.")] = "",
) -> PlanView:
    """The plan of a file that `export` made, under the same id. Refused whole, or kept; it asks before it starts."""
    body = UploadBody(request.receive)
    try:
        return plan_view(await parts.client.plans.load(body.chunks(), name=name))
    finally:
        await body.drain()


@router.get(
    "/plans/{plan_id}/export",
    tags=["plans"],
    response_class=StreamingResponse,
    responses={200: {"description": "A file.", "content": {"application/gzip": {}}}},
)
async def export_plan(
    plan_id: PlanId,
    parts: Wired,
    without_source: Annotated[Flag, Query(description="Where it is imported, its source must be there.")] = False,
) -> StreamingResponse:
    """A plan of a catalog or table as one file, with its source, for `import`."""
    plan = await parts.client.plans.get(plan_id)
    headers = {"Content-Disposition": f'attachment; filename="{plan.plan_id}.jsonl.gz"'}
    return await streamed(
        parts.client.plans.export(plan.plan_id, without_source=without_source), "application/gzip", headers
    )


@router.post("/plans/{plan_id}/copy", tags=["plans"])
async def copy_plan(plan_id: PlanId, body: CopyBody, parts: Wired) -> PlanView:
    """The same items in the same order under other settings; without any it is the plan itself."""
    copy = await parts.client.plans.copy(plan_id, name=body.name, changes=body.changes(), request_id=body.request_id)
    return plan_view(copy)


@router.get("/plans/{plan_id}", tags=["plans"])
async def get_plan(
    plan_id: PlanId,
    parts: Wired,
    response: Response,
    budget_micros: Annotated[
        int | None, Query(ge=0, le=2**63 - 1, description="Of a run of it: `warnings` say whether that will do.")
    ] = None,
) -> PlanView:
    """A plan as it is now, with what speaks against starting it."""
    return _tagged(await parts.client.plans.get(plan_id, budget_micros=budget_micros), response)


@router.patch("/plans/{plan_id}", tags=["plans"])
async def name_plan(
    plan_id: PlanId,
    body: NameBody,
    parts: Wired,
    response: Response,
    if_match: Annotated[str, Header(max_length=60, description="The plan's ETag.")] = "",
) -> PlanView:
    """Gives it another name; 409 `etag_mismatch` when somebody else did meanwhile. Without an etag the last wins."""
    etag = _etag(body.etag, if_match)
    return _tagged(await parts.client.plans.rename(plan_id, body.name, etag=etag), response)


@router.delete("/plans/{plan_id}", tags=["plans"])
async def delete_plan(
    plan_id: PlanId,
    parts: Wired,
    force: Annotated[Flag, Query(description="Also where ended runs have items left.")] = False,
    validate_only: Annotated[Flag, Query(description="Refuse what would be refused, and remove nothing.")] = False,
    etag: Annotated[str, Query(max_length=40, description="Of the plan as it was looked at, or If-Match.")] = "",
    if_match: Annotated[str, Header(max_length=60, description="The plan's ETag.")] = "",
) -> RemovedPlan:
    """A plan or a draft; 409 `plan_needed` names the runs that need it. Its runs are only read from then on."""
    gone = await parts.client.plans.remove(
        plan_id, etag=_etag(etag, if_match), force=force, validate_only=validate_only
    )
    return removed_plan_view(gone)


@router.get("/plans/{plan_id}/rows", tags=["plans"], response_model=RowPageView)
async def plan_rows(
    plan_id: PlanId,
    parts: Wired,
    filter: Filter = "",  # noqa: A002
    search: Search = "",
    order_by: OrderBy = "",
    skip: Skip = 0,
    page_size: PageSize = 100,
    groups: Groups = False,
    result_of: ResultOf = "",
) -> Response:
    """Its items in the order in which they will start, each with why; of a plan of a catalog or table."""
    page = await parts.client.plans.rows(
        plan_id,
        filter=filter,
        search=search,
        order_by=order_by,
        skip=skip,
        page_size=page_size,
        with_groups=groups,
        result_of=result_of,
    )
    return row_page(page)


@router.post("/plans/{plan_id}/sample", tags=["plans"])
async def sample_plan(plan_id: PlanId, body: SampleBody, parts: Wired) -> PlanView:
    """A draft of some of its items, over its groups and its order, to be run first: they tell of the rest."""
    sample = await parts.client.plans.sample(plan_id, body.size, name=body.name, request_id=body.request_id)
    return plan_view(sample)


@router.get("/profiles", tags=["plans"])
async def list_profiles(parts: Wired) -> ProfileList:
    """The profiles that plans may name, and what each sets; null: the stage's default."""
    return {"profiles": [profile_view(profile) for profile in await parts.client.plans.profiles()]}


@router.get("/plans/{plan_id}/diff/{other}", tags=["plans"])
async def compare_plans(plan_id: PlanId, other: PlanId, parts: Wired) -> PlanComparisonView:
    """What the other has that this one has not: items added, removed, moved and changed, and settings."""
    return plan_comparison_view(await parts.client.plans.compare(plan_id, other))


@router.get("/plans/{plan_id}/items", tags=["plans"])
async def plan_items(
    plan_id: PlanId,
    parts: Wired,
    stage: Annotated[int, Query(ge=0, le=1_000)] = 0,
    page_size: Annotated[int, Query(ge=1, le=10_000)] = 100,
    page_token: Token = "",
) -> PlanItemPage:
    """The items in the order in which they will start."""
    after = (page_position(page_token) or 0) - 1
    page = await parts.client.plans.items_page(plan_id, stage=stage, after_seq=after, limit=page_size)
    more = bool(page.items) and not page.end
    return {
        "items": [plan_item_view(item) for item in page.items],
        "next_page_token": str(page.items[-1].seq + 1) if more else None,
    }


def _tagged(plan: planner_pb2.Plan, response: Response) -> PlanView:
    response.headers["ETag"] = f'"{plan.etag}"'
    return plan_view(plan)


def _etag(told: str, if_match: str) -> str:
    """The etag of a body and of a header as one; empty for none. Raises InvalidInput for one that is none of ours."""
    header = if_match.strip()
    header = "" if header == "*" else header.removeprefix('"').removesuffix('"')
    if told and header and told != header:
        raise InvalidInput(f"etag is {told!r} and If-Match {header!r}: give one of them", code="bad_etag")
    etag = told or header
    if etag and whole_number(etag) is None:
        raise InvalidInput(f"etag {etag!r} is none of ours: give that of the plan as it was", code="bad_etag")
    return etag
