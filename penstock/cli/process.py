"""`penstock process`: select rows by what runs recorded of them, or by SQL, and run a processor over these.

Each command makes the plan of its selection as a draft, shows what was selected, asks, and starts that very plan. With
nothing selected there is nothing to do, which is no failure. What was started so is known by its plan's selection.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import show
from penstock.cli.options import (
    DataOption,
    JsonOption,
    YesOption,
    carry_out,
    confirmed,
    connected,
)
from penstock.cli.plan_text import print_selected
from penstock.cli.process_runs import cancel, details, history
from penstock.cli.profiles import ProfileOption
from penstock.cli.sampling import SampleOption, run_sample, say_nothing_left
from penstock.cli.selecting import (
    BudgetOption,
    ConcurrencyOption,
    LimitOption,
    MaxRunSecondsOption,
    MaxTriesOption,
    OrgOption,
    ParametersOption,
    ParamOption,
    RepoOption,
    refuse_empty,
    sql_of,
    stage_of,
)
from penstock.cli.starting import follow

if TYPE_CHECKING:
    from penstock.client import AsyncClient, Selection, StageOptions
    from penstock.client.plan_views import PlanView
    from penstock.v1 import planner_pb2

__all__ = ["app"]

DECLINED = 1
MISSING_STATE = "open"

app = typer.Typer(
    no_args_is_help=True, help="Run a processor over what it has not done, did badly, or a query selects."
)

ProcessorArgument = Annotated[
    str, typer.Argument(metavar="PROCESSOR", help="As `penstock processors list` has it.", show_default=False)
]
SourceOption = Annotated[str, typer.Option("--source", help="Its rows (default: the only catalog or table).")]
StateOption = Annotated[
    str | None, typer.Option("--state", help="Only rows in this state; '' for any.", show_default=False)
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and start nothing.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Watch it to its end.")]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What all three commands take."""

    selection: Selection
    stage: StageOptions
    source: str
    state: str | None
    open_by_default: bool
    profile: str
    sample: int
    budget: str
    yes: bool
    dry_run: bool
    wait: bool
    data: Path | None
    as_json: bool


@app.command()
def missing(
    context: typer.Context,
    processor: ProcessorArgument,
    source: SourceOption = "",
    org: OrgOption = "",
    repo: RepoOption = "",
    state: Annotated[
        str | None,
        typer.Option("--state", help="Only rows in this state (default: open, where rows have one); '' for any."),
    ] = None,
    limit: LimitOption = 0,
    param: ParamOption = None,
    parameters: ParametersOption = "",
    concurrency: ConcurrencyOption = 0,
    max_tries: MaxTriesOption = 0,
    max_run_seconds: MaxRunSecondsOption = 0,
    profile: ProfileOption = "",
    sample: SampleOption = 0,
    budget: BudgetOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a processor over the rows of which it has no completed result.

    With --sample N it runs N of them first, and asks for the rest with what these told.
    Exit code: 0 completed, or nothing to do; 1 failed, stopped, or you said no; 3 completed with failures.

    Examples:

      penstock process missing noop --source issues --org acme --limit 100

      penstock process missing noop --source issues --dry-run
    """
    from penstock.client import Selection

    refuse_empty(context)
    _process(
        _Asked(
            selection=Selection(missing=processor, org=org, repo=repo, limit=limit),
            stage=_stage(processor, param, parameters, concurrency, max_tries, max_run_seconds),
            source=source,
            state=state,
            open_by_default=True,
            profile=profile,
            sample=sample,
            budget=budget,
            yes=yes,
            dry_run=dry_run,
            wait=wait,
            data=data,
            as_json=as_json,
        )
    )


@app.command()
def reprocess(
    context: typer.Context,
    processor: ProcessorArgument,
    threshold: Annotated[
        float, typer.Option("--threshold", metavar="X", help="A `confidence` below this, as 0.7.", show_default=False)
    ],
    source: SourceOption = "",
    org: OrgOption = "",
    repo: RepoOption = "",
    state: StateOption = None,
    limit: LimitOption = 0,
    param: ParamOption = None,
    parameters: ParametersOption = "",
    concurrency: ConcurrencyOption = 0,
    max_tries: MaxTriesOption = 0,
    max_run_seconds: MaxRunSecondsOption = 0,
    profile: ProfileOption = "",
    sample: SampleOption = 0,
    budget: BudgetOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a processor again over rows of which its result has a `confidence` below a threshold.

    A result without that number is below no threshold; how many these are is told. Exit codes as of `missing`.

    Example: penstock process reprocess noop --threshold 0.7 --source issues --yes
    """
    from penstock.client import Selection

    refuse_empty(context)
    _process(
        _Asked(
            selection=Selection(reprocess=processor, threshold=threshold, org=org, repo=repo, limit=limit),
            stage=_stage(processor, param, parameters, concurrency, max_tries, max_run_seconds),
            source=source,
            state=state,
            open_by_default=False,
            profile=profile,
            sample=sample,
            budget=budget,
            yes=yes,
            dry_run=dry_run,
            wait=wait,
            data=data,
            as_json=as_json,
        )
    )


@app.command()
def custom(
    context: typer.Context,
    processor: ProcessorArgument,
    sql: Annotated[
        str, typer.Argument(metavar="SQL|@FILE", help="One SELECT that returns the key column.", show_default=False)
    ],
    source: SourceOption = "",
    org: OrgOption = "",
    repo: RepoOption = "",
    state: StateOption = None,
    limit: LimitOption = 0,
    as_selected: Annotated[bool, typer.Option("--as-selected", help="In the order of the SELECT.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was done already.")] = False,
    param: ParamOption = None,
    parameters: ParametersOption = "",
    concurrency: ConcurrencyOption = 0,
    max_tries: MaxTriesOption = 0,
    max_run_seconds: MaxRunSecondsOption = 0,
    profile: ProfileOption = "",
    sample: SampleOption = 0,
    budget: BudgetOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a processor over the rows whose keys one SELECT returns: over `items` and `results`, in a sandbox.

    Exit codes as of `missing`.

    Example: penstock process custom noop "SELECT key FROM items WHERE title LIKE '%crash%'" --source issues --dry-run
    """
    from penstock.client import Selection

    refuse_empty(context)
    _process(
        _Asked(
            selection=Selection(sql=sql_of(sql), org=org, repo=repo, limit=limit, again=again),
            stage=_stage(processor, param, parameters, concurrency, max_tries, max_run_seconds),
            source=source,
            state=state,
            open_by_default=False,
            profile=profile,
            sample=sample,
            budget=budget,
            yes=yes,
            dry_run=dry_run,
            wait=wait,
            data=data,
            as_json=as_json,
        ),
        as_selected=as_selected,
    )


def _stage(
    processor: str,
    param: list[str] | None,
    parameters: str,
    concurrency: int,
    max_tries: int,
    max_run_seconds: int,
) -> StageOptions:
    return stage_of(
        processor,
        param=param,
        parameters=parameters,
        concurrency=concurrency,
        max_tries=max_tries,
        max_run_seconds=max_run_seconds,
    )


def _process(asked: _Asked, *, as_selected: bool = False) -> None:
    async def work() -> int:
        from penstock.client import Ordering
        from penstock.client.money import micros
        from penstock.client.plan_views import plan_view
        from penstock.client.views import run_view
        from penstock.runtime.errors import InvalidInput

        cap = micros(asked.budget) if asked.budget else None
        async with connected(asked.data) as client:
            source = await _source(client, asked.source)
            state = asked.state if asked.state is not None else _usual_state(source, asked)

            async def previewed() -> planner_pb2.Plan | str:
                """Shown already; or why there is nothing to do."""
                try:
                    plan = await client.plans.create(
                        source.name or source.source_id,
                        stages=[asked.stage],
                        selection=replace(asked.selection, state=state),
                        ordering=Ordering(as_selected=True) if as_selected else None,
                        profile=asked.profile,
                        validate_only=True,
                    )
                except InvalidInput as error:
                    if error.code != "selection_empty":
                        raise
                    return error.message
                if cap is not None:
                    plan = await client.plans.get(plan.plan_id, budget_micros=cap)
                _show_selected(asked, plan_view(plan), source.sort)
                return plan

            plan = await previewed()
            if isinstance(plan, str):
                _say_nothing(asked, plan)
                return 0
            if asked.dry_run:
                first = f", not even a sample of {asked.sample:,}" if asked.sample else ""
                _unless_json(asked, f"nothing was started{first} (--dry-run)")
                return 0
            if asked.sample:
                sampled = await run_sample(
                    client, plan, asked.sample, yes=asked.yes, as_json=asked.as_json, budget_micros=cap
                )
                if sampled.exit_code:
                    return sampled.exit_code
                cap = sampled.left_micros
                _unless_json(asked, "")
                plan = await previewed()
                if isinstance(plan, str):
                    say_nothing_left(plan, as_json=asked.as_json)
                    return 0
            if not confirmed(f"Run {asked.stage.processor} over {plan.item_count:,} of them?", yes=asked.yes):
                _unless_json(asked, "nothing was started")
                return DECLINED
            run = await client.runs.start(plan.plan_id, budget_micros=cap, confirm=True)
            if asked.wait:
                return await follow(client, run, as_json=asked.as_json)
        if asked.as_json:
            print(json.dumps({"run": run_view(run)}, ensure_ascii=False))
        else:
            show.say(f"run {run.number} started ({run.run_id})")
            show.say(f"see it: penstock process details {run.number}")
        return 0

    carry_out(work())


def _show_selected(asked: _Asked, view: PlanView, own_order: Sequence[str]) -> None:
    """own_order: the source's."""
    if not asked.as_json:
        print_selected(view, asked.stage.processor, own_order=own_order, confirmed=asked.yes)
        show.say()
    elif asked.dry_run:
        show.print_json({"plan": view, "started": False})
    else:
        print(json.dumps({"plan": view}, ensure_ascii=False), flush=True)


def _say_nothing(asked: _Asked, why: str) -> None:
    if asked.as_json:
        show.print_json({"plan": None, "started": False, "reason": why})
    else:
        show.say(f"nothing to do: {why}")


def _unless_json(asked: _Asked, line: str) -> None:
    if not asked.as_json:
        show.say(line)


async def _source(client: AsyncClient, name: str) -> planner_pb2.Source:
    """The source that was named, else the only one with rows. Raises InvalidInput that lists them."""
    from penstock.runtime.errors import InvalidInput

    if name:
        return await client.sources.get(name)
    found = [one for kind in ("catalog", "table") for one in await client.sources.list(kind=kind, limit=20)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidInput("there is no catalog or table yet: penstock sources add NAME PATH", code="no_source")
    names = ", ".join(sorted(one.name for one in found))
    raise InvalidInput(f"there are several sources, so one is named by --source: {names}", code="several_sources")


def _usual_state(source: planner_pb2.Source, asked: _Asked) -> str:
    """What is missing is missing of what is open, where rows have a state."""
    from penstock.v1 import sources_pb2

    has_state = any(
        column.name.lower() == "state" and column.kind == sources_pb2.COLUMN_KIND_TEXT for column in source.columns
    )
    return MISSING_STATE if asked.open_by_default and has_state else ""


app.command()(history)
app.command()(details)
app.command()(cancel)
