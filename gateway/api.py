"""`/api/v1/*`: the resource API, for new clients. One route a call of the services.

Objects are as `penstock.client.views` shows them: states are lower-case words, times ISO 8601 in UTC. Runs are in
`gateway.runs`, items in `gateway.items`, limits, prices and the switch of retries in `gateway.limits`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from pydantic import Field
from typing_extensions import TypedDict

from gateway.batch import DOCUMENT_FIELDS, FILE, multipart_body, upload_source
from gateway.bodies import Body, RunId, Token, Whole, resource_router, run_of
from gateway.wiring import Wired
from penstock import __version__
from penstock.client.collection_views import (
    CollectionDocumentView,
    CollectionView,
    collection_document_view,
    collection_view,
)
from penstock.client.plan_views import (
    PlanItemView,
    PlanView,
    ProcessorView,
    SourceView,
    plan_item_view,
    plan_view,
    processor_view,
    source_view,
)
from penstock.client.resources import StageOptions
from penstock.client.rules import Rules
from penstock.runtime.paging import page_position
from penstock.runtime.plain_text import MAX_CHARACTERS
from penstock.words import Granularity

__all__ = ["router"]

router = resource_router()

SourceId = Annotated[str, Path(max_length=MAX_CHARACTERS)]
PlanId = Annotated[str, Path(max_length=MAX_CHARACTERS)]


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
    source_id: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    stages: list[StageBody] = Field(default_factory=list, max_length=100, description="None for documents.")
    granularity: Literal[""] | Granularity = Field("", description="Documents only.")
    name: str = Field("", max_length=MAX_CHARACTERS)
    validate_only: bool = Field(False, description="Preview: a draft, kept for 24 hours unless it is started.")
    request_id: str = Field("", max_length=MAX_CHARACTERS)


class PlanItemPage(TypedDict):
    items: list[PlanItemView]
    next_page_token: str | None


class CollectionDocumentPage(TypedDict):
    documents: list[CollectionDocumentView]
    next_page_token: str | None


class Endpoints(TypedDict):
    """Where clients on this machine find the services."""

    version: str
    http: str
    planner: str
    scheduler: str
    analyzer: str
    data: str | None
    blobs: str | None


SOURCE_BODY = multipart_body(
    "One of files, zip_file (documents) and items (plain items).",
    {**DOCUMENT_FIELDS, "items": {**FILE, "description": "JSON lines of key, and optionally group and payload."}},
)


@router.post(
    "/sources",
    tags=["sources"],
    openapi_extra=SOURCE_BODY,
)
async def create_source(request: Request, parts: Wired) -> SourceView:
    """Registers a source from an upload; the same content is the same source."""
    source, _ = await upload_source(request, parts, accepts=("files", "zip_file", "items"))
    return source_view(source)


@router.get("/sources/{source_id}", tags=["sources"])
async def get_source(source_id: SourceId, parts: Wired) -> SourceView:
    return source_view(await parts.client.sources.get(source_id))


@router.post("/plans", tags=["plans"])
async def create_plan(body: PlanBody, parts: Wired) -> PlanView:
    """Makes the plan of a source. The same inputs are the same plan."""
    plan = await parts.client.plans.create(
        body.source_id,
        stages=[stage.options() for stage in body.stages],
        granularity=body.granularity,
        name=body.name,
        validate_only=body.validate_only,
        request_id=body.request_id,
    )
    return plan_view(plan)


@router.get("/plans/{plan_id}", tags=["plans"])
async def get_plan(plan_id: PlanId, parts: Wired) -> PlanView:
    return plan_view(await parts.client.plans.get(plan_id))


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


@router.get("/collections/{run_id}", tags=["collections"])
async def get_collection(run_id: RunId, parts: Wired) -> CollectionView:
    """Clusters, matrix, most similar pairs, duplicate groups and shared passages; 404 until it is done."""
    run = await run_of(run_id, parts)
    return collection_view(await parts.client.collections.get(run.run_id))


@router.get("/collections/{run_id}/documents", tags=["collections"])
async def collection_documents(
    run_id: RunId, parts: Wired, page_size: Annotated[int, Query(ge=1, le=10_000)] = 1_000, page_token: Token = ""
) -> CollectionDocumentPage:
    """The documents in cluster order, with their neighbours."""
    run = await run_of(run_id, parts)
    page = await parts.client.collections.documents_page(run.run_id, page_size=page_size, page_token=page_token)
    return {
        "documents": [collection_document_view(document) for document in page.documents],
        "next_page_token": page.next_page_token or None,
    }


@router.get("/processors", tags=["processors"])
async def list_processors(parts: Wired) -> dict[str, list[ProcessorView]]:
    """The processors that plans may name."""
    return {"processors": [processor_view(processor) for processor in await parts.client.processors.list()]}


@router.get("/endpoints", tags=["endpoints"])
async def endpoints(parts: Wired) -> Endpoints:
    """The gRPC addresses, for clients on this machine. Their token lies in the data folder."""
    where = parts.client.endpoints
    return {
        "version": __version__,
        "http": where.http,
        "planner": where.planner,
        "scheduler": where.scheduler,
        "analyzer": where.analyzer,
        "data": str(where.data) if where.data else None,
        "blobs": str(where.blobs) if where.blobs else None,
    }
