"""`penstock items`: what became of each item, why one waits, and what to do with one or with many."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import show
from penstock.cli.options import (
    DataOption,
    FilterOption,
    JsonOption,
    ReasonOption,
    RunArgument,
    StageNumberOption,
    carry_out,
    connected,
    run_of,
    seqs_of,
)
from penstock.cli.run_text import print_explanation
from penstock.words import counted

if TYPE_CHECKING:
    from penstock.v1 import scheduler_pb2

__all__ = ["app", "list_"]

app = typer.Typer(no_args_is_help=True, help="Look at items of a run, ask why one waits, act on one or on many.")

_BEGUN = {"running", "completed", "failed"}
"""States of items that were leased."""

SeqArgument = Annotated[int, typer.Argument(metavar="ITEM", min=0, help="The item's number.", show_default=False)]
SeqsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="ITEM", help="Numbers and ranges of items, as 4 7-9.", show_default=False),
]
PreviewOption = Annotated[bool, typer.Option("--preview", help="Say how many it would be, and change nothing.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all of them are done.")]


@app.command("list")
def list_(
    run: RunArgument,
    stage: StageNumberOption = 0,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only items in this state (failed, queued, …); repeat it.")
    ] = None,
    filter: FilterOption = "",  # noqa: A002
    limit: Annotated[int, typer.Option("--limit", min=1, help="Items to show.")] = 100,
    payload: Annotated[bool, typer.Option("--payload", help="With --json: each with its payload.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The items of a run and what became of them. With --json one object a line.

    A --filter looks at items that were leased, or moved by somebody, at least once; --state at all.

    Examples:

      penstock items list 3 --state failed

      penstock items list 3 --filter 'state = failed AND group = "Razer"'

      penstock items list 3 --state failed --json --payload
    """

    async def work() -> None:
        from penstock.client.views import item_state, item_view
        from penstock.words import dollars

        found = []
        shown, more = 0, False
        async with connected(data) as client:
            of = await run_of(client, run)
            items = client.items.each(
                of.run_id, stage=stage, states=state or [], filter=filter, with_payload=payload and as_json
            )
            async for item in items:
                if shown == limit:
                    more = True
                    break
                shown += 1
                if as_json:
                    print(json.dumps(item_view(item, with_payload=payload), ensure_ascii=False))
                else:
                    found.append(item)
        counts = of.stages[stage].counts
        gone = of.plan_removed
        if as_json:
            if more:
                print(_more(counts, shown, state or [], filter, plan_removed=gone), file=sys.stderr)
            return
        paid = any(item.cost_micros for item in found)
        show.print_table(
            (*("item", "key", "group", "state", "tries"), *(("cost",) if paid else ()), "result or error"),
            [
                (
                    item.seq,
                    item.key,
                    item.group,
                    item_state(item.state) + (", healed" if item.healed else ""),
                    item.tries,
                    *((dollars(item.cost_micros),) if paid else ()),
                    item.error or item.result.decode(errors="replace"),
                )
                for item in found
            ],
        )
        if more:
            show.say(_more(counts, shown, state or [], filter, plan_removed=gone))
        elif gone and not state and not filter and shown < counts.total:
            show.say(f"{counted(counts.total - shown, 'item')} never began, and went with the run's plan")
        if filter and counts.queued and (not found or "queued" in filter):
            show.say("A --filter leaves out what was never leased: --state queued lists that, too.")

    carry_out(work())


def _more(
    counts: scheduler_pb2.ItemCounts, shown: int, states: list[str], words: str, *, plan_removed: bool = False
) -> str:
    """What is said where there are more items than were shown. How many, nobody has counted of a filter; nor of what
    may never have begun, where it went with the run's plan and is not listed."""
    unknown = bool(words) or (plan_removed and not (states and set(states) <= _BEGUN))
    total = 0 if unknown else sum(getattr(counts, one) for one in states) if states else counts.total
    return "… and " + (f"{total - shown:,} " if total > shown else "") + "more: --limit N shows more"


@app.command("show")
def show_(
    run: RunArgument,
    item: SeqArgument,
    stage: StageNumberOption = 0,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """One item with its payload, result, tries and cost.

    Example: penstock items show 3 17
    """

    async def work() -> None:
        from penstock.client.views import item_view
        from penstock.words import dollars

        async with connected(data) as client:
            run_id = (await run_of(client, run)).run_id
            view = item_view(await client.items.get(run_id, item, stage=stage))
        if as_json:
            show.print_json(view)
            return
        show.say(
            f"Item {stage}/{item} {show.text(view['key'])}: {view['state']}" + (", healed" if view["healed"] else "")
        )
        facts = {
            "group": view["group"],
            "limits": view["lane"],
            "tries": f"{view['tries']} of {counted(view['attempt'], 'attempt')}" if view["attempt"] else None,
            "heals": view["heals"] or None,
            "worker": view["worker"],
            "began": view["start_time"],
            "ended": view["end_time"],
            "due": view["due_time"],
            "cost": dollars(view["cost_micros"]) if view["cost_micros"] else None,
            "reserved": dollars(view["reserved_micros"]) if view["reserved_micros"] else None,
            "error": f"{view['error_kind']}: {view['error']}" if view["error"] else None,
            "fingerprint": view["fingerprint"],
            "payload": _json(view["payload"]),
            "result": _json(view["result"]),
            "blob": view["result_blob"],
        }
        show.print_facts(facts.items())

    carry_out(work())


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


@app.command()
def explain(
    run: RunArgument,
    item: SeqArgument,
    stage: StageNumberOption = 0,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why an item is not running, what would change that, since when, and what comes before it.

    Example: penstock items explain 3 17
    """

    async def work() -> None:
        from penstock.client.operator_views import explanation_view

        async with connected(data) as client:
            run_id = (await run_of(client, run)).run_id
            view = explanation_view(await client.items.explain(run_id, item, stage=stage))
        if as_json:
            show.print_json(view)
        else:
            print_explanation(f"Item {stage}/{item}", view)

    carry_out(work())


def _acting(verb: str, text: str) -> Callable[..., None]:
    def act(
        run: RunArgument,
        item: SeqsArgument = None,
        filter: FilterOption = "",  # noqa: A002
        stage: StageNumberOption = 0,
        preview: PreviewOption = False,
        wait: WaitOption = True,
        reason: ReasonOption = "",
        data: DataOption = None,
        as_json: JsonOption = False,
    ) -> None:
        _act(
            verb, run, item or [], filter, stage, preview=preview, wait=wait, reason=reason, data=data, as_json=as_json
        )

    act.__doc__ = text
    return act


_ACTIONS = {
    "retry": """Try failed items again, with fresh tries; also of a run that has ended.

    Those that ended `unknown` (a paid call or a push that must not be repeated blindly) only where you name them, by
    number or by a filter that says so.

    Examples:

      penstock items retry 3 --filter 'fingerprint = "3f2a99c01b7d"' --preview

      penstock items retry 3 17 --reason "looked at it: it was not sent"
    """,
    "skip": """Leave out items that have not run: they end skipped.

    Example: penstock items skip 3 --filter 'group = "Razer"'
    """,
    "release": """Let items go now that wait for a back-off or for something outside.

    Example: penstock items release 3 --filter 'state = deferred'
    """,
    "rerun": """Run items again whatever became of them, completed ones too. This pays again.

    Example: penstock items rerun 3 4 7-9
    """,
    "front": """Move items that have not run ahead of all others of their stage.

    Example: penstock items front 3 1200-1220
    """,
    "accept": """Settle items that ended `unknown` as completed: you have seen that it was done.

    Example: penstock items accept 3 17 --reason "the mail is in their inbox"
    """,
}
for _verb, _text in _ACTIONS.items():
    app.command(_verb)(_acting(_verb, _text))


def _act(
    verb: str,
    run: str,
    items: list[str],
    words: str,
    stage: int,
    *,
    preview: bool,
    wait: bool,
    reason: str,
    data: Path | None,
    as_json: bool,
) -> None:
    async def work() -> int:
        from penstock.client.operator_views import action_view
        from penstock.runtime.errors import InvalidInput

        seqs = seqs_of(items)
        if bool(seqs) == bool(words):
            raise InvalidInput("name items, or a --filter" + (", not both" if seqs else ""), code="no_items")
        async with connected(data) as client:
            found = await run_of(client, run)
            action = await client.items.act(
                found.run_id, verb, stage=stage, seqs=seqs, filter=words, preview=preview, reason=reason
            )
            if wait:
                with show.Progress(quiet=as_json) as progress:
                    action = await client.items.finished(action, on_change=lambda one: _moved(progress, verb, one))
        if as_json:
            show.print_json(action_view(action))
        else:
            _print_action(verb, action, preview=preview)
        return 1 if action.done and action.refused and not (preview or action.changed or action.already) else 0

    carry_out(work())


def _moved(progress: show.Progress, verb: str, action: scheduler_pb2.ItemAction) -> None:
    progress.show(1.0 if action.done else 0.5, f"{verb}: {action.changed:,} of {action.matched:,} so far")


def _print_action(verb: str, action: scheduler_pb2.ItemAction, *, preview: bool) -> None:
    would = " would be" if preview else ""
    parts = [f"{action.changed:,} of {counted(action.matched, 'item')}{would} changed"]
    if action.already:
        parts.append(f"{action.already:,} so already")
    if action.refused:
        parts.append(f"{action.refused:,} refused" + (f" ({show.text(action.example)})" if action.example else ""))
    if preview:
        rest = "; nothing was changed" + ("" if action.done else ", and there are more than were counted")
    else:
        rest = "" if action.done else f"; going on as action {action.action_id}"
    show.say(f"{verb}: " + ", ".join(parts) + rest)
