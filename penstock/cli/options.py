"""Options that many commands share, and how a command reaches the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.v1 import scheduler_pb2

__all__ = [
    "INTERRUPTED",
    "DataOption",
    "FilterOption",
    "JobArgument",
    "JsonOption",
    "PlanArgument",
    "ReasonOption",
    "RunArgument",
    "SourceArgument",
    "StageNumberOption",
    "YesOption",
    "as_typed",
    "carry_out",
    "confirmed",
    "connected",
    "reference",
    "run_of",
    "seconds_of",
    "seqs_of",
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
ReasonOption = Annotated[str, typer.Option("--reason", help="Kept with the event.")]
StageNumberOption = Annotated[int, typer.Option("--stage", min=0, max=1000, help="Which stage, from 0.")]
FilterOption = Annotated[
    str,
    typer.Option(
        "--filter",
        metavar="WORDS",
        help="As 'state = failed AND fingerprint = \"3f…\"' or 'group = \"Razer\" AND (tries > 2 OR key:sale)'.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's number or its id.", show_default=False)]
SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="The source's name, or the id of a version.", show_default=False)
]
PlanArgument = Annotated[
    str, typer.Argument(metavar="PLAN", help="The plan's id, or the name of a kept one.", show_default=False)
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's number or its run id.", show_default=False)]


def reference(text: str) -> int | str:
    """A run's number, or its id."""
    return int(text) if text.isascii() and text.isdigit() else text


_named: dict[str, str] = {}
"""Runs of this command, id -> what was typed."""


async def run_of(client: AsyncClient, text: str) -> scheduler_pb2.Run:
    """The run that was typed; what goes wrong is told with the same word. Raises NotFound."""
    found = await client.runs.get(reference(text))
    _named[found.run_id] = text
    return found


def as_typed(message: str) -> str:
    """The message with the runs of this command named as they were typed."""
    for run_id, text in _named.items():
        message = message.replace(f"run {run_id}", f"run {text}")
    return message


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether somebody says yes. Raises InvalidInput where nobody answers."""
    from penstock.runtime.errors import InvalidInput

    if yes:
        return True
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    # The loop's own handler would note Ctrl-C and let the question wait on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)
    if not answer:
        print(file=sys.stderr)
        raise InvalidInput("nobody answers here: add --yes to go on without being asked", code="confirm_required")
    return answer.strip().lower() in ("y", "yes")


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)", re.ASCII)
_SEQS = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)
MOST_SEQS = 100_000


def seconds_of(text: str, option: str) -> float:
    """`90`, `90s`, `10m`, `2h` or `1d`. Raises InvalidInput."""
    from penstock.runtime.errors import InvalidInput

    found = _DURATION.fullmatch(text)
    if found is None:
        raise InvalidInput(f"{option} {text!r}: a time as 90s, 10m, 2h or 1d is needed", code="bad_duration")
    return float(found[1]) * _UNITS[found[2]]


def seqs_of(texts: list[str]) -> list[int]:
    """`4` and `7-9` as 4, 7, 8, 9. Raises InvalidInput for anything else, and past what one call takes."""
    from penstock.runtime.errors import InvalidInput

    seqs: dict[int, None] = {}
    for text in texts:
        found = _SEQS.fullmatch(text)
        if found is None:
            raise InvalidInput(f"{text!r} is no item: its number is needed, or a range as 7-9", code="bad_item")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise InvalidInput(
                f"{text!r} is no range: the smaller number comes first, as {last}-{first}", code="bad_item"
            )
        if last - first >= MOST_SEQS or len(seqs) > MOST_SEQS:
            raise InvalidInput(f"more than {MOST_SEQS:,} items: name them by --filter", code="too_many_items")
        seqs.update(dict.fromkeys(range(first, last + 1)))
    return list(seqs)


@contextlib.asynccontextmanager
async def connected(data: Path | None) -> AsyncIterator[AsyncClient]:
    """The running server. Raises Unavailable, in one line that names `penstock up`, where there is none."""
    from penstock.client import AsyncClient
    from penstock.runtime.clock import random_id
    from penstock.runtime.errors import PenstockError

    actor, request_id = os.environ.get("PENSTOCK_ACTOR") or "cli", os.environ.get("PENSTOCK_REQUEST_ID")
    # A command changes one thing; a script that makes it again says by the same id that it is the same.
    make_id = random_id if not request_id else lambda prefix: request_id if prefix == "req" else random_id(prefix)
    async with AsyncClient(data=data, actor=actor, make_id=make_id) as client:
        try:
            yield client
        except PenstockError as error:
            error.message = as_typed(error.message)
            raise


def carry_out(work: Coroutine[Any, Any, int | None]) -> None:
    """Runs a command's work and exits with the code that it gives."""
    raise typer.Exit(asyncio.run(work) or 0)
