"""What mutual TLS costs beside the token: CPU of planner, scheduler and worker an item, and of a call alone.

Two sets of programs stand side by side and work by turns, so that the machine's hours are the same for both.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from penstock import Client
from penstock.client.resources import StageOptions
from tests.bench import report
from tests.servers.certificates import Authority
from tests.servers.secured import Secured

TURNS, ITEMS, CALLS = 5, 3_000, 300
QUICK_TURNS, QUICK_ITEMS, QUICK_CALLS = 1, 1_000, 100
PROGRAMS = ("planner", "scheduler", "worker")


def turn(one: Secured, client: Client, items: int, calls: int) -> tuple[float, float]:
    """CPU seconds of an item that does nothing, and of a call alone."""
    path = one.folder / "items.jsonl"
    path.write_text("".join(json.dumps({"key": f"k{n}", "payload": {}}) + "\n" for n in range(items)))
    options = StageOptions(processor="noop", concurrency=256)
    before = one.cpu_seconds()
    plan = client.plans.create(client.sources.items(path).source_id, stages=[options])
    run = client.run(client.runs.start(plan.plan_id, confirm=True))
    assert run.wait().counts.completed == items, run
    per_item = (one.cpu_seconds() - before) / items
    before = one.cpu_seconds()
    for _ in range(calls):
        run.refresh()
    return per_item, (one.cpu_seconds() - before) / calls


def main(*, quick: bool = False) -> int:
    turns, items, calls = (QUICK_TURNS, QUICK_ITEMS, QUICK_CALLS) if quick else (TURNS, ITEMS, CALLS)
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="pen-bench-") as text:
        ways = {
            "token": Secured(Path(text, "token"), None, programs=PROGRAMS),
            "mutual TLS": Secured(Path(text, "tls"), Authority("costs"), programs=PROGRAMS),
        }
        try:
            for one in ways.values():
                one.start()
            for _ in range(turns):
                for way, one in ways.items():
                    with Client(endpoints=one.endpoints()) as client:
                        found.setdefault(way, []).append(turn(one, client, items, calls))
        finally:
            for one in ways.values():
                one.stop()
    rows: list[report.Row] = [
        {
            "system": f"penstock, {way}",
            "items": items,
            "turns": turns,
            "cpu_us_per_item": round(median(item for item, _ in told) * 1e6, 1),
            "cpu_us_per_call": round(median(call for _, call in told) * 1e6, 1),
        }
        for way, told in found.items()
    ]
    report.write("tls", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
