"""`penstock runs`: start runs of plain items; look at any run, watch it, command it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli import show
from penstock.cli.items import list_ as list_items
from penstock.cli.options import (
    DataOption,
    JsonOption,
    ReasonOption,
    RunArgument,
    StageNumberOption,
    carry_out,
    connected,
    run_of,
)
from penstock.cli.run_events import events
from penstock.cli.run_text import (
    counts_of,
    money_short,
    print_commanded,
    print_explanation,
    print_summary,
    share_of,
    state_of,
)
from penstock.cli.starting import follow, start
from penstock.words import counted

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Start, watch and command runs.")

app.command()(start)
app.command("items")(list_items)
app.command()(events)


@app.command("list")
def list_(
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only runs in this state (running, paused, …); repeat it.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Runs to show.")] = 20,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest runs, newest first.

    Example: penstock runs list --state running --state paused
    """

    async def work() -> None:
        from penstock.client.views import money_view, run_view, time_text

        async with connected(data) as client:
            runs = await client.runs.list(limit=limit, states=state or [])
        if as_json:
            show.print_json([run_view(run) for run in runs])
            return
        # Shown where there is any of it.
        paid = any(money_short(money_view(run.money)) for run in runs)
        waits = any(run.waiting for run in runs)
        show.print_table(
            (
                *("run", "state", "items", "done", "failed"),
                *(("waits for",) if waits else ()),
                *(("money",) if paid else ()),
                *("name", "created", "id"),
            ),
            [
                (
                    run.number,
                    state_of(run),
                    counts_of(run).total,
                    f"{show.percent(share_of(run))}%",
                    counts_of(run).failed,
                    *((run.waiting,) if waits else ()),
                    *((money_short(money_view(run.money)),) if paid else ()),
                    run.name,
                    time_text(run.create_time),
                    run.run_id,
                )
                for run in runs
            ],
        )

    carry_out(work())


@app.command("show")
def show_(run: RunArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """One run: its stages, money, speed, time left, what runs now, and failed attempts with equal ones together.

    Example: penstock runs show 3
    """

    async def work() -> None:
        from penstock.client.operator_views import summary_view

        async with connected(data) as client:
            found = await run_of(client, run)
            summary = await client.runs.summary(found.run_id)
        view = summary_view(summary)
        if as_json:
            show.print_json({**view["run"], **{name: value for name, value in view.items() if name != "run"}})
        else:
            print_summary(summary.run, view)

    carry_out(work())


@app.command()
def watch(run: RunArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Follow a run to its end; Ctrl-C leaves it running. With --json one object a line.

    Exit code: 0 completed, 1 failed or stopped, 3 completed with failures.

    Example: penstock runs watch 3
    """

    async def work() -> int:
        async with connected(data) as client:
            return await follow(client, await run_of(client, run), as_json=as_json)

    carry_out(work())


@app.command()
def pause(run: RunArgument, reason: ReasonOption = "", data: DataOption = None, as_json: JsonOption = False) -> None:
    """Start no more items of a run; what runs finishes.

    Example: penstock runs pause 3 --reason "prices first"
    """
    _command("pause", run, reason, data, as_json=as_json)


@app.command()
def resume(run: RunArgument, reason: ReasonOption = "", data: DataOption = None, as_json: JsonOption = False) -> None:
    """Go on with a run that was paused, or that has ended: what is not completed is executed, nothing else again.

    What failed stays so: `penstock items retry` tries it again, `penstock runs clone --failed` in a new run.

    Example: penstock runs resume 3
    """
    _command("resume", run, reason, data, as_json=as_json)


@app.command()
def stop(
    run: RunArgument,
    force: Annotated[bool, typer.Option("--force", help="Revoke what runs, too.")] = False,
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a run: what runs may finish, the rest is not started.

    Example: penstock runs stop 3 --force
    """
    _command("stop", run, reason, data, as_json=as_json, force=force)


@app.command()
def update(
    run: RunArgument,
    priority: Annotated[
        int | None, typer.Option("--priority", help="Higher goes first among the owner's runs.")
    ] = None,
    stage: StageNumberOption = 0,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Most items of the stage at once.")] = None,
    max_tries: Annotated[int | None, typer.Option("--max-tries", help="Tries of an item of the stage.")] = None,
    max_run_seconds: Annotated[int | None, typer.Option("--max-run-seconds", help="Time of one item.")] = None,
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a run while it goes on; what is not named stays as it is. Budgets: `penstock budgets set`.

    Example: penstock runs update 3 --priority 10 --concurrency 4 --reason "let the others in"
    """

    async def work() -> None:
        from penstock.client.runs import StageChange
        from penstock.runtime.errors import InvalidInput

        change = StageChange(stage=stage, concurrency=concurrency, max_tries=max_tries, max_run_seconds=max_run_seconds)
        stages = [] if change == StageChange(stage=stage) else [change]
        if priority is None and not stages:
            raise InvalidInput(
                "nothing to change: one of --priority, --concurrency, --max-tries, --max-run-seconds is needed",
                code="nothing_to_change",
            )
        async with connected(data) as client:
            found = await run_of(client, run)
            answer = await client.runs.update(found.run_id, priority=priority, stages=stages, reason=reason)
        print_commanded(answer, "updated", as_json=as_json)

    carry_out(work())


@app.command()
def clone(
    run: RunArgument,
    failed: Annotated[bool, typer.Option("--failed", help="Its failed items.")] = False,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Items that were not settled.")] = False,
    name: Annotated[str, typer.Option("--name", help="A name for people.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch it to its end.")] = False,
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a new run of what an ended run has left: failed items, unfinished ones, or (neither option) both.

    The old run keeps its outcomes. Archived runs can be cloned, too.

    Example: penstock runs clone 3 --failed --wait
    """

    async def work() -> int:
        from penstock.client.views import run_view

        async with connected(data) as client:
            found = await run_of(client, run)
            made = await client.runs.clone(found.run_id, failed=failed, unfinished=unfinished, name=name, reason=reason)
            if wait:
                return await follow(client, made, as_json=as_json)
        if as_json:
            show.print_json(run_view(made))
        else:
            count = counted(counts_of(made).total, "item")
            show.say(f"run {made.number} started: {count} of run {found.number} ({made.run_id})")
        return 0

    carry_out(work())


@app.command()
def explain(run: RunArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Why a run does not go on, what would change that, and since when.

    Example: penstock runs explain 3        of one item: penstock items explain 3 17
    """

    async def work() -> None:
        from penstock.client.operator_views import explanation_view

        async with connected(data) as client:
            found = await run_of(client, run)
            view = explanation_view(await client.runs.explain(found.run_id))
        if as_json:
            show.print_json(view)
        else:
            print_explanation(f"Run {found.number}", view)

    carry_out(work())


def _command(what: str, run: str, reason: str, data: Path | None, *, as_json: bool, force: bool = False) -> None:
    async def work() -> None:
        async with connected(data) as client:
            found = await run_of(client, run)
            if what == "pause":
                answer = await client.runs.pause(found.run_id, reason=reason)
            elif what == "resume":
                answer = await client.runs.resume(found.run_id, reason=reason)
            else:
                answer = await client.runs.stop(found.run_id, force=force, reason=reason)
        print_commanded(answer, what, as_json=as_json)

    carry_out(work())
