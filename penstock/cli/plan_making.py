"""`penstock plans create`: its options, and the plan that is made of them, after a sample where one is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import show
from penstock.cli.database_files import database_kind, tables_text
from penstock.cli.options import (
    DataOption,
    JsonOption,
    SourceArgument,
    YesOption,
    carry_out,
    connected,
)
from penstock.cli.plan_asked import PlanAsked, ordering_asked, selection_asked
from penstock.cli.plan_text import own_order_of, print_plan, show_made
from penstock.cli.profiles import ProfileOption
from penstock.cli.rows import RowsFilterOption
from penstock.cli.sampling import SampleOption, run_sample, say_nothing_left
from penstock.cli.selecting import (
    ConcurrencyOption,
    LimitOption,
    MaxRunSecondsOption,
    MaxTriesOption,
    NameOption,
    OrgOption,
    ParametersOption,
    ParamOption,
    RepoOption,
    RulesOption,
    refuse_empty,
    stage_of,
)

if TYPE_CHECKING:
    from penstock.runtime.errors import NotFound

__all__ = ["create"]


def create(
    context: typer.Context,
    source: SourceArgument,
    processor: Annotated[
        str, typer.Option("--processor", help="Who does the work: see `penstock processors list`.")
    ] = "",
    filter: RowsFilterOption = "",  # noqa: A002
    ids: Annotated[str, typer.Option("--ids", metavar="FILE|-", help="These keys, one a line; - reads them.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="All rows (the default).")] = False,
    missing: Annotated[
        str, typer.Option("--missing", metavar="P", help="Rows without a completed result of this processor.")
    ] = "",
    reprocess: Annotated[
        str, typer.Option("--reprocess", metavar="P", help="Rows whose result of it is below --threshold.")
    ] = "",
    threshold: Annotated[
        float | None, typer.Option("--threshold", metavar="X", help="Of --reprocess: as 0.7.", show_default=False)
    ] = None,
    failed_of: Annotated[str, typer.Option("--failed-of", metavar="RUN", help="Rows that failed in this run.")] = "",
    changed_since: Annotated[
        str, typer.Option("--changed-since", metavar="PLAN", help="Rows that are new or other than in this plan.")
    ] = "",
    sql: Annotated[
        str, typer.Option("--sql", metavar="TEXT|@FILE", help="One SELECT of keys over `items` and `results`.")
    ] = "",
    selection_json: Annotated[
        str,
        typer.Option("--selection", metavar="JSON|@FILE", help="All of it in one, as --json and HTTP tell it."),
    ] = "",
    exclude_filter: Annotated[
        str, typer.Option("--exclude-filter", metavar="WORDS", help="Without rows that this takes.")
    ] = "",
    exclude_ids: Annotated[
        str, typer.Option("--exclude-ids", metavar="FILE|-", help="Without these keys, one a line.")
    ] = "",
    org: OrgOption = "",
    repo: RepoOption = "",
    state: Annotated[str, typer.Option("--state", help="Only rows in this state.")] = "",
    limit: LimitOption = 0,
    again: Annotated[bool, typer.Option("--again", help="Also what was done already.")] = False,
    pin: Annotated[
        list[str] | None, typer.Option("--pin", metavar="GROUP", help="This group first; repeat it.")
    ] = None,
    group_order: Annotated[
        str, typer.Option("--group-order", metavar="GROUP[,GROUP]", help="Then these groups; others follow by name.")
    ] = "",
    sort: Annotated[
        str, typer.Option("--sort", metavar="COL[ desc][,…]", help="Within a group (default: the source's order).")
    ] = "",
    as_selected: Annotated[bool, typer.Option("--as-selected", help="In the order of --ids or --sql.")] = False,
    param: ParamOption = None,
    parameters: ParametersOption = "",
    concurrency: ConcurrencyOption = 0,
    max_tries: MaxTriesOption = 0,
    max_run_seconds: MaxRunSecondsOption = 0,
    rules: RulesOption = "",
    profile: ProfileOption = "",
    granularity: Annotated[str, typer.Option("--granularity", help="Of documents: sentence or paragraph.")] = "",
    name: NameOption = "",
    draft: Annotated[bool, typer.Option("--draft", help="Only look: kept for a day unless it is started.")] = False,
    sample: SampleOption = 0,
    yes: YesOption = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a plan: which rows, in what order, by whom. The same inputs are the same plan. Starts nothing but a sample.

    --sample N asks (--yes does not), runs N of its items, and makes the plan of what is left: what is done is left out.
    Exit code 1 when you say no, or the whole sample fails.

    Documents, items and task files are taken whole, so that selections and orders are for catalogs and tables.

    Examples:

      penstock plans create mice --processor noop --filter 'brand in (Razer, Acer)' --pin Razer --name "two brands"

      penstock plans create mice --processor noop --missing noop --sort "price desc,model" --limit 50 --draft

      penstock plans create mice --processor noop --sql "SELECT key FROM items ORDER BY price" --as-selected

      penstock plans create mice --processor noop --selection '{"failed_of_run": "3", "limit": 50}'

      penstock plans create mice --processor noop --profile thorough --sample 20
    """
    refuse_empty(context)
    stage = stage_of(
        processor,
        param=param,
        parameters=parameters,
        concurrency=concurrency,
        max_tries=max_tries,
        max_run_seconds=max_run_seconds,
        rules=rules,
    )
    asked = PlanAsked(
        source=source,
        stage=stage if processor else None,
        selection=selection_asked(
            filter=filter,
            ids=ids,
            everything=all_,
            missing=missing,
            reprocess=reprocess,
            threshold=threshold,
            failed_of=failed_of,
            changed_since=changed_since,
            sql=sql,
            whole=selection_json,
            exclude_filter=exclude_filter,
            exclude_ids=exclude_ids,
            org=org,
            repo=repo,
            state=state,
            limit=limit,
            again=again,
        ),
        ordering=ordering_asked(pin=pin, group_order=group_order, sort=sort, as_selected=as_selected),
        profile=profile,
        granularity=granularity,
        name=name,
    )
    carry_out(_made(asked, draft=draft, sample=sample, yes=yes, data=data, as_json=as_json))


async def _made(asked: PlanAsked, *, draft: bool, sample: int, yes: bool, data: Path | None, as_json: bool) -> int:
    from penstock.client.plan_views import plan_view
    from penstock.runtime.errors import InvalidInput, NotFound

    async with connected(data) as client:
        try:
            plan = await asked.made(client, only_look=draft or sample > 0)
        except NotFound as error:
            raise _no_source(error, asked.source) from None
        if sample:
            if not as_json:
                view = plan_view(plan)
                print_plan(view, own_order=await own_order_of(client, view))
                show.say()
            sampled = await run_sample(client, plan, sample, yes=yes, as_json=as_json)
            if sampled.exit_code:
                return sampled.exit_code
            try:
                plan = await asked.made(client, only_look=draft)
            except InvalidInput as error:
                if error.code != "selection_empty":
                    raise
                say_nothing_left(error.message, as_json=as_json)
                return 0
        await show_made(client, plan_view(plan), as_json=as_json)
    return 0


def _no_source(error: NotFound, typed: str) -> NotFound:
    """The same, with what to do where a file was typed: plans are of sources, and nothing is sent here."""
    if error.code != "source_not_found" or not Path(typed).exists():
        return error
    asked = " --table T" if database_kind(typed) else ""
    there = f" ({known})" if (known := tables_text(typed)) else ""
    error.message += f"; it is a file here: register it first, by penstock sources add NAME {typed}{asked}{there}"
    return error
