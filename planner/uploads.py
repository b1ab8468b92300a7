"""Streams that come up: their parts in batches, each within its time, and so many of them at once.

A client that sends nothing for IDLE_SECONDS, or that finds no turn in TURN_SECONDS, is told so; what it sent goes with
the upload's folder.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from penstock.runtime.errors import InvalidInput, Overloaded, Unavailable
from penstock.v1 import planner_pb2
from planner.sources import Part

__all__ = ["MAX_CHUNK_BYTES", "Turns", "batches", "header_of", "in_thread", "next_part"]

MAX_CHUNK_BYTES = 1 << 20
IDLE_SECONDS = 120.0
"""An upload that sends nothing for so long is given up."""

TURN_SECONDS = 30.0
"""An upload waits so long for one of the others to end."""

_BATCH_BYTES = 1 << 20
_BATCH_PARTS = 512
_UPLOADS_AT_ONCE = 8

T = TypeVar("T")


class Turns:
    """Who may upload now."""

    def __init__(self) -> None:
        self._uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """One of the uploads under way at once. Raises Overloaded when none ends in time."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._uploads.acquire()
        except TimeoutError:
            raise Overloaded(
                f"{_UPLOADS_AT_ONCE} uploads are under way and none ended in {TURN_SECONDS:g} s; try again later",
                code="uploads_busy",
            ) from None
        try:
            yield
        finally:
            self._uploads.release()


async def next_part(parts: AsyncIterator[T]) -> T | None:
    """The next message; None at the end. Raises Unavailable when none comes."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await anext(parts, None)
    except TimeoutError:
        raise _idle() from None


async def header_of(parts: AsyncIterator[planner_pb2.CreateSourceRequest]) -> planner_pb2.CreateSourceRequest.Header:
    part = await next_part(aiter(parts))
    if part is None or part.WhichOneof("part") != "header":
        raise InvalidInput("an upload begins with a header message", code="bad_stream")
    return part.header


async def batches(parts: AsyncIterator[planner_pb2.CreateSourceRequest]) -> AsyncIterator[list[Part]]:
    """Parts in order, many at a time: a thread switch costs more than a small document."""
    loop = asyncio.get_running_loop()
    batch: list[Part] = []
    size, files = 0, 0
    try:
        async with asyncio.timeout(IDLE_SECONDS) as limit:
            armed = loop.time()  # when the limit was last set
            async for part in parts:
                which = part.WhichOneof("part")
                if which == "file":
                    files += 1
                    batch.append(part.file.name)
                elif which == "chunk" and files and len(part.chunk) <= MAX_CHUNK_BYTES:
                    batch.append(part.chunk)
                    size += len(part.chunk)
                else:
                    raise _out_of_place(part, files)
                if size >= _BATCH_BYTES or len(batch) >= _BATCH_PARTS:
                    limit.reschedule(None)  # what we do ourselves is not the client's idleness
                    yield batch
                    batch, size = [], 0
                # A timer for each message would cost more than the message.
                if limit.when() is None or loop.time() - armed > 1.0:
                    armed = loop.time()
                    limit.reschedule(armed + IDLE_SECONDS)
    except TimeoutError:
        raise _idle() from None
    if batch:
        yield batch


def _idle() -> Unavailable:
    return Unavailable(f"the upload sent nothing for {IDLE_SECONDS:g} s", code="upload_idle")


def _out_of_place(part: planner_pb2.CreateSourceRequest, files: int) -> InvalidInput:
    if part.WhichOneof("part") == "chunk" and files:
        return InvalidInput(
            f"a chunk has {len(part.chunk):,} bytes, at most {MAX_CHUNK_BYTES:,} are taken", code="bad_stream"
        )
    return InvalidInput("after the header come files, each followed by its chunks", code="bad_stream")


async def in_thread(work: Callable[[], T], *, stop: threading.Event | None = None) -> T:
    """Like `asyncio.to_thread`, but a call that is given up waits for its thread: the upload's folder goes after it.
    stop: set then, so that the thread need not finish what nobody waits for."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        await asyncio.wait([task])
        raise
