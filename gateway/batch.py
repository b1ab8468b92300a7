"""`/api/batch/*`: the documents contract as its frontends know it.

Ids are numbers; states are PENDING, PROCESSING, COMPLETED, FAILED; what the objects hold is composed by
`penstock.client.documents`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.responses import StreamingResponse
from typing_extensions import TypedDict

from gateway import events
from gateway.forms import NEITHER, Body, UploadForm, boundary_of
from gateway.report.page import report
from gateway.streams import streamed
from gateway.wiring import Parts, Wired
from penstock.client.documents import DocumentView, Results, checked_granularity
from penstock.client.exports import export, results_json
from penstock.client.jobs import PENDING, JobStatus, job_status
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2
from penstock.words import DEFAULT_GRANULARITY, GRANULARITIES

__all__ = ["DOCUMENT_FIELDS", "FILE", "multipart_body", "router", "upload_source"]

router = APIRouter(prefix="/api/batch", tags=["documents"])

JobId = Annotated[int, Path(description="The job's number.")]
DocumentId = Annotated[int, Path(description="The document's number in its job, from 1.")]

FILE = {"type": "string", "format": "binary"}
DOCUMENT_FIELDS: dict[str, Any] = {
    "files": {"type": "array", "items": FILE, "description": "Documents; a name may have folders."},
    "zip_file": {**FILE, "description": "One zip archive of documents."},
}


def multipart_body(description: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The schema of a form that is read as a stream, which FastAPI does not know of."""
    schema = {"type": "object", "description": description, "properties": fields}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


UPLOAD_BODY = multipart_body(
    "Either files or zip_file, not both.",
    {
        **DOCUMENT_FIELDS,
        "granularity": {"type": "string", "enum": list(GRANULARITIES), "default": DEFAULT_GRANULARITY},
        "name": {"type": "string", "description": "A name for the job, for people."},
    },
)


class Accepted(TypedDict):
    """An upload that was taken: the job is durable, its work goes on by itself."""

    job_id: int
    status: Literal["PENDING"]
    run_id: str


async def upload_source(
    request: Request,
    parts: Parts,
    *,
    accepts: tuple[str, ...] = ("files", "zip_file"),
    granularity: str = "",
    form: Callable[[Body, str, str, tuple[str, ...]], UploadForm] = UploadForm,
) -> tuple[planner_pb2.Source, dict[str, str]]:
    """Streams the form on to the planner: the source, and the form's plain fields. Raises InvalidInput, TooLarge."""
    body = Body(request.receive)
    try:
        boundary = boundary_of(request)
        if boundary is None:
            raise InvalidInput(NEITHER if accepts[0] == "files" else "send a multipart form", code="no_files")
        reader = form(body, boundary, parts.client.connection.make_id("req"), accepts)
        reader.keep("granularity", granularity)
        source = await parts.client.connection.once(lambda: parts.client.sources.create(reader.parts()))
        return source, reader.values
    finally:
        await body.drain()


@router.post("/upload", openapi_extra=UPLOAD_BODY)
async def upload(
    request: Request,
    parts: Wired,
    granularity: Annotated[
        str,
        Query(
            description=f"Also as a field of the form; {DEFAULT_GRANULARITY} unless given.",
            json_schema_extra={"enum": ["", *GRANULARITIES]},
        ),
    ] = "",
) -> Accepted:
    """Takes documents and starts a job on them. Answers when the job is durable; refused whole otherwise."""
    source, values = await upload_source(request, parts, granularity=granularity)
    job = await parts.client.documents.start(
        source.source_id,
        granularity=checked_granularity(values.get("granularity", "")),
        name=values.get("name", ""),
    )
    return {"job_id": job["job_id"], "status": PENDING, "run_id": job["run_id"]}  # type: ignore[typeddict-item]


@router.get("/jobs")
async def jobs(
    parts: Wired,
    skip: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, description="At most 100 are given.")] = 50,
) -> list[JobStatus]:
    """The jobs, newest first."""
    return await parts.client.documents.jobs(skip=skip, limit=limit)


@router.get("/{job_id}/status")
async def status(job_id: JobId, parts: Wired) -> JobStatus:
    """How far a job is."""
    return await parts.client.documents.status(job_id)


@router.get("/{job_id}/results", response_model=Results)
async def results(job_id: JobId, parts: Wired) -> StreamingResponse:
    """Documents in cluster order, clusters and matrix; while the job is under way, what there is."""
    run = await parts.client.documents.run(job_id)
    return await streamed(results_json(parts.client.documents, run), "application/json")


@router.get(
    "/{job_id}/export",
    response_class=StreamingResponse,
    responses={200: {"description": "A file.", "content": {"text/csv": {}, "application/json": {}}}},
)
async def export_file(
    job_id: JobId,
    parts: Wired,
    format: Annotated[str, Query(description="csv or json")] = "csv",  # noqa: A002
) -> StreamingResponse:
    """One row a document and the job's summary, as an attachment."""
    media_type, write = export(format)
    run = await parts.client.documents.run(job_id)
    headers = {"Content-Disposition": f'attachment; filename="penstock-job-{job_id}.{format}"'}
    return await streamed(write(parts.client.documents, run), media_type, headers)


@router.get("/{job_id}/documents/{document_id}")
async def document(job_id: JobId, document_id: DocumentId, parts: Wired) -> DocumentView:
    """One document: its text, its segments with their reasons, its nearest neighbours."""
    return await parts.client.documents.document(job_id, document_id)


@router.get(
    "/{job_id}/report",
    response_class=Response,
    responses={200: {"description": "One self-contained page.", "content": {"text/html": {}}}},
)
async def report_page(job_id: JobId, parts: Wired) -> Response:
    """The report as one page that needs nothing else."""
    run = await parts.client.documents.run(job_id)
    page = await report(parts.client, run)
    return Response(page.html, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": page.policy})


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    description=events.DESCRIPTION,
    responses={200: {"description": "A stream.", "content": {"text/event-stream": {}}}},
)
async def job_events(
    job_id: JobId, request: Request, parts: Wired, after: events.After = "", start: events.From = "start"
) -> StreamingResponse:
    run = await parts.client.documents.run(job_id)
    return await events.event_stream(request, parts, run.run_id, after, start, name="status", snapshot=job_status)
