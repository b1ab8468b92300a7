"""`penstock runs events`: what happened in a run, and what happens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import show
from penstock.cli.change_text import change_text
from penstock.cli.options import INTERRUPTED, DataOption, JsonOption, RunArgument, carry_out, connected, run_of

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.client.views import EventView
    from penstock.v1 import scheduler_pb2

__all__ = ["events"]

COLUMNS = ("number", "time", "type", "subject", "change", "actor", "reason")
WIDTHS = (6, 24, 17, 14, 22, 10, 0)
"""Of lines that are printed before the next one is known."""
SHOWN = 200


def events(
    run: RunArgument,
    after: Annotated[int, typer.Option("--after", min=0, help="Only events after this number.")] = 0,
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; repeat it.")] = None,
    subject: Annotated[str, typer.Option("--subject", help="Only of this: stage:0, item:0/17, …")] = "",
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Events to show (default 200; all with --follow).", show_default=False),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="And new ones as they come, to its end.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """What happened in a run, oldest first: who, what, why. With --json one object a line.

    Example: penstock runs events 3 --after 100        of one item: penstock runs events 3 --subject item:0/17
    """
    from penstock.runtime.errors import InvalidInput
    from penstock.words import event_types_problem

    if problem := event_types_problem(type_ or []):
        raise InvalidInput(problem, code="bad_type")

    async def work() -> int:
        import asyncio

        from penstock.client.views import event_view

        rows: list[Sequence[object]] = []
        left = limit or (None if follow else SHOWN)
        if follow and not as_json:
            show.say(_line([name.upper() for name in COLUMNS]))
        async with connected(data) as client:
            found = await run_of(client, run)
            try:
                async for event in _wanted(client, found.run_id, after, type_ or [], subject, follow=follow):
                    view = event_view(event)
                    if as_json:
                        print(json.dumps(view, ensure_ascii=False), flush=follow)
                    elif follow:
                        print(_line(_cells(view)), flush=True)
                    else:
                        rows.append(_cells(view))
                    left = None if left is None else left - 1
                    if left == 0:
                        break
            except asyncio.CancelledError:
                return INTERRUPTED
        if not (as_json or follow):
            show.print_table(COLUMNS, rows)
        return 0

    carry_out(work())


async def _wanted(
    client: AsyncClient, run_id: str, after: int, types: list[str], subject: str, *, follow: bool
) -> AsyncIterator[scheduler_pb2.Event]:
    if not follow:
        async for event in client.runs.events(run_id, after=after, types=types, subject=subject):
            yield event
        return
    async for event in client.runs.follow(run_id, after=after):
        if (not types or event.type in types) and subject in ("", event.subject):
            yield event


def _cells(view: EventView) -> Sequence[object]:
    return (
        *(view["number"], view["time"], view["type"], view["subject"]),
        *(change_text(view), view["actor"], view["reason"]),
    )


def _line(cells: Sequence[object]) -> str:
    return "  ".join(f"{show.text(cell):<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()
