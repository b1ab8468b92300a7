"""`penstock runs`: start runs of plain items; look at any run, watch it, command it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli import show
from penstock.cli.options import (
    INTERRUPTED,
    DataOption,
    JsonOption,
    RunArgument,
    carry_out,
    connected,
    reference,
)

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.v1 import scheduler_pb2

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Start, watch and command runs.")

EVENT_TYPES = (
    "run.created",
    "run.state",
    "stage.state",
    "item.retry",
    "item.failed",
    "lease.lost",
    "report.refused",
)

ReasonOption = Annotated[str, typer.Option("--reason", help="Kept with the event.")]


def parameters(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs; a value is JSON if it can be read as such, else text. Raises InvalidInput."""
    from penstock.runtime.errors import InvalidInput

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(f"--param {pair!r}: name=value is needed", code="bad_parameters")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


@app.command()
def start(
    items: Annotated[
        Path,
        typer.Option("--items", metavar="FILE.jsonl", help="One item a line: {key, group?, payload?}."),
    ],
    processor: Annotated[str, typer.Option("--processor", help="Who does the work: see `penstock processors list`.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the processor; repeat it.")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=0, help="Most items at once (0: default).")] = 0,
    max_tries: Annotated[int, typer.Option("--max-tries", min=0, help="Tries of an item (0: default).")] = 0,
    max_run_seconds: Annotated[
        int, typer.Option("--max-run-seconds", min=0, help="Time of one item (0: default).")
    ] = 0,
    name: Annotated[str, typer.Option("--name", help="A name for people.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch it to its end.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run of plain items.

    Examples:

      penstock runs start --items items.jsonl --processor noop --wait

      penstock runs start --items pages.jsonl --processor word-frequency --param top=20 --concurrency 8
    """

    async def work() -> int:
        from penstock.client.resources import StageOptions
        from penstock.client.views import run_view

        stage = StageOptions(
            processor=processor,
            parameters=parameters(param or []),
            concurrency=concurrency,
            max_tries=max_tries,
            max_run_seconds=max_run_seconds,
        )
        async with connected(data) as client:
            source = await client.sources.items(items)
            plan = await client.plans.create(source.source_id, stages=[stage], name=name)
            run = await client.runs.start(plan.plan_id, name=name)
            if wait:
                return await _follow(client, run, as_json=as_json)
        if as_json:
            show.print_json(run_view(run))
        else:
            items_given = show.counted(run.counts.total, "item")
            show.say(f"run {run.number} started: {items_given} for {processor} ({run.run_id})")
            show.say(f"watch it: penstock runs watch {run.number}")
        return 0

    carry_out(work())


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
        from penstock.client.views import run_view, time_text

        async with connected(data) as client:
            runs = await client.runs.list(limit=limit, states=state or [])
        if as_json:
            show.print_json([run_view(run) for run in runs])
            return
        show.print_table(
            ("run", "state", "items", "done", "failed", "name", "created", "id"),
            [
                (
                    run.number,
                    _state(run),
                    _given(run).total,
                    f"{show.percent(_share(run))}%",
                    _given(run).failed,
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
    """One run with its stages.

    Example: penstock runs show 3
    """

    async def work() -> None:
        from penstock.client.views import run_view

        async with connected(data) as client:
            found = await client.runs.get(reference(run))
        if as_json:
            show.print_json(run_view(found))
        else:
            _print_run(found)

    carry_out(work())


@app.command()
def watch(run: RunArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Follow a run to its end; Ctrl-C leaves it running. With --json one object a line.

    Exit code: 0 completed, 1 failed or stopped, 3 completed with failures.

    Example: penstock runs watch 3
    """

    async def work() -> int:
        async with connected(data) as client:
            return await _follow(client, await client.runs.get(reference(run)), as_json=as_json)

    carry_out(work())


@app.command()
def pause(run: RunArgument, reason: ReasonOption = "", data: DataOption = None, as_json: JsonOption = False) -> None:
    """Start no more items of a run; what runs finishes.

    Example: penstock runs pause 3 --reason "prices first"
    """
    _command("pause", run, reason, data, as_json=as_json)


@app.command()
def resume(run: RunArgument, reason: ReasonOption = "", data: DataOption = None, as_json: JsonOption = False) -> None:
    """Go on with a run that was paused or stopped: what is not completed is executed.

    One that has ended with failures can't be resumed: start what failed again as a run of its own.

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
def items(
    run: RunArgument,
    stage: Annotated[int, typer.Option("--stage", min=0, help="Which stage, from 0.")] = 0,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only items in this state (failed, queued, …); repeat it.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Items to show.")] = 100,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The items of a run and what became of them. With --json one object a line.

    Example: penstock runs items 3 --state failed
    """

    async def work() -> None:
        from penstock.client.views import item_state, item_view

        shown = []
        async with connected(data) as client:
            found = await client.runs.get(reference(run))
            left = limit
            async for item in client.runs.items(found.run_id, stage=stage, states=state or []):
                if as_json:
                    print(json.dumps(item_view(item), ensure_ascii=False))
                else:
                    result = item.result.decode(errors="replace")
                    shown.append(
                        (item.seq, item.key, item.group, item_state(item.state), item.tries, item.error or result)
                    )
                left -= 1
                if not left:
                    break
        if not as_json:
            show.print_table(("seq", "key", "group", "state", "tries", "result or error"), shown)

    carry_out(work())


@app.command()
def events(
    run: RunArgument,
    after: Annotated[int, typer.Option("--after", min=0, help="Only events after this number.")] = 0,
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; repeat it.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Events to show.")] = 200,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """What happened in a run, oldest first: who, what, why. With --json one object a line.

    Example: penstock runs events 3 --after 100
    """
    from penstock.runtime.errors import InvalidInput

    if unknown := next((one for one in type_ or [] if one not in EVENT_TYPES), None):
        raise InvalidInput(f"no event type {unknown!r}: one of {', '.join(EVENT_TYPES)}", code="bad_type")

    async def work() -> None:
        from penstock.client.views import event_view

        rows = []
        async with connected(data) as client:
            found = await client.runs.get(reference(run))
            left = limit
            async for event in client.runs.events(found.run_id, after=after, types=type_ or []):
                view = event_view(event)
                if as_json:
                    print(json.dumps(view, ensure_ascii=False))
                else:
                    change = f"{view['old_state'] or '·'} → {view['new_state']}" if view["new_state"] else ""
                    rows.append(
                        (
                            view["number"],
                            view["time"],
                            view["type"],
                            view["subject"],
                            change,
                            view["actor"],
                            view["reason"],
                        )
                    )
                left -= 1
                if not left:
                    break
        if not as_json:
            show.print_table(("number", "time", "type", "subject", "change", "actor", "reason"), rows)

    carry_out(work())


def _command(what: str, run: str, reason: str, data: Path | None, *, as_json: bool, force: bool = False) -> None:
    async def work() -> None:
        from penstock.client.views import run_view

        async with connected(data) as client:
            found = await client.runs.get(reference(run))
            if what == "pause":
                answer = await client.runs.pause(found.run_id, reason=reason)
            elif what == "resume":
                answer = await client.runs.resume(found.run_id, reason=reason)
            else:
                answer = await client.runs.stop(found.run_id, force=force, reason=reason)
        if as_json:
            show.print_json({"run": run_view(answer.run), "changed": answer.changed})
        else:
            still = "" if answer.run.quiesced or what == "resume" else ", what is running finishes first"
            show.say(f"run {answer.run.number} is {_state(answer.run)}{still if answer.changed else ' already'}")

    carry_out(work())


async def _follow(client: AsyncClient, run: scheduler_pb2.Run, *, as_json: bool) -> int:
    import asyncio

    from penstock.cli.outcome import exit_code
    from penstock.client.views import event_view, run_view
    from penstock.v1 import planner_pb2

    last = run
    try:
        with show.Progress(quiet=as_json) as progress:
            async for answer in client.runs.watch(run.run_id, from_now=True):
                last = answer.run
                if as_json:
                    line = {"run": run_view(last), "events": [event_view(event) for event in answer.events]}
                    print(json.dumps(line, ensure_ascii=False), flush=True)
                counts = _given(last)
                what = "document" if last.kind == planner_pb2.SOURCE_KIND_DOCUMENTS else "item"
                words = f"{_state(last)}: {counts.completed + counts.failed} of {show.counted(counts.total, what)}"
                progress.show(_share(last), words + (f", {counts.failed} failed" if counts.failed else ""))
    except asyncio.CancelledError:
        print(
            f"\ndetached: run {run.number} goes on. Watch it again: penstock runs watch {run.number}; "
            f"stop it: penstock runs stop {run.number}",
            file=sys.stderr,
        )
        return INTERRUPTED
    if not as_json:
        _print_run(last)
    return exit_code(last)


def _given(run: scheduler_pb2.Run) -> scheduler_pb2.ItemCounts:
    """Counts of what the user gave: the first stage. Later stages have items of their own, as the one collection."""
    return run.stages[0].counts if run.stages else run.counts


def _share(run: scheduler_pb2.Run) -> float:
    """How much was executed, from 0 to 1; of documents as their job tells it."""
    from penstock.client.jobs import job_status
    from penstock.v1 import planner_pb2

    if run.kind == planner_pb2.SOURCE_KIND_DOCUMENTS:
        return job_status(run)["progress"] / 100
    counts = _given(run)
    return (counts.completed + counts.failed) / counts.total if counts.total else 0.0


def _state(run: scheduler_pb2.Run) -> str:
    from penstock.client.views import run_state

    return run_state(run.state)


def _print_run(run: scheduler_pb2.Run) -> None:
    from penstock.client.views import run_view

    view = run_view(run)
    name = f" {show.text(run.name)}" if run.name else ""
    show.say(f"Run {run.number}{name}: {view['state']}" + (f" ({show.text(run.error)})" if run.error else ""))
    for label, key in (("id", "run_id"), ("plan", "plan_id"), ("created", "create_time"), ("ended", "end_time")):
        if view[key]:  # type: ignore[literal-required]
            show.say(f"  {label:<8} {view[key]}")  # type: ignore[literal-required]
    show.say()
    # Seldom anything but 0: shown where they are needed to make the numbers add up.
    rare = [name for name in ("stopped", "skipped") if any(stage["counts"][name] for stage in view["stages"])]
    show.print_table(
        ("stage", "processor", "state", "items", "completed", "failed", "running", "waiting", *rare, "error"),
        [
            (
                stage["stage"],
                f"{stage['processor']} {stage['processor_version']}",
                stage["state"],
                stage["counts"]["total"],
                stage["counts"]["completed"],
                stage["counts"]["failed"],
                stage["counts"]["running"],
                stage["counts"]["queued"] + stage["counts"]["retry"],
                *(stage["counts"][name] for name in rare),  # type: ignore[literal-required]
                stage["error"],
            )
            for stage in view["stages"]
        ],
    )
