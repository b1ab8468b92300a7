"""`penstock plans export`, `import` and `copy`: a plan as one file, and a plan made of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, PlanArgument, carry_out, connected
from penstock.cli.plan_text import show_made
from penstock.cli.selecting import (
    ConcurrencyOption,
    MaxRunSecondsOption,
    MaxTriesOption,
    NameOption,
    ParametersOption,
    ParamOption,
    RulesOption,
    stage_of,
)
from penstock.cli.source_text import size_text

__all__ = ["copy", "export", "import_"]


def export(
    plan: PlanArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it is written.", show_default=False)],
    without_source: Annotated[
        bool, typer.Option("--without-source", help="Small: its source must be where it is imported.")
    ] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a plan of a catalog or table as one file, with its source, for another Penstock.

    Example: penstock plans export "two brands" two-brands.plan.gz
    """

    async def work() -> None:
        async with connected(data) as client:
            found = await client.plans.get(plan)
            size = await client.plans.save(found.plan_id, file, without_source=without_source)
        if as_json:
            show.print_json({"plan_id": found.plan_id, "file": str(file), "size_bytes": size})
        else:
            show.say(f"{found.plan_id} is in {file}: {size_text(size)}")

    carry_out(work())


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.", show_default=False)],
    name: NameOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a plan from such a file: the same plan under the same id, or a refusal that says why.

    Example: penstock plans import two-brands.plan.gz
    """

    async def work() -> None:
        from penstock.client.plan_views import plan_view

        async with connected(data) as client:
            view = plan_view(await client.plans.load(file, name=name))
            await show_made(client, view, as_json=as_json)

    carry_out(work())


def copy(
    plan: PlanArgument,
    name: NameOption = "",
    processor: Annotated[str, typer.Option("--processor", help="Another one does the work.")] = "",
    param: ParamOption = None,
    parameters: ParametersOption = "",
    concurrency: ConcurrencyOption = 0,
    max_tries: MaxTriesOption = 0,
    max_run_seconds: MaxRunSecondsOption = 0,
    rules: RulesOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a plan of the same items in the same order, set otherwise. What is not changed stays; starts nothing.

    Example: penstock plans copy "two brands" --concurrency 8 --name "two brands, gently"
    """

    async def work() -> None:
        from penstock.client.plan_views import plan_view

        changes = stage_of(
            processor,
            param=param,
            parameters=parameters,
            concurrency=concurrency,
            max_tries=max_tries,
            max_run_seconds=max_run_seconds,
            rules=rules,
        )
        async with connected(data) as client:
            found = await client.plans.get(plan)
            view = plan_view(await client.plans.copy(found.plan_id, name=name, changes=changes))
            same = " (the same: nothing is set otherwise)" if view["plan_id"] == found.plan_id else ""
            await show_made(client, view, as_json=as_json, note=same)

    carry_out(work())
