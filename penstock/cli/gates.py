"""`penstock gates`: what waits for a person's answer, and the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, ReasonOption, RunArgument, carry_out, connected, run_of
from penstock.cli.run_text import state_of

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="What waits for your answer before it goes on.")

GateArgument = Annotated[
    str, typer.Argument(metavar="GATE", help="Its name; needed where several wait.", show_default=False)
]


@app.command("list")
def list_(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Only of this run.", show_default=False)] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The gates that wait for an answer now.

    Example: penstock gates list
    """

    async def work() -> None:
        from penstock.client.operator_views import gate_view

        async with connected(data) as client:
            run_id = (await run_of(client, run)).run_id if run else ""
            gates = await client.gates.list(run_id=run_id)
            numbers = {one: (await client.runs.get(one)).number for one in {gate.run_id for gate in gates}}
        views = [gate_view(gate) for gate in gates]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("run", "gate", "stage", "since", "answered by itself", "with"),
            [
                (
                    numbers[view["run_id"]],
                    view["name"],
                    view["stage"],
                    view["since_time"],
                    view["due_time"] or "never",
                    (view["default_answer"] or "reject") if view["due_time"] else None,
                )
                for view in views
            ],
        )

    carry_out(work())


@app.command()
def approve(
    run: RunArgument,
    gate: GateArgument = "",
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the stage behind a gate begin.

    Example: penstock gates approve 3 ship --reason "the preview looks right"
    """
    _answer(run, gate, reason, data, approve=True, as_json=as_json)


@app.command()
def reject(
    run: RunArgument,
    gate: GateArgument = "",
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop the run at a gate.

    Example: penstock gates reject 3 ship --reason "the prices are wrong"
    """
    _answer(run, gate, reason, data, approve=False, as_json=as_json)


def _answer(run: str, gate: str, reason: str, data: Path | None, *, approve: bool, as_json: bool) -> None:
    async def work() -> None:
        from penstock.client.views import run_view
        from penstock.runtime.errors import InvalidInput

        async with connected(data) as client:
            found = await run_of(client, run)
            name = gate
            if not name:
                names = [one.name for one in await client.gates.list(run_id=found.run_id)]
                if len(names) != 1:
                    told = f"which of {', '.join(names)}?" if names else "no gate of it waits"
                    raise InvalidInput(f"run {found.number}: {told}", code="no_gate")
                name = names[0]
            answer = await client.gates.answer(found.run_id, name, approve=approve, reason=reason)
        if as_json:
            show.print_json({"run": run_view(answer.run), "changed": answer.changed})
            return
        said = ("approved" if approve else "rejected") + ("" if answer.changed else " already")
        show.say(f"gate {show.text(name)} {said}: run {answer.run.number} is {state_of(answer.run)}")

    carry_out(work())
