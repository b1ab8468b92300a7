"""`penstock runs start`, and following a run to its end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli import show
from penstock.cli.options import INTERRUPTED, DataOption, JsonOption, ReasonOption, carry_out, connected
from penstock.cli.run_text import counts_of, hint, money_text, print_run, share_of, state_of
from penstock.words import counted

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.v1 import scheduler_pb2

__all__ = ["follow", "parameters", "start"]


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


def rules_of(text: str) -> dict[str, Any]:
    """A JSON object, or the file that holds it. Raises InvalidInput."""
    from penstock.runtime.errors import InvalidInput

    where = "--rules"
    if text and not text.lstrip().startswith("{"):
        where, text = f"--rules {text}", Path(text).read_text()
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise InvalidInput(f"{where} is no JSON: {error}", code="bad_rules") from None
    if not isinstance(found, dict):
        raise InvalidInput(f'{where} must be a JSON object as {{"run_when": "all"}}', code="bad_rules")
    return found


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
    budget: Annotated[str, typer.Option("--budget", metavar="DOLLARS", help="Cap of the run.")] = "",
    item_budget: Annotated[str, typer.Option("--item-budget", metavar="DOLLARS", help="Cap of each item.")] = "",
    rules: Annotated[
        str,
        typer.Option(
            "--rules", metavar="JSON|FILE", help="Retries, heal, confirm, gate, tolerance: see docs/running.md."
        ),
    ] = "",
    owner: Annotated[str, typer.Option("--owner", help="Whom its slots are counted for (default: you).")] = "",
    priority: Annotated[int, typer.Option("--priority", help="Higher goes first among the owner's runs.")] = 0,
    exclusive: Annotated[
        list[str] | None,
        typer.Option("--exclusive", metavar="KEY", help="One live run holds it, as project:x; repeat it."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="A name for people.")] = "",
    reason: ReasonOption = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch it to its end.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run of plain items.

    Examples:

      penstock runs start --items items.jsonl --processor noop --wait

      penstock runs start --items pages.jsonl --processor word-frequency --param top=20 --concurrency 8

      penstock runs start --items pages.jsonl --processor summarise --budget 5.00 --item-budget 0.05

      penstock runs start --items pages.jsonl --processor noop --rules '{"gate": {"name": "go"}}'
    """

    async def work() -> int:
        from penstock.client.money import micros
        from penstock.client.resources import StageOptions
        from penstock.client.views import run_view

        told = rules_of(rules)
        if item_budget:
            told["item_budget_micros"] = micros(item_budget)
        stage = StageOptions(
            processor=processor,
            parameters=parameters(param or []),
            concurrency=concurrency,
            max_tries=max_tries,
            max_run_seconds=max_run_seconds,
            rules=told or None,
        )
        cap = micros(budget) if budget else None
        async with connected(data) as client:
            source = await client.sources.items(items)
            plan = await client.plans.create(source.source_id, stages=[stage], name=name)
            run = await client.runs.start(
                plan.plan_id,
                name=name,
                owner=owner,
                priority=priority,
                budget_micros=cap,
                exclusive_keys=exclusive or [],
                reason=reason,
            )
            if wait:
                return await follow(client, run, as_json=as_json)
        if as_json:
            show.print_json(run_view(run))
        else:
            items_given = counted(run.counts.total, "item")
            show.say(f"run {run.number} started: {items_given} for {processor} ({run.run_id})")
            show.say(f"watch it: penstock runs watch {run.number}")
        return 0

    carry_out(work())


async def follow(client: AsyncClient, run: scheduler_pb2.Run, *, as_json: bool) -> int:
    """Shows the run until it has ended; the exit code. An interrupt detaches and leaves it alone."""
    import asyncio

    from penstock.cli.outcome import exit_code
    from penstock.client.views import event_view, run_view

    last = run
    waited = ""
    try:
        with show.Progress(quiet=as_json) as progress:
            async for answer in client.runs.watch(run.run_id, from_now=True):
                last = answer.run
                if as_json:
                    line = {"run": run_view(last), "events": [event_view(event) for event in answer.events]}
                    print(json.dumps(line, ensure_ascii=False), flush=True)
                    continue
                progress.show(share_of(last), _words(last))
                if last.waiting and last.waiting != waited:
                    progress.note(f"run {run.number} waits ({show.text(last.waiting)}); {hint(last)}")
                waited = last.waiting
    except asyncio.CancelledError:
        print(
            f"\ndetached: run {run.number} goes on. Watch it again: penstock runs watch {run.number}; "
            f"stop it: penstock runs stop {run.number}",
            file=sys.stderr,
        )
        return INTERRUPTED
    if not as_json:
        print_run(last)
    return exit_code(last)


def _words(run: scheduler_pb2.Run) -> str:
    from penstock.client.views import money_view
    from penstock.v1 import planner_pb2

    counts = counts_of(run)
    what = "document" if run.kind == planner_pb2.SOURCE_KIND_DOCUMENTS else "item"
    words = f"{state_of(run)}: {counts.completed + counts.failed} of {counted(counts.total, what)}"
    if counts.failed:
        words += f", {counts.failed} failed"
    money = money_text(money_view(run.money))
    return words + (f", {money}" if money else "")
