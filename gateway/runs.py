"""`/api/v1/runs`: start, look, command, change, explain, gates, money, events."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query, Request
from pydantic import Field
from starlette.responses import StreamingResponse
from typing_extensions import TypedDict

from gateway import events
from gateway.auth.roles import Role, needs
from gateway.bodies import (
    Body,
    CommandAnswer,
    CommandBody,
    RunId,
    Token,
    Truth,
    Whole,
    commanded,
    resource_router,
    run_of,
)
from gateway.source_forms import kind_of
from gateway.wiring import Asking, Wired
from penstock.client.operator_views import (
    ExplanationView,
    GateView,
    LedgerEntryView,
    SummaryView,
    explanation_view,
    gate_view,
    ledger_entry_view,
    summary_view,
)
from penstock.client.runs import StageChange
from penstock.client.views import EventView, RunView, event_view, run_view
from penstock.runtime.plain_text import MAX_CHARACTERS

__all__ = ["router"]

router = resource_router()

RunState = Literal[
    "queued", "running", "paused", "waiting", "stopping", "stopped", "completed", "completed_with_failures", "failed"
]
INT64 = 2**63 - 1
Micros = Annotated[int, Field(ge=-INT64, le=INT64)]
Gate = Annotated[str, Path(max_length=MAX_CHARACTERS, description="The gate's name.")]


class StartBody(Body):
    plan_id: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    name: str = Field("", max_length=MAX_CHARACTERS)
    owner: str = Field("", max_length=MAX_CHARACTERS, description="Whom its slots are counted for.")
    priority: Whole = Field(0, description="-1000 to 1000; higher goes first among the owner's runs.")
    budget_micros: int | None = Field(
        None, ge=-INT64, le=INT64, description="Cap in millionths of a dollar; null: none."
    )
    exclusive_keys: list[str] = Field(
        default_factory=list, max_length=100, description="Each is held by one live run: 409 names the holder."
    )
    reason: str = Field("", max_length=2_000, description="Kept with the event.")
    confirm: Truth = Field(False, description="Wanted by a plan that says needs_confirm: 409 `confirm_required`.")
    request_id: str = Field("", max_length=MAX_CHARACTERS, description="The same one answers the same run.")


class StopBody(CommandBody):
    force: Truth = Field(False, description="Revoke what runs at once.")


class StageChangeBody(Body):
    stage: int = Field(0, ge=0, le=1_000)
    concurrency: Whole | None = None
    max_tries: Whole | None = None
    max_run_seconds: Whole | None = None
    budget_micros: Micros | None = Field(None, description="-1: no cap.")
    item_budget_micros: Micros | None = Field(None, description="-1: no cap.")


class ChangeBody(CommandBody):
    priority: Whole | None = None
    budget_micros: Micros | None = Field(None, description="-1: no cap.")
    stages: list[StageChangeBody] = Field(default_factory=list, max_length=1_000)

    def changes_budgets(self) -> bool:
        said = [self.budget_micros]
        for stage in self.stages:
            said += (stage.budget_micros, stage.item_budget_micros)
        return any(micros is not None for micros in said)


class CloneBody(CommandBody):
    failed: Truth = Field(False, description="Its failed items.")
    unfinished: Truth = Field(False, description="What was not settled; neither chosen: both.")
    name: str = Field("", max_length=MAX_CHARACTERS)


class RunPage(TypedDict):
    runs: list[RunView]
    next_page_token: str | None


class EventPage(TypedDict):
    events: list[EventView]
    next_page_token: str | None


class GatePage(TypedDict):
    gates: list[GateView]
    next_page_token: str | None


class LedgerPage(TypedDict):
    entries: list[LedgerEntryView]
    next_page_token: str | None


@router.post("/runs", tags=["runs"])
async def start_run(body: StartBody, parts: Wired) -> RunView:
    """Starts a run of a plan; it is durable when this answers."""
    run = await parts.client.runs.start(
        body.plan_id,
        confirm=body.confirm,
        name=body.name,
        owner=body.owner,
        priority=body.priority,
        budget_micros=body.budget_micros,
        exclusive_keys=body.exclusive_keys,
        reason=body.reason,
        request_id=body.request_id,
    )
    return run_view(run)


@router.get("/runs", tags=["runs"])
async def list_runs(
    parts: Wired,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 50,
    page_token: Token = "",
    kind: Literal["documents", "items", "catalog", "table", "tasks"] | None = None,
    state: Annotated[list[RunState], Query(description="Repeat it for several.")] = [],  # noqa: B006
    plan: Annotated[str, Query(max_length=MAX_CHARACTERS, description="Of this plan alone, by its id.")] = "",
) -> RunPage:
    """The runs, newest first."""
    page = await parts.client.runs.list_page(
        page_size=page_size,
        page_token=page_token,
        states=state,
        kind=kind_of(kind or ""),
        plan_id=plan,
    )
    return {"runs": [run_view(run) for run in page.runs], "next_page_token": page.next_page_token or None}


@router.get("/runs/{run_id}", tags=["runs"])
async def get_run(run_id: RunId, parts: Wired) -> RunView:
    return run_view(await run_of(run_id, parts))


@router.patch("/runs/{run_id}", tags=["runs"])
async def update_run(run_id: RunId, body: ChangeBody, parts: Wired, asking: Asking) -> CommandAnswer:
    """Changes a live run: priority, budgets, concurrency, tries, time of an item. What is absent stays as it is.
    Where tokens are asked for, budgets are an admin's."""
    if body.changes_budgets():
        needs(asking, Role.ADMIN, what="to change a budget")
    run = await run_of(run_id, parts)
    stages = [StageChange(**stage.model_dump()) for stage in body.stages]
    answer = await parts.client.runs.update(
        run.run_id,
        priority=body.priority,
        budget_micros=body.budget_micros,
        stages=stages,
        reason=body.reason,
        request_id=body.request_id,
    )
    return commanded(answer)


@router.post("/runs/{run_id}/pause", tags=["runs"])
async def pause_run(run_id: RunId, parts: Wired, body: CommandBody = CommandBody()) -> CommandAnswer:  # noqa: B008
    """Nothing is granted after the answer; what runs finishes, and `quiesced` tells when."""
    run = await run_of(run_id, parts)
    return commanded(await parts.client.runs.pause(run.run_id, reason=body.reason, request_id=body.request_id))


@router.post("/runs/{run_id}/resume", tags=["runs"])
async def resume_run(run_id: RunId, parts: Wired, body: CommandBody = CommandBody()) -> CommandAnswer:  # noqa: B008
    """Goes on with what is not completed; nothing that is finished runs again."""
    run = await run_of(run_id, parts)
    return commanded(await parts.client.runs.resume(run.run_id, reason=body.reason, request_id=body.request_id))


@router.post("/runs/{run_id}/stop", tags=["runs"])
async def stop_run(run_id: RunId, parts: Wired, body: StopBody = StopBody()) -> CommandAnswer:  # noqa: B008
    """What runs may finish, the rest is stopped; with `force` what runs is revoked too."""
    run = await run_of(run_id, parts)
    return commanded(
        await parts.client.runs.stop(run.run_id, force=body.force, reason=body.reason, request_id=body.request_id)
    )


@router.post("/runs/{run_id}/clone", tags=["runs"])
async def clone_run(run_id: RunId, parts: Wired, body: CloneBody = CloneBody()) -> RunView:  # noqa: B008
    """A new run of only the failed or unfinished items; of archived runs too."""
    run = await run_of(run_id, parts)
    clone = await parts.client.runs.clone(
        run.run_id,
        failed=body.failed,
        unfinished=body.unfinished,
        name=body.name,
        reason=body.reason,
        request_id=body.request_id,
    )
    return run_view(clone)


@router.get("/runs/{run_id}/summary", tags=["runs"])
async def run_summary(run_id: RunId, parts: Wired) -> SummaryView:
    """Counts, throughput, ETA as a range, what runs, failures in groups, money: in constant time."""
    run = await run_of(run_id, parts)
    return summary_view(await parts.client.runs.summary(run.run_id))


@router.get("/runs/{run_id}/explain", tags=["runs"])
async def explain_run(run_id: RunId, parts: Wired) -> ExplanationView:
    """Why it does not go on, what would change that, since when. No reasons: it may start items now."""
    run = await run_of(run_id, parts)
    return explanation_view(await parts.client.runs.explain(run.run_id))


@router.get("/runs/{run_id}/ledger", tags=["runs"])
async def list_ledger(
    run_id: RunId,
    parts: Wired,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    page_token: Token = "",
) -> LedgerPage:
    """Money, entry by entry, in order; the sum of `micros` is what the run has spent."""
    run = await run_of(run_id, parts)
    page = await parts.client.runs.ledger_page(run.run_id, page_size=page_size, page_token=page_token)
    return {
        "entries": [ledger_entry_view(entry) for entry in page.entries],
        "next_page_token": page.next_page_token or None,
    }


@router.get("/gates", tags=["gates"])
async def all_gates(
    parts: Wired, page_size: Annotated[int, Query(ge=1, le=1_000)] = 100, page_token: Token = ""
) -> GatePage:
    """The gates of all runs that wait for an answer now."""
    page = await parts.client.gates.list_page(page_size=page_size, page_token=page_token)
    return {"gates": [gate_view(gate) for gate in page.gates], "next_page_token": page.next_page_token or None}


@router.get("/runs/{run_id}/gates", tags=["gates"])
async def run_gates(
    run_id: RunId, parts: Wired, page_size: Annotated[int, Query(ge=1, le=1_000)] = 100, page_token: Token = ""
) -> GatePage:
    """The gates of a run that wait for an answer now."""
    run = await run_of(run_id, parts)
    page = await parts.client.gates.list_page(run_id=run.run_id, page_size=page_size, page_token=page_token)
    return {"gates": [gate_view(gate) for gate in page.gates], "next_page_token": page.next_page_token or None}


@router.post("/runs/{run_id}/gates/{gate}/approve", tags=["gates"])
async def approve_gate(
    run_id: RunId,
    gate: Gate,
    parts: Wired,
    body: CommandBody = CommandBody(),  # noqa: B008
) -> CommandAnswer:
    """The stage behind the gate begins; 409 when no gate of that name waits."""
    run = await run_of(run_id, parts)
    return commanded(await parts.client.gates.approve(run.run_id, gate, reason=body.reason, request_id=body.request_id))


@router.post("/runs/{run_id}/gates/{gate}/reject", tags=["gates"])
async def reject_gate(
    run_id: RunId,
    gate: Gate,
    parts: Wired,
    body: CommandBody = CommandBody(),  # noqa: B008
) -> CommandAnswer:
    """The run stops; 409 when no gate of that name waits."""
    run = await run_of(run_id, parts)
    return commanded(await parts.client.gates.reject(run.run_id, gate, reason=body.reason, request_id=body.request_id))


Types = Annotated[list[str], Query(description="Only these types; repeat it for several.")]
After = Annotated[int, Query(ge=0, le=2**63 - 1, description="Only events after the one of this number.")]
Subject = Annotated[str, Query(max_length=MAX_CHARACTERS, description="Exactly this one: stage:0, item:0/17, …")]


@router.get("/runs/{run_id}/events", tags=["events"])
async def list_events(
    run_id: RunId,
    parts: Wired,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    page_token: Token = "",
    type: Types = [],  # noqa: A002, B006
    subject: Subject = "",
    after: After = 0,
) -> EventPage:
    """What happened, oldest first; `after`: what happened after the event of this number."""
    run = await run_of(run_id, parts)
    page = await parts.client.runs.events_page(
        run.run_id, after=after, page_size=page_size, page_token=page_token, types=type, subject=subject
    )
    return {
        "events": [event_view(event) for event in page.events],
        "next_page_token": page.next_page_token or None,
    }


@router.get(
    "/runs/{run_id}/events/stream",
    tags=["events"],
    response_class=StreamingResponse,
    description=events.DESCRIPTION,
    responses={200: {"description": "A stream.", "content": {"text/event-stream": {}}}},
)
async def stream_events(
    run_id: RunId, request: Request, parts: Wired, after: events.After = "", start: events.From = "start"
) -> StreamingResponse:
    run = await run_of(run_id, parts)
    return await events.event_stream(request, parts, run.run_id, after, start, name="run", snapshot=run_view)


@router.get("/events", tags=["events"])
async def all_events(
    run_id: Annotated[str, Query(min_length=1, max_length=MAX_CHARACTERS, description="The run's id, or its number.")],
    parts: Wired,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    page_token: Token = "",
    type: Types = [],  # noqa: A002, B006
    subject: Subject = "",
    after: After = 0,
) -> EventPage:
    """As `/api/v1/runs/{run_id}/events`."""
    return await list_events(run_id, parts, page_size, page_token, type, subject, after)
