"""`penstock retries`: the one switch that stops every retry of every run while an incident lasts."""

from __future__ import annotations

from pathlib import Path

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, ReasonOption, carry_out, connected

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Stop or allow all retries of all runs, in an incident.")


@app.command("show")
def show_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Whether failed items are tried again, and who changed that last.

    Example: penstock retries show
    """
    _switch(None, "", data, as_json=as_json)


@app.command()
def stop(reason: ReasonOption = "", data: DataOption = None, as_json: JsonOption = False) -> None:
    """Try nothing again until further notice; first tries go on, what would be retried waits.

    Example: penstock retries stop --reason "the provider answers nonsense"
    """
    _switch(False, reason, data, as_json=as_json)


@app.command()
def allow(reason: ReasonOption = "", data: DataOption = None, as_json: JsonOption = False) -> None:
    """Retry again; what waited meanwhile goes on.

    Example: penstock retries allow
    """
    _switch(True, reason, data, as_json=as_json)


def _switch(allowed: bool | None, reason: str, data: Path | None, *, as_json: bool) -> None:
    async def work() -> None:
        from penstock.client.operator_views import retries_view

        async with connected(data) as client:
            if allowed is None:
                answer = await client.retries.get()
            else:
                answer = await client.retries.set(allowed=allowed, reason=reason)
        view = retries_view(answer)
        if as_json:
            show.print_json(view)
            return
        already = "" if allowed is None or view["changed"] else " already"
        by = f", by {show.text(view['actor'])}" if view["actor"] else ""
        since = f" since {view['since_time']}" if view["since_time"] else ""
        why = f": {show.text(view['reason'])}" if view["reason"] else ""
        show.say(f"retries are {'allowed' if view['allowed'] else 'stopped'}{already}{since}{by}{why}")

    carry_out(work())
