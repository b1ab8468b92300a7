"""`penstock budgets`: what runs may cost, what they have cost, and what items of a processor cost."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, ReasonOption, RunArgument, carry_out, connected, run_of
from penstock.cli.run_text import print_commanded

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="What runs may cost and have cost; prices of processors.")

DollarsArgument = Annotated[
    str, typer.Argument(metavar="DOLLARS", help="As 5 or 0.25; `none` for no cap.", show_default=False)
]
ItemOption = Annotated[bool, typer.Option("--item", help="The cap of each item of the stage.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Runs to look at.")] = 100,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest runs that cost something or may only cost so much.

    Example: penstock budgets list
    """

    async def work() -> None:
        from penstock.client.views import money_view, run_state
        from penstock.words import dollars

        async with connected(data) as client:
            runs = await client.runs.list(limit=limit)
        rows = [(run, money_view(run.money)) for run in runs]
        rows = [(run, money) for run, money in rows if money["spent_micros"] or money["budget_micros"] is not None]
        if as_json:
            show.print_json([{"run_id": run.run_id, "number": run.number, **money} for run, money in rows])
            return
        show.print_table(
            ("run", "state", "cap", "spent", "reserved", "left", "overrun", "unknown", "name"),
            [
                (
                    run.number,
                    run_state(run.state) + (f" ({run.waiting})" if run.waiting else ""),
                    *(
                        None if money[name] is None else dollars(money[name] or 0)  # type: ignore[literal-required]
                        for name in _COLUMNS
                    ),
                    run.name,
                )
                for run, money in rows
            ],
        )

    carry_out(work())


_COLUMNS = ("budget_micros", "spent_micros", "reserved_micros", "left_micros", "overrun_micros", "unknown_micros")


@app.command("show")
def show_(run: RunArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """The money of a run and of each of its stages.

    Example: penstock budgets show 3
    """

    async def work() -> None:
        from penstock.client.views import run_view
        from penstock.words import dollars

        async with connected(data) as client:
            view = run_view(await run_of(client, run))
        told = [("run", view["money"], None)]
        for stage in view["stages"]:
            told.append((f"stage {stage['stage']}", stage["money"], stage["rules"].get("item_budget_micros")))
        if as_json:
            show.print_json(
                {"run": view["money"], "stages": [{"item_budget_micros": item, **money} for _, money, item in told[1:]]}
            )
            return
        show.print_table(
            ("of", "cap", "spent", "reserved", "left", "overrun", "unknown", "cap of an item"),
            [
                (
                    what,
                    *(
                        None if money[name] is None else dollars(money[name] or 0)  # type: ignore[literal-required]
                        for name in _COLUMNS
                    ),
                    None if item is None else dollars(item),
                )
                for what, money, item in told
            ],
        )

    carry_out(work())


@app.command("set")
def set_(
    run: RunArgument,
    amount: DollarsArgument,
    stage: Annotated[
        int | None, typer.Option("--stage", min=0, max=1000, help="The cap of this stage, from 0.")
    ] = None,
    item: ItemOption = False,
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set the cap of a run, of a stage or of its items; live at once. A run that waits for money goes on by itself.

    Examples:

      penstock budgets set 3 20 --reason "worth it"

      penstock budgets set 3 0.05 --stage 0 --item

      penstock budgets set 3 none
    """

    async def work() -> None:
        from penstock.client.money import NO_CAP, micros
        from penstock.client.runs import StageChange
        from penstock.runtime.errors import InvalidInput

        cap = NO_CAP if amount == "none" else micros(amount)
        stages = []
        async with connected(data) as client:
            found = await run_of(client, run)
            if item:
                if stage is None and len(found.stages) > 1:
                    raise InvalidInput(
                        f"run {run} has {len(found.stages)} stages: say which, by --stage", code="no_stage"
                    )
                stages = [StageChange(stage=stage or 0, item_budget_micros=cap)]
            elif stage is not None:
                stages = [StageChange(stage=stage, budget_micros=cap)]
            answer = await client.runs.update(
                found.run_id, budget_micros=None if stages else cap, stages=stages, reason=reason
            )
        print_commanded(answer, "updated", as_json=as_json)

    carry_out(work())


@app.command()
def ledger(
    run: RunArgument,
    after: Annotated[int, typer.Option("--after", min=0, help="Only entries after this number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Entries to show.")] = 1000,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Money of a run, entry by entry, in order; their sum is what it has spent. With --json one object a line.

    `unknown`: an attempt was lost, its reservation stands until its cost is reported; `corrected`: it was.

    Example: penstock budgets ledger 3
    """

    async def work() -> None:
        from penstock.client.operator_views import ledger_entry_view
        from penstock.words import dollars

        rows = []
        async with connected(data) as client:
            found = await run_of(client, run)
            left = limit
            async for entry in client.runs.ledger(found.run_id, after=after):
                view = ledger_entry_view(entry)
                if as_json:
                    print(json.dumps(view, ensure_ascii=False))
                else:
                    rows.append(
                        (
                            view["number"],
                            view["time"],
                            view["kind"],
                            f"{view['stage']}/{view['seq']}",
                            view["attempt"],
                            dollars(view["reserved_micros"]),
                            dollars(view["micros"]),
                        )
                    )
                left -= 1
                if not left:
                    break
        if not as_json:
            show.print_table(("number", "time", "kind", "item", "attempt", "reserved", "amount"), rows)

    carry_out(work())


@app.command()
def prices(data: DataOption = None, as_json: JsonOption = False) -> None:
    """What an item of each processor costs: as set, and as learned (what 95 of 100 items stay under).

    Example: penstock budgets prices
    """

    async def work() -> None:
        from penstock.client.limit_views import price_view
        from penstock.words import dollars

        async with connected(data) as client:
            views = [price_view(price) for price in await client.prices.list()]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("processor", "set", "learned", "from items"),
            [
                (
                    view["processor"],
                    None if view["micros"] is None else dollars(view["micros"]),
                    None if view["learned_micros"] is None else dollars(view["learned_micros"]),
                    view["samples"],
                )
                for view in views
            ],
        )

    carry_out(work())


@app.command()
def price(
    processor: Annotated[str, typer.Argument(metavar="PROCESSOR", show_default=False)],
    amount: Annotated[
        str, typer.Argument(metavar="DOLLARS", help="Of one item; `none` to forget it.", show_default=False)
    ],
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set what an item of a processor costs, until there is history.

    Under a budget no paid work starts whose price is not known.

    Example: penstock budgets price summarise 0.012
    """

    async def work() -> None:
        from penstock.client.limit_views import price_view
        from penstock.client.limits import FORGET
        from penstock.client.money import micros
        from penstock.words import dollars

        chosen = FORGET if amount == "none" else micros(amount)
        async with connected(data) as client:
            view = price_view(await client.prices.set(processor, chosen, reason=reason))
            known = [one.name for one in await client.processors.list()]
        if processor not in known:
            # A worker elsewhere may have it; more often it is a slip.
            typer.echo(f"note: the planner knows no processor {processor}; it knows {', '.join(known)}", err=True)
        if as_json:
            show.print_json(view)
        elif view["micros"] is None:
            show.say(f"{processor}: no price is set")
        else:
            show.say(f"{processor}: {dollars(view['micros'])} an item")

    carry_out(work())
