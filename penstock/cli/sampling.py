"""`--sample N`: some of a plan's items are run first, so that the plan, made again, rests on what they told.

The plan itself stays a preview meanwhile. A sample that fails whole ends the command: nobody wants the rest of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import show
from penstock.cli.options import confirmed
from penstock.cli.starting import follow
from penstock.words import counted

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.v1 import planner_pb2

__all__ = ["SampleOption", "Sampled", "run_sample", "say_nothing_left"]

FAILED, WITH_FAILURES = 1, 3

SampleOption = Annotated[
    int,
    typer.Option("--sample", metavar="N", min=0, help="Run N of its items first, then show the plan again (0: none)."),
]


def say_nothing_left(why: str, *, as_json: bool) -> None:
    """After a sample that was all that there was to do."""
    if as_json:
        show.print_json({"plan": None, "reason": why})
    else:
        show.say(f"nothing is left to do: {why}")


@dataclass(frozen=True)
class Sampled:
    """exit_code: 0 when the plan may follow; left_micros: of the cap that was given."""

    exit_code: int
    left_micros: int | None = None


async def run_sample(
    client: AsyncClient,
    plan: planner_pb2.Plan,
    size: int,
    *,
    yes: bool,
    as_json: bool,
    budget_micros: int | None = None,
) -> Sampled:
    """Asks, runs a sample of the plan and follows it to its end. Raises InvalidInput for a size out of range, for a
    plan that has no samples, and where nobody answers."""
    from penstock.client.plan_views import plan_view

    sample = await client.plans.sample(plan.plan_id, size)
    if as_json:
        print(json.dumps({"sample": plan_view(sample)}, ensure_ascii=False), flush=True)
    for warning in sample.warnings:
        typer.echo(f"sample: {show.text(warning.message)}", err=True)
    if not confirmed(f"Run a sample of {counted(sample.item_count, 'item')} first?", yes=yes):
        if not as_json:
            show.say("nothing was started")
        return Sampled(FAILED)
    run = await client.runs.start(
        sample.plan_id, name=f"sample of {plan.name}" if plan.name else "", budget_micros=budget_micros, confirm=True
    )
    code = await follow(client, run, as_json=as_json)
    ended = await client.runs.get(run.run_id)
    counts = ended.counts
    if counts.failed and not counts.completed:
        typer.echo(
            f"the sample failed in all of its {counted(counts.failed, 'item')}, so nothing else is started; why: "
            f"penstock runs show {run.number}",
            err=True,
        )
        return Sampled(FAILED)
    if code not in (0, WITH_FAILURES):
        return Sampled(code)
    if counts.failed and not as_json:
        show.say(f"{counts.failed:,} of the sample's {counted(counts.total, 'item')} failed")
    left = None if budget_micros is None else max(budget_micros - ended.money.spent_micros, 0)
    return Sampled(0, left)
