"""`/api/v1/*`: the resource API, for new clients. One route a call of the services.

Objects are as `penstock.client.views` shows them: states are lower-case words, times ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse
from typing_extensions import TypedDict

from gateway import events
from gateway.batch import DOCUMENT_FIELDS, FILE, multipart_body, upload_source
from gateway.wiring import Parts, Wired
from penstock import __version__
from penstock.client.collection_views import (
    CollectionDocumentView,
    CollectionView,
    collection_document_view,
    collection_view,
)
from penstock.client.resources import StageOptions
from penstock.client.views import (
    EventView,
    ItemView,
    PlanItemView,
    PlanView,
    ProcessorView,
    RunView,
    SourceView,
    event_view,
    item_view,
    plan_item_view,
    plan_view,
    processor_view,
    run_view,
    source_view,
)
from penstock.runtime.errors import NotFound
from penstock.runtime.paging import page_position, whole_number
from penstock.runtime.plain_text import MAX_CHARACTERS
from penstock.v1 import planner_pb2, scheduler_pb2
from penstock.words import Granularity

__all__ = ["router"]

router = APIRouter(prefix="/api/v1")

RunId = Annotated[str, Path(max_length=MAX_CHARACTERS, description="The run's id, or its number.")]
SourceId = Annotated[str, Path(max_length=MAX_CHARACTERS)]
PlanId = Annotated[str, Path(max_length=MAX_CHARACTERS)]
Token = Annotated[str, Query(max_length=1000, description="next_page_token of the page before.")]
RunState = Literal[
    "queued", "running", "paused", "stopping", "stopped", "completed", "completed_with_failures", "failed"
]
ItemState = Literal["queued", "running", "retry", "completed", "failed", "skipped", "stopped"]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageBody(Body):
    processor: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    parameters: dict[str, Any] = Field(default_factory=dict)
    concurrency: int = Field(0, ge=0, le=10_000, description="Leases at once; 0: the default.")
    max_tries: int = Field(0, ge=0, le=100, description="0: the default.")
    max_run_seconds: int = Field(0, ge=0, le=7 * 86_400, description="For one item; 0: the default.")
    worker_class: str = Field("", max_length=63)


class PlanBody(Body):
    source_id: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    stages: list[StageBody] = Field(default_factory=list, max_length=100, description="None for documents.")
    granularity: Literal[""] | Granularity = Field("", description="Documents only.")
    name: str = Field("", max_length=MAX_CHARACTERS)
    validate_only: bool = Field(False, description="Preview: a draft, kept for 24 hours unless it is started.")
    request_id: str = Field("", max_length=MAX_CHARACTERS)


class StartBody(Body):
    plan_id: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    name: str = Field("", max_length=MAX_CHARACTERS)
    request_id: str = Field("", max_length=MAX_CHARACTERS, description="The same one answers the same run.")


class CommandBody(Body):
    reason: str = Field("", max_length=2_000)
    request_id: str = Field("", max_length=MAX_CHARACTERS)


class StopBody(CommandBody):
    force: bool = Field(False, description="Revoke what runs at once.")


class RunPage(TypedDict):
    runs: list[RunView]
    next_page_token: str | None


class ItemPage(TypedDict):
    items: list[ItemView]
    next_page_token: str | None


class PlanItemPage(TypedDict):
    items: list[PlanItemView]
    next_page_token: str | None


class EventPage(TypedDict):
    events: list[EventView]
    next_page_token: str | None


class CollectionDocumentPage(TypedDict):
    documents: list[CollectionDocumentView]
    next_page_token: str | None


class CommandAnswer(TypedDict):
    run: RunView
    changed: bool


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
        stages=[StageOptions(**stage.model_dump()) for stage in body.stages],
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


@router.post("/runs", tags=["runs"])
async def start_run(body: StartBody, parts: Wired) -> RunView:
    """Starts a run of a plan; it is durable when this answers."""
    return run_view(await parts.client.runs.start(body.plan_id, name=body.name, request_id=body.request_id))


@router.get("/runs", tags=["runs"])
async def list_runs(
    parts: Wired,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 50,
    page_token: Token = "",
    kind: Literal["documents", "items"] | None = None,
    state: Annotated[list[RunState], Query(description="Repeat it for several.")] = [],  # noqa: B006
) -> RunPage:
    """The runs, newest first."""
    page = await parts.client.runs.list_page(
        page_size=page_size,
        page_token=page_token,
        states=state,
        kind=planner_pb2.SourceKind.Value(f"SOURCE_KIND_{kind.upper()}" if kind else "SOURCE_KIND_UNSPECIFIED"),
    )
    return {"runs": [run_view(run) for run in page.runs], "next_page_token": page.next_page_token or None}


async def _run(run_id: str, parts: Parts) -> scheduler_pb2.Run:
    """By id, or by number."""
    number = whole_number(run_id)
    return await parts.client.runs.get(run_id if number is None else number)


@router.get("/runs/{run_id}", tags=["runs"])
async def get_run(run_id: RunId, parts: Wired) -> RunView:
    return run_view(await _run(run_id, parts))


def _commanded(answer: scheduler_pb2.RunCommandResponse) -> CommandAnswer:
    return {"run": run_view(answer.run), "changed": answer.changed}


@router.post("/runs/{run_id}/pause", tags=["runs"])
async def pause_run(run_id: RunId, parts: Wired, body: CommandBody = CommandBody()) -> CommandAnswer:  # noqa: B008
    """Nothing is granted after the answer; what runs finishes, and `quiesced` tells when."""
    run = await _run(run_id, parts)
    return _commanded(await parts.client.runs.pause(run.run_id, reason=body.reason, request_id=body.request_id))


@router.post("/runs/{run_id}/resume", tags=["runs"])
async def resume_run(run_id: RunId, parts: Wired, body: CommandBody = CommandBody()) -> CommandAnswer:  # noqa: B008
    """Goes on with a paused or stopped run. One that has ended otherwise can't be resumed: 409."""
    run = await _run(run_id, parts)
    return _commanded(await parts.client.runs.resume(run.run_id, reason=body.reason, request_id=body.request_id))


@router.post("/runs/{run_id}/stop", tags=["runs"])
async def stop_run(run_id: RunId, parts: Wired, body: StopBody = StopBody()) -> CommandAnswer:  # noqa: B008
    """What runs may finish, the rest is stopped; with `force` what runs is revoked too."""
    run = await _run(run_id, parts)
    return _commanded(
        await parts.client.runs.stop(run.run_id, force=body.force, reason=body.reason, request_id=body.request_id)
    )


@router.get("/runs/{run_id}/items", tags=["items"])
async def list_items(
    run_id: RunId,
    parts: Wired,
    stage: Annotated[int, Query(ge=0, le=1_000)] = 0,
    state: Annotated[list[ItemState], Query(description="Repeat it for several.")] = [],  # noqa: B006
    page_size: Annotated[int, Query(ge=1, le=5_000)] = 100,
    page_token: Token = "",
    with_payload: bool = False,
) -> ItemPage:
    """The items of a stage, in the order of the plan."""
    run = await _run(run_id, parts)
    page = await parts.client.runs.items_page(
        run.run_id, stage=stage, states=state, page_size=page_size, page_token=page_token, with_payload=with_payload
    )
    return {"items": [item_view(item) for item in page.items], "next_page_token": page.next_page_token or None}


@router.get("/runs/{run_id}/items/{stage}/{seq}", tags=["items"])
async def get_item(run_id: RunId, stage: int, seq: int, parts: Wired) -> ItemView:
    run = await _run(run_id, parts)
    page = None
    if 0 <= stage < len(run.stages) and 0 <= seq < run.stages[stage].counts.total:
        page = await parts.client.runs.items_page(run.run_id, stage=stage, seqs=[seq], with_payload=True)
    if page is None or not page.items:
        raise NotFound(f"run {run_id} has no item {stage}/{seq}", code="item_not_found")
    return item_view(page.items[0])


@router.get("/runs/{run_id}/events", tags=["events"])
async def list_events(
    run_id: RunId,
    parts: Wired,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    page_token: Token = "",
    type: Annotated[list[str], Query(description="Only these types.")] = [],  # noqa: A002, B006
) -> EventPage:
    """What happened, oldest first. The token is the number of the last event that was seen."""
    run = await _run(run_id, parts)
    after = page_position(page_token) or 0
    page = await parts.client.runs.events_page(run.run_id, after=after, page_size=page_size, types=type)
    return {
        "events": [event_view(event) for event in page.events],
        "next_page_token": str(page.next_after_number) if page.next_after_number else None,
    }


@router.get(
    "/runs/{run_id}/events/stream",
    tags=["events"],
    response_class=StreamingResponse,
    description=events.DESCRIPTION,
    responses={200: {"description": "A stream.", "content": {"text/event-stream": {}}}},
)
async def stream_events(run_id: RunId, request: Request, parts: Wired) -> StreamingResponse:
    run = await _run(run_id, parts)
    return await events.event_stream(request, parts, run.run_id, name="run", snapshot=run_view)


@router.get("/items", tags=["items"])
async def items(
    run_id: Annotated[str, Query(min_length=1, max_length=MAX_CHARACTERS, description="The run's id, or its number.")],
    parts: Wired,
    stage: Annotated[int, Query(ge=0, le=1_000)] = 0,
    state: Annotated[list[ItemState], Query(description="Repeat it for several.")] = [],  # noqa: B006
    page_size: Annotated[int, Query(ge=1, le=5_000)] = 100,
    page_token: Token = "",
    with_payload: bool = False,
) -> ItemPage:
    """As `/api/v1/runs/{run_id}/items`."""
    return await list_items(run_id, parts, stage, state, page_size, page_token, with_payload)


@router.get("/events", tags=["events"])
async def all_events(
    run_id: Annotated[str, Query(min_length=1, max_length=MAX_CHARACTERS, description="The run's id, or its number.")],
    parts: Wired,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    page_token: Token = "",
    type: Annotated[list[str], Query(description="Only these types.")] = [],  # noqa: A002, B006
) -> EventPage:
    """As `/api/v1/runs/{run_id}/events`."""
    return await list_events(run_id, parts, page_size, page_token, type)


@router.get("/collections/{run_id}", tags=["collections"])
async def get_collection(run_id: RunId, parts: Wired) -> CollectionView:
    """Clusters, matrix, most similar pairs, duplicate groups and shared passages; 404 until it is done."""
    run = await _run(run_id, parts)
    return collection_view(await parts.client.collections.get(run.run_id))


@router.get("/collections/{run_id}/documents", tags=["collections"])
async def collection_documents(
    run_id: RunId, parts: Wired, page_size: Annotated[int, Query(ge=1, le=10_000)] = 1_000, page_token: Token = ""
) -> CollectionDocumentPage:
    """The documents in cluster order, with their neighbours."""
    run = await _run(run_id, parts)
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
