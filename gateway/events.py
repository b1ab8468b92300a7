"""A run's progress as server-sent events.

First the run as it is, then its events, each under its number as `id:`, so that a browser that comes back with
`Last-Event-ID` gets what it missed and nothing twice; between them the run again whenever it has changed (counts are
coalesced by the scheduler). `end` is the last one. A comment every ten seconds keeps the line open. Without
`Last-Event-ID` all events of the run are told; `?from=now` leaves out the past ones. A scheduler that restarts is
waited for; when it stays away, or the gateway drains, the stream just ends, and the browser comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any

import orjson
from fastapi import Query
from starlette.requests import Request
from starlette.responses import StreamingResponse

from gateway.streams import streamed
from gateway.wiring import Parts
from penstock.client.runs import ENDED
from penstock.client.views import event_view
from penstock.runtime.errors import InvalidInput, PenstockError
from penstock.runtime.paging import whole_number
from penstock.v1 import scheduler_pb2

__all__ = ["DESCRIPTION", "After", "From", "event_stream"]

HEARTBEAT_SECONDS = 10.0
RETRY_MS = 1000

DESCRIPTION = (
    "Server-sent events. A snapshot first, then every event of the run with its number as `id:`, and a new snapshot "
    "whenever the run has changed; `end` is the last. Resumes after `Last-Event-ID`; `from=now` leaves out past events."
)

Snapshot = Callable[[scheduler_pb2.Run], Mapping[str, object]]


def _message(name: str, data: Mapping[str, object], number: int | None = None) -> bytes:
    head = b"" if number is None else b"id: %d\n" % number
    return head + b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))


After = Annotated[str, Query(description="The number of the last event that was seen; `Last-Event-ID` comes first.")]
From = Annotated[str, Query(alias="from", description="start, or now: without past events.")]


def _position(request: Request, after: str, start: str) -> tuple[int, bool]:
    """(number of the last event that was seen, whether only new events are wanted)."""
    last = request.headers.get("last-event-id", "") or after
    if last:
        number = whole_number(last)
        if number is None:
            raise InvalidInput(f"Last-Event-ID is {last!r}; it must be the number of an event", code="bad_event_id")
        return number, False
    if start not in ("start", "now"):
        raise InvalidInput(f"from is {start!r}; it must be start or now", code="invalid_input")
    return 0, start == "now"


async def event_stream(
    request: Request, parts: Parts, run_id: str, after: str, start: str, *, name: str, snapshot: Snapshot
) -> StreamingResponse:
    """The stream of a run; snapshots are called `name`. Raises NotFound before anything is sent."""
    number, from_now = _position(request, after, start)
    watch = parts.client.runs.watch(run_id, after=number, from_now=from_now)
    return await streamed(
        _told(watch, parts.stopping, name, snapshot), "text/event-stream", {"X-Accel-Buffering": "no"}
    )


async def _told(
    watch: AsyncIterator[scheduler_pb2.WatchRunResponse], stopping: asyncio.Event, name: str, snapshot: Snapshot
) -> AsyncIterator[bytes]:
    told: Mapping[str, object] = {}
    draining = asyncio.create_task(stopping.wait())
    following: asyncio.Future[scheduler_pb2.WatchRunResponse] | None = None
    first = True
    ended = False
    try:
        while not draining.done():
            following = following or asyncio.ensure_future(anext(watch))
            waited: set[asyncio.Future[Any]] = {following, draining}
            done, _ = await asyncio.wait(waited, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if following not in done:
                if not done:
                    yield b": still here\n\n"
                continue
            try:
                answer = await following
            except StopAsyncIteration:
                break
            except PenstockError:
                if first:
                    raise
                return
            following = None
            seen = snapshot(answer.run)
            begin = b"retry: %d\n" % RETRY_MS + _message(name, seen) if first else b""
            text = begin + b"".join(_message("event", event_view(event), event.number) for event in answer.events)
            if not first and seen != told:
                text += _message(name, seen)
            told, first, ended = seen, False, answer.run.state in ENDED
            if text:
                yield text
        if ended:
            yield _message("end", told)
    finally:
        draining.cancel()
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await following
        await watch.aclose()  # type: ignore[attr-defined]  # an async generator
