"""`/api/v1/*`: the resource API, for new clients. One route a call of the services.

Objects are as `penstock.client.views` shows them: states are lower-case words, times ISO 8601 in UTC. Sources are in
`gateway.sources`, plans in `gateway.plans`, runs in `gateway.runs`, items in `gateway.items`, limits, prices and the
switch of retries in `gateway.limits`, workers in `gateway.workers`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from typing_extensions import TypedDict

from gateway.bodies import RunId, Token, resource_router, run_of
from gateway.wiring import Wired
from penstock import __version__
from penstock.client.collection_views import (
    CollectionDocumentView,
    CollectionView,
    collection_document_view,
    collection_view,
)
from penstock.client.plan_views import ProblemView, ProcessorView, processor_view
from penstock.runtime.plain_text import MAX_CHARACTERS

__all__ = ["router"]

router = resource_router()

ProcessorName = Annotated[str, Path(max_length=MAX_CHARACTERS)]


class CollectionDocumentPage(TypedDict):
    documents: list[CollectionDocumentView]
    next_page_token: str | None


class ProcessorCheck(TypedDict):
    name: str
    version: str | None
    file: str | None
    file_hash: str | None
    usable: bool
    problems: list[ProblemView]


class Endpoints(TypedDict):
    """Where clients on this machine find the services."""

    version: str
    http: str
    planner: str
    scheduler: str
    analyzer: str
    data: str | None
    blobs: str | None
    tls: bool
    blobs_url: str
    s3_endpoint: str
    s3_region: str


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


@router.get("/processors/{name}", tags=["processors"])
async def get_processor(name: ProcessorName, parts: Wired) -> ProcessorView:
    """One of them as it is now; a declaration that is wrong with all that is wrong with it."""
    return processor_view(await parts.client.processors.get(name))


@router.get("/processors/{name}/check", tags=["processors"])
async def check_processor(name: ProcessorName, parts: Wired) -> ProcessorCheck:
    """Reads a declaration again and says whether plans may name it. Nothing is run and nothing is changed."""
    view = processor_view(await parts.client.processors.get(name))
    return {
        "name": view["name"],
        "version": view["version"] or None,
        "file": view["file"],
        "file_hash": view["file_hash"],
        "usable": not view["problems"],
        "problems": view["problems"],
    }


@router.get("/endpoints", tags=["endpoints"])
async def endpoints(parts: Wired) -> Endpoints:
    """The gRPC addresses, for clients on this machine, whose token lies in the data folder; with `tls` for those that
    have a certificate."""
    where = parts.client.endpoints
    return {
        "version": __version__,
        "http": where.http,
        "planner": where.planner,
        "scheduler": where.scheduler,
        "analyzer": where.analyzer,
        "data": str(where.data) if where.data else None,
        "blobs": str(where.blobs) if where.blobs and not where.blobs_url else None,
        "blobs_url": where.blobs_url,
        "s3_endpoint": where.s3_endpoint,
        "s3_region": where.s3_region,
        "tls": where.identity is not None,
    }
