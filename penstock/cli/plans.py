"""`penstock plans`: choose rows, put them in order, see exactly what will run, and start that."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from penstock.cli import show
from penstock.cli.estimate_text import print_estimates
from penstock.cli.options import (
    DataOption,
    JsonOption,
    PlanArgument,
    ReasonOption,
    YesOption,
    carry_out,
    confirmed,
    connected,
)
from penstock.cli.plan_files import copy, export, import_
from penstock.cli.plan_making import create
from penstock.cli.plan_text import own_order_of, print_comparison, print_plan, source_text, warning_text
from penstock.cli.profiles import profiles
from penstock.cli.rows import (
    ColumnsOption,
    GroupsOption,
    OrderByOption,
    ResultOfOption,
    RowsFilterOption,
    SearchOption,
    ShownOption,
    SkipOption,
    print_page,
    print_whole,
    question,
)
from penstock.cli.selecting import BudgetOption
from penstock.cli.starting import follow
from penstock.words import counted

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Choose rows, put them in order, see what will run, start exactly that.")


app.command()(create)
app.command()(profiles)
app.command()(copy)
app.command()(export)
app.command("import")(import_)


@app.command("show")
def show_(plan: PlanArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """One plan: what was selected and why the rest was left out, counts per group, settings, warnings.

    Example: penstock plans show "two brands"
    """

    async def work() -> None:
        from penstock.client.plan_views import plan_view

        async with connected(data) as client:
            view = plan_view(await client.plans.get(plan))
            own = () if as_json else await own_order_of(client, view)
        if as_json:
            show.print_json(view)
        else:
            print_plan(view, own_order=own)

    carry_out(work())


@app.command()
def order(
    plan: PlanArgument,
    filter: RowsFilterOption = "",  # noqa: A002
    search: SearchOption = "",
    order_by: OrderByOption = "",
    skip: SkipOption = 0,
    limit: ShownOption = 20,
    columns: ColumnsOption = "",
    groups: GroupsOption = False,
    result_of: ResultOfOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The order in which a plan's items will start: place, key, group, and why each is there.

    Of documents, items and task files, which are taken whole, it takes --skip and --limit.

    Examples:

      penstock plans order "two brands" --skip 100 --limit 50

      penstock plans order "two brands" --search viper --columns model,price

      penstock plans order "two brands" --result-of scan --filter 'result.state is null'
    """
    asked = question(
        filter=filter, search=search, order_by=order_by, skip=skip, limit=limit, groups=groups, result_of=result_of
    )

    async def work() -> None:
        from penstock.client.source_views import row_page_view, source_view

        async with connected(data) as client:
            found = await client.plans.get(plan)
            if not found.HasField("ordering"):
                await print_whole(client, found, asked, columns=columns, as_json=as_json)
                return
            page = row_page_view(await client.plans.rows(found.plan_id, **asked))
            if as_json:
                show.print_json(page)
                return
            view = source_view(await client.sources.get(found.source_id))
        print_page(page, view, columns=columns, skip=skip, groups=groups, plan=True)

    carry_out(work())


@app.command()
def diff(
    plan: PlanArgument,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The other one.", show_default=False)],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """What another plan has that this one has not: items added, removed, moved and changed, and settings.

    Example: penstock plans diff "two brands" "three brands"
    """

    async def work() -> None:
        from penstock.client.plan_views import plan_comparison_view

        async with connected(data) as client:
            view = plan_comparison_view(await client.plans.compare(plan, other))
        if as_json:
            show.print_json(view)
        else:
            print_comparison(view, one=plan, other=other)

    carry_out(work())


@app.command("list")
def list_(
    search: Annotated[str, typer.Option("--search", help="Part of a name.")] = "",
    source: Annotated[str, typer.Option("--source", help="Only of this source, by its name or an id.")] = "",
    processor: Annotated[str, typer.Option("--processor", help="Only those that name this processor.")] = "",
    actor: Annotated[str, typer.Option("--by", metavar="WHO", help="Only those that they made.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Plans to show.")] = 20,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Kept plans, the latest first.

    Example: penstock plans list --source mice
    """

    async def work() -> None:
        from penstock.client.plan_views import plan_view

        async with connected(data) as client:
            found = await client.plans.list(search=search, source=source, processor=processor, actor=actor, limit=limit)
            views = [plan_view(one) for one in found]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("name", "items", "processor", "source", "created", "by", "id"),
            [
                (
                    view["name"],
                    view["item_count"],
                    ", ".join(stage["processor"] for stage in view["stages"]),
                    source_text(view).partition(" (")[0] + (" (moved on)" if view["source_moved"] else ""),
                    view["create_time"],
                    view["actor"],
                    view["plan_id"],
                )
                for view in views
            ],
        )

    carry_out(work())


@app.command()
def estimates(
    plan: Annotated[str, typer.Option("--plan", help="Only of runs of this plan.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Runs to show.")] = 20,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """How good estimates were: what was told when runs were started, beside what happened, the latest first.

    Only runs that completed are compared; time in which one was paused, or waited for somebody, does not count.

    Example: penstock plans estimates --limit 50
    """

    async def work() -> None:
        from penstock.client.estimate_views import estimate_page_view

        async with connected(data) as client:
            view = estimate_page_view(await client.plans.estimates(plan_id=plan, page_size=limit))
        if as_json:
            show.print_json(view)
        else:
            print_estimates(view)

    carry_out(work())


@app.command()
def start(
    plan: PlanArgument,
    yes: YesOption = False,
    budget: BudgetOption = "",
    owner: Annotated[str, typer.Option("--owner", help="Whom its slots are counted for (default: you).")] = "",
    priority: Annotated[int, typer.Option("--priority", help="Higher goes first among the owner's runs.")] = 0,
    exclusive: Annotated[
        list[str] | None,
        typer.Option("--exclusive", metavar="KEY", help="One live run holds it, as project:x; repeat it."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="A name of the run (default: the plan's).")] = "",
    reason: ReasonOption = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch it to its end.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run of a plan, of exactly what it lists. One that warns of its size or its price asks first.

    Exit code with --wait: 0 completed, 1 failed or stopped, 3 completed with failures; 1 when you say no.

    Example: penstock plans start "two brands" --yes --wait
    """

    async def work() -> int:
        from penstock.client.money import micros
        from penstock.client.views import run_view
        from penstock.runtime.errors import Conflict

        cap = micros(budget) if budget else None
        async with connected(data) as client:
            found = await client.plans.get(plan, budget_micros=cap)
            warnings = [warning_text(one.message, confirmed=yes) for one in found.warnings]
            _warn(warnings, moved=found.source_moved)
            start = partial(
                client.runs.start,
                found.plan_id,
                name=name or found.name,
                owner=owner,
                priority=priority,
                budget_micros=cap,
                exclusive_keys=exclusive or [],
                reason=reason,
            )
            try:
                run = await start(confirm=yes)
            except Conflict as error:  # what can't start says so before anybody is asked
                if error.code != "confirm_required":
                    raise
                if not confirmed(f"Start {counted(found.item_count, 'item')}?", yes=yes):
                    show.say("nothing was started")
                    return 1
                run = await start(confirm=True)
            if wait:
                return await follow(client, run, as_json=as_json)
        if as_json:
            show.print_json(run_view(run))
        else:
            show.say(f"run {run.number} started: {counted(run.counts.total, 'item')} ({run.run_id})")
            show.say(f"watch it: penstock runs watch {run.number}")
        return 0

    carry_out(work())


def _warn(warnings: list[str], *, moved: bool) -> None:
    """On standard error: what is printed as JSON stays JSON."""
    for warning in warnings:
        typer.echo(f"warning: {show.text(warning)}", err=True)
    if moved:
        typer.echo("warning: its source has moved on since; this runs what the plan lists", err=True)


@app.command()
def rename(
    plan: PlanArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.", show_default=False)],
    etag: Annotated[
        str, typer.Option("--etag", help="Only if it is still as --json showed it (default: as it is now).")
    ] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a plan another name; refused when somebody else named it meanwhile.

    Example: penstock plans rename "two brands" "Razer and Acer"
    """

    async def work() -> None:
        from penstock.client.plan_views import plan_view

        async with connected(data) as client:
            found = await client.plans.get(plan)
            view = plan_view(await client.plans.rename(found.plan_id, name, etag=etag or found.etag))
        if as_json:
            show.print_json(view)
        else:
            show.say(f"{view['plan_id']} is called {show.text(view['name'])}")

    carry_out(work())


@app.command()
def remove(
    plan: PlanArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Also where ended runs have items left: they can't be run or cloned then.")
    ] = False,
    yes: YesOption = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a plan, or a preview, after a question; its source can be removed once no plan is of it.

    Refused while a run needs it: one that has not ended, or (without --force) one that has items left. What runs of it
    recorded stays; they are only read from then on, without payloads.

    Exit code: 1 when you say no, or a run needs it.

    Example: penstock plans remove "two brands" --yes
    """

    async def work() -> int:
        from penstock.client.plan_views import removed_plan_view

        async with connected(data) as client:
            found = await client.plans.get(plan)
            seen = await client.plans.remove(found.plan_id, etag=found.etag, force=force, validate_only=True)
            runs = f"; its {counted(seen.run_count, 'run')} can only be read then" if seen.run_count else ""
            called = f"plan {show.text(found.name)}" if found.name else found.plan_id
            if not confirmed(f"Remove {called} of {counted(found.item_count, 'item')}{runs}?", yes=yes):
                show.say("nothing was removed")
                return 1
            view = removed_plan_view(await client.plans.remove(found.plan_id, etag=found.etag, force=force))
        if as_json:
            show.print_json(view)
        else:
            show.say(f"{called} is removed ({view['plan_id']})" if found.name else f"{called} is removed")
        return 0

    carry_out(work())
