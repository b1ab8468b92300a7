"""`penstock workers` and `penstock classes`: who executes, how they are, and telling them to leave."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, ReasonOption, carry_out, connected

if TYPE_CHECKING:
    from penstock.client.worker_views import WorkerClassView

__all__ = ["app", "classes"]

app = typer.Typer(no_args_is_help=True, help="Processes and pods that execute items.")

ClassOption = Annotated[str, typer.Option("--class", metavar="CLASS", help="Only workers of this class.")]


@app.command("list")
def list_(
    worker_class: ClassOption = "",
    ended: Annotated[bool, typer.Option("--ended", help="Those that ended lately, too, and how.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every worker that there is: what it holds, where it runs, and why it does not start.

    Example: penstock workers list --class gpu --ended
    """

    async def work() -> None:
        from penstock.client.worker_views import worker_view

        async with connected(data) as client:
            found = await client.workers.list(worker_class=worker_class, with_ended=ended)
        views = [worker_view(worker) for worker in found]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("worker", "class", "state", "leases", "where", "since", "note"),
            [
                (
                    view["session"],
                    view["worker_class"],
                    view["state"] + (f" ({view['end_kind']})" if view["end_kind"] else ""),
                    view["leases"],
                    view["place"] or "",
                    view["end_time"] or view["create_time"] or view["seen_time"] or "",
                    view["note"] or "",
                )
                for view in views
            ],
        )

    carry_out(work())


@app.command()
def drain(
    sessions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORKER]...", help="As `workers list` names them.", show_default=False),
    ] = None,
    worker_class: Annotated[str, typer.Option("--class", metavar="CLASS", help="All workers of this class.")] = "",
    preview: Annotated[bool, typer.Option("--preview", help="Only say which it would be.")] = False,
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tells workers to take nothing new, finish what they have begun, and end. Others are started while there is work.

    Example: penstock workers drain --class default --reason "new drivers"
    """

    async def work() -> None:
        async with connected(data) as client:
            told = await client.workers.drain(
                sessions or (), worker_class=worker_class, reason=reason, validate_only=preview
            )
        if as_json:
            show.print_json({"sessions": told})
            return
        verb = "would drain" if preview else "drains"
        for session in told:
            print(f"{session} {verb}")
        if not told:
            print("none: all of them drain already, or there are none")

    carry_out(work())


@app.command()
def logs(
    session: Annotated[str, typer.Argument(metavar="WORKER", help="As `workers list` names it.", show_default=False)],
    data: DataOption = None,
) -> None:
    """The last lines of a worker, also of one that has ended.

    Example: penstock workers logs pen-default-0-3
    """

    async def work() -> None:
        async with connected(data) as client:
            answer = await client.workers.log(session)
        sys.stdout.write(answer.tail.decode(errors="replace"))
        if not answer.tail:
            print("penstock: nothing was kept of what it wrote", file=sys.stderr)

    carry_out(work())


def classes(data: DataOption = None, as_json: JsonOption = False) -> None:
    """The worker classes: how many workers each has, could use and may have, and what is wrong.

    Example: penstock classes
    """

    async def work() -> None:
        from penstock.client.worker_views import worker_class_view

        async with connected(data) as client:
            views = [worker_class_view(one) for one in await client.workers.classes()]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("class", "workers", "draining", "wanted", "max", "slots", "leased", "claimable", "trouble"),
            [
                (
                    view["name"],
                    view["workers"],
                    view["draining"],
                    view["wanted"],
                    "" if view["max"] is None else view["max"],
                    view["slots"] or "",
                    view["leased"],
                    view["claimable"],
                    view["trouble"] or "",
                )
                for view in views
            ],
        )
        for view in views:
            if view["trouble"]:
                print(_advice(view))

    carry_out(work())


def _advice(view: WorkerClassView) -> str:
    return f"{view['name']}: {view['text']}\n  {view['advice']}"
