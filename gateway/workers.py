"""`/api/v1/workers` and `/classes`: who executes, how they are, and telling them to leave."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from fastapi.responses import PlainTextResponse
from pydantic import Field
from typing_extensions import TypedDict

from gateway.bodies import CommandBody, Flag, Token, Truth, resource_router
from gateway.wiring import Wired
from penstock.client.worker_views import WorkerClassView, WorkerView, worker_class_view, worker_view
from penstock.runtime.plain_text import MAX_CHARACTERS

__all__ = ["router"]

router = resource_router()

Session = Annotated[str, Path(max_length=MAX_CHARACTERS, description="As the list names it.")]


class DrainBody(CommandBody):
    sessions: list[str] = Field(default_factory=list, max_length=1_000, description="These; or else a class.")
    worker_class: str = Field("", max_length=MAX_CHARACTERS, description="All workers of this class.")
    validate_only: Truth = Field(False, description="Only answer which it would be.")


class WorkerPage(TypedDict):
    workers: list[WorkerView]
    next_page_token: str | None


class Drained(TypedDict):
    sessions: list[str]


class Classes(TypedDict):
    classes: list[WorkerClassView]


@router.get("/workers", tags=["workers"])
async def list_workers(
    parts: Wired,
    worker_class: Annotated[str, Query(max_length=MAX_CHARACTERS, description="Only of this class.")] = "",
    with_ended: Annotated[Flag, Query(description="Those that ended lately, too.")] = False,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 200,
    page_token: Token = "",
) -> WorkerPage:
    """Workers in order of class and slot, then the ended ones, the latest first."""
    page = await parts.client.workers.list_page(
        worker_class=worker_class, with_ended=with_ended, page_size=page_size, page_token=page_token
    )
    return {
        "workers": [worker_view(worker) for worker in page.workers],
        "next_page_token": page.next_page_token or None,
    }


@router.post("/workers/drain", tags=["workers"])
async def drain_workers(parts: Wired, body: DrainBody) -> Drained:
    """Tells workers to take nothing new, finish what they have begun, and end; answers who drains since."""
    told = await parts.client.workers.drain(
        body.sessions, worker_class=body.worker_class, reason=body.reason, validate_only=body.validate_only
    )
    return {"sessions": told}


@router.get("/workers/{session}/log", tags=["workers"], response_class=PlainTextResponse)
async def worker_log(parts: Wired, session: Session) -> PlainTextResponse:
    """The last lines that a worker has written; of an ended one, as they were kept."""
    answer = await parts.client.workers.log(session)
    return PlainTextResponse(answer.tail.decode(errors="replace"))


@router.get("/classes", tags=["workers"])
async def list_classes(parts: Wired) -> Classes:
    """The worker classes: how many workers each has, could use and may have, and what is wrong."""
    return {"classes": [worker_class_view(one) for one in await parts.client.workers.classes()]}
