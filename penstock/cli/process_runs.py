"""`penstock process history`, `details` and `cancel`: runs that such a selection began, by their plans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, ReasonOption, RunArgument, carry_out, connected, run_of
from penstock.cli.plan_text import source_text
from penstock.cli.run_text import counts_of, print_commanded, print_summary, share_of, state_of
from penstock.cli.selecting import selection_text

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.v1 import planner_pb2, scheduler_pb2

__all__ = ["cancel", "details", "history"]

SELECTED_BY = ("missing", "reprocess", "sql")
"""The selections that `penstock process` makes."""
WIDEST_SELECTED = 100
"""A line of the table; `details` and --json tell long SQL whole."""
_PAGE = 100
_MOST_LOOKED_AT = 2_000


def history(
    source: Annotated[str, typer.Option("--source", help="Only of this source, by its name or an id.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="Runs to show.")] = 20,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest runs of such selections, newest first, wherever they were started.

    Example: penstock process history --limit 5
    """

    async def work() -> None:
        from penstock.client.plan_views import plan_view
        from penstock.client.views import run_view, time_text

        async with connected(data) as client:
            found = await _history(client, source, limit)
        if as_json:
            show.print_json([{"run": run_view(run), "plan": plan_view(plan)} for run, plan in found])
            return
        show.print_table(
            ("run", "state", "processor", "items", "done", "failed", "source", "created", "selected"),
            [
                (
                    run.number,
                    state_of(run),
                    plan.stages[0].processor,
                    counts_of(run).total,
                    f"{show.percent(share_of(run))}%",
                    counts_of(run).failed,
                    plan.source_name or plan.source_id,
                    time_text(run.create_time),
                    show.shortened(selection_text(plan_view(plan)["selection"]), WIDEST_SELECTED),
                )
                for run, plan in found
            ],
        )

    carry_out(work())


async def _history(client: AsyncClient, source: str, limit: int) -> list[tuple[scheduler_pb2.Run, planner_pb2.Plan]]:
    """Runs with their plans; it looks at the latest _MOST_LOOKED_AT runs."""
    found: list[tuple[scheduler_pb2.Run, planner_pb2.Plan]] = []
    plans: dict[str, planner_pb2.Plan | None] = {}
    token, looked_at = "", 0
    while looked_at < _MOST_LOOKED_AT:
        page = await client.runs.list_page(page_size=_PAGE, page_token=token)
        for run in page.runs:
            if run.plan_removed:
                continue
            if run.plan_id not in plans:
                plans[run.plan_id] = await _plan_selected(client, run)
            plan = plans[run.plan_id]
            if plan is not None and source in ("", plan.source_name, plan.source_id):
                found.append((run, plan))
                if len(found) == limit:
                    return found
        looked_at += len(page.runs)
        token = page.next_page_token
        if not token:
            break
    return found


async def _plan_selected(client: AsyncClient, run: scheduler_pb2.Run) -> planner_pb2.Plan | None:
    """The run's plan where such a selection made it."""
    from penstock.client.sources import SOURCE_KINDS

    if run.kind not in (SOURCE_KINDS["catalog"], SOURCE_KINDS["table"]):
        return None
    plan = await client.plans.get(run.plan_id)
    return plan if plan.selection.WhichOneof("include") in SELECTED_BY else None


def details(run: RunArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """One such run: what was selected and left out, then how it goes.

    Example: penstock process details 3
    """

    async def work() -> None:
        from penstock.client.operator_views import summary_view
        from penstock.client.plan_views import plan_view
        from penstock.runtime.errors import NotFound

        async with connected(data) as client:
            found = await run_of(client, run)
            if found.plan_removed:
                raise NotFound(
                    f"the plan of run {run} was removed; what became of it: penstock runs show {run}",
                    code="plan_removed",
                )
            plan = plan_view(await client.plans.get(found.plan_id))
            summary = await client.runs.summary(found.run_id)
        view = summary_view(summary)
        if as_json:
            told: dict[str, Any] = {name: value for name, value in view.items() if name != "run"}
            show.print_json({"plan": plan, **view["run"], **told})
            return
        show.say(f"Selected of {source_text(plan)}: {selection_text(plan['selection'])}")
        for one in plan["left_out"]:
            show.say(f"  left out: {one['count']:,} {show.text(one['reason'])}")
        show.say()
        print_summary(summary.run, view)

    carry_out(work())


def cancel(
    run: RunArgument,
    force: Annotated[bool, typer.Option("--force", help="Revoke what runs, too.")] = False,
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop such a run: what runs may finish, the rest is not started. What is completed stays so.

    Example: penstock process cancel 3
    """

    async def work() -> None:
        async with connected(data) as client:
            found = await run_of(client, run)
            answer = await client.runs.stop(found.run_id, force=force, reason=reason)
        print_commanded(answer, "stop", as_json=as_json)

    carry_out(work())
