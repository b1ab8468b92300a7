"""Options that many commands share, and how a command reaches the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from penstock.client import AsyncClient

__all__ = [
    "INTERRUPTED",
    "DataOption",
    "JobArgument",
    "JsonOption",
    "RunArgument",
    "carry_out",
    "connected",
    "reference",
]

INTERRUPTED = 130

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data folder of the running server (default: $PENSTOCK_DATA, $PENSTOCK_URL, ~/.local/share/penstock).",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's number or its id.", show_default=False)]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's number or its run id.", show_default=False)]


def reference(text: str) -> int | str:
    """A run's number, or its id."""
    return int(text) if text.isascii() and text.isdigit() else text


@contextlib.asynccontextmanager
async def connected(data: Path | None) -> AsyncIterator[AsyncClient]:
    """The running server. Raises Unavailable, in one line that names `penstock up`, where there is none."""
    from penstock.client import AsyncClient

    async with AsyncClient(data=data, actor="cli") as client:
        yield client


def carry_out(work: Coroutine[Any, Any, int | None]) -> None:
    """Runs a command's work and exits with the code that it gives."""
    raise typer.Exit(asyncio.run(work) or 0)
