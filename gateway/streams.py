"""Answers that are written while they are made.

The first piece is made before the status line is sent, so that what fails at once is a proper error; what fails later
ends the connection in the middle, which every client notices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from starlette.responses import StreamingResponse

__all__ = ["streamed"]


async def streamed(
    pieces: AsyncIterator[bytes], media_type: str, headers: Mapping[str, str] | None = None
) -> StreamingResponse:
    """A 200 with the pieces. Raises what making the first piece raises."""
    first = await anext(pieces, b"")

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(body(), headers=dict(headers or {}), media_type=media_type)
