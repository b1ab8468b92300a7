"""`penstock status`, `penstock settings`: what runs, and how it is set."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, carry_out, connected

__all__ = ["settings", "status"]

ANSWER_SECONDS = 5.0
LIVE = ("running", "queued", "paused", "waiting", "stopping")


def status(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Where Penstock runs, whether it is ready, and what it is doing. Exit code 1 when it is not ready.

    Example: penstock status --json
    """

    async def work() -> int:
        import asyncio

        from penstock import __version__

        async with connected(data) as client:
            found = client.endpoints
            problem = await asyncio.to_thread(_readiness, found.http)
            active = closed = retries = None
            if not problem:
                active = await client.runs.list(limit=100, states=LIVE)
                closed = [limit.key for limit in await client.limits.list() if limit.state not in ("", "open")]
                retries = (await client.retries.get()).allowed
        told: dict[str, Any] = {
            "version": __version__,
            "url": found.http,
            "data": str(found.data) if found.data else None,
            "ready": not problem,
            "problem": problem or None,
            "active_runs": None if active is None else [run.number for run in active],
            "waiting_runs": None if active is None else {run.number: run.waiting for run in active if run.waiting},
            "closed_limits": closed,
            "retries_allowed": retries,
            "planner": found.planner,
            "scheduler": found.scheduler,
            "analyzer": found.analyzer,
            "pids": _pids(found.data),
        }
        if as_json:
            show.print_json(told)
        else:
            show.say(f"Penstock {__version__} at {found.http}: " + (f"not ready ({problem})" if problem else "ready"))
            if found.data:
                show.say(f"  data folder  {found.data}")
            runs = "unknown" if active is None else ", ".join(str(run.number) for run in active) or "none"
            show.say(f"  active runs  {runs}")
            for number, what in (told["waiting_runs"] or {}).items():
                show.say(f"  waiting      run {number}: {show.text(what)}")
            if closed:
                show.say(f"  held back    {show.shortened(', '.join(closed), 200)}")
            if retries is False:
                show.say("  retries      are stopped: see `penstock retries show`")
            for name, pid in told["pids"].items():
                show.say(f"  {name:<12} {told.get(name, '')} pid {pid}".replace("  pid", " pid"))
        return 1 if problem else 0

    carry_out(work())


def _readiness(url: str) -> str:
    """Empty when ready, else why not."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/readyz", timeout=ANSWER_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        body = error.read(4096).decode(errors="replace")
        try:
            return str(json.loads(body).get("detail") or body)
        except (ValueError, AttributeError):
            return body or f"/readyz answers {error.code}"
    except OSError as error:
        return f"the gateway does not answer: {getattr(error, 'reason', error)}"


def _pids(data: Any) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads((data / "endpoints.json").read_text())["pids"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def settings(as_json: JsonOption = False) -> None:
    """Every setting with its default and meaning. Set one by environment or in a file:

    PENSTOCK_SCHEDULER__WORKERS=4 penstock up

    [scheduler] workers = 4     in DIR/penstock.toml, or in a file given by --config
    """
    from penstock.runtime.settings import PREFIX, describe

    if as_json:
        show.print_json([{"name": name, "default": default, "description": text} for name, default, text in describe()])
        return
    rows = [(name, PREFIX + name.upper().replace(".", "__"), default, text) for name, default, text in describe()]
    width = max(len(name) for name, *_ in rows)
    for name, variable, default, text in rows:
        typer.echo(f"{name:<{width}}  {default}")
        typer.echo(f"{'':<{width}}  {text} {variable}")
