"""Items of a processor that does nothing: what one costs here, and what it costs others, side by side in one run.

Penstock: limits, events and budgets are on. Each item has a price and two keys (one of 100 domains, with a bound of
leases at once; one provider with two rates); run and stage have budgets. Counted from the start of the run to its last
durable outcome, CPU of all programs: supervisor, services, workers, Redis, PostgreSQL. What planning costs (upload,
snapshot, plan) is a column of its own. The others: from the start of the producer to the last stored result; CPU of
producer, workers and servers. Nobody's start of servers is counted.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock import Client
from penstock.client.limits import RateOptions
from penstock.client.resources import StageOptions
from penstock.v1 import scheduler_pb2 as pb
from tests.bench import report, rivals
from tests.bench.usage import MemoryWatch, cpu_seconds
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.stack import Stack, until

ITEMS = 200_000
QUICK_ITEMS = 20_000
RIVAL_ITEMS = {"celery_redis": 10_000, "celery_postgresql": 5_000, "procrastinate_postgresql": 10_000}
RIVAL_DEFAULT = 20_000
RIVAL_QUICK = 500
CONCURRENCY = 2_000
SLOTS = 1_000
"""Of each of the two workers: what does nothing is leased by the thousand, as the others are tuned too."""
DOMAINS = 100
DOMAIN_CONCURRENCY = 100
PRICE_MICROS = 7
BUDGET_MICROS = 10**12
BOUND_BY_CELERY = 10.0
BOUNDS = {"penstock/sqlite": (12_000, 100.0), "penstock/postgresql": (8_000, 150.0)}
"""At least so many items a second, and at most so many microseconds of CPU an item."""
ROOT = Path(__file__).resolve().parents[2]


def children_cpu() -> float:
    """CPU of children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_items(path: Path, count: int, *, head: int = 0, head_key: str = "") -> None:
    """So many items with a price and two keys, after `head` ones of another key alone."""
    with path.open("w") as file:
        for number in range(head):
            file.write(json.dumps({"key": f"head-{number}", "payload": {"limits": [head_key]}}) + "\n")
        for number in range(count):
            keys = [f"domain:d{number % DOMAINS}.example", "provider:bench"]
            payload = {"i": number, "limits": keys, "cost_micros": PRICE_MICROS, "used": {"tokens": 10}}
            file.write(json.dumps({"key": f"item-{number}", "payload": payload}) + "\n")


def penstock(folder: Path, count: int, database: str, postgres: PostgresServer | None) -> report.Row:
    items, small = folder / "items.jsonl", folder / "small.jsonl"
    write_items(items, count)
    write_items(small, 2_000)
    environment = {"PENSTOCK_WORKER__SLOTS": str(SLOTS)}
    roots = []
    if postgres is not None:
        environment["PENSTOCK_SCHEDULER__DATABASE_URL"] = postgres.create_database()
        roots.append(postgres.pid)
    stack = Stack(folder / "data", environment=environment)
    stack.start()
    try:
        roots.append(stack.supervisor.pid)
        client = stack.client
        prepare(client)
        # A small run first: the workers are up, and code that is loaded on first use is loaded.
        client.runs.wait(started(client, plan_of(client, small)).run_id)
        before, began = cpu_seconds(*roots), time.monotonic()
        plan_id = plan_of(client, items)
        plan_seconds, plan_cpu = time.monotonic() - began, cpu_seconds(*roots) - before
        before = cpu_seconds(*roots)
        with MemoryWatch(*roots) as memory:
            run = client.runs.wait(started(client, plan_id).run_id)
        cpu = cpu_seconds(*roots) - before
        assert run.counts.completed == count, run
        assert run.money.spent_micros == PRICE_MICROS * count, run.money
        assert not run.money.reserved_micros, run.money
    finally:
        stack.stop()
    seconds = (run.end_time.ToNanoseconds() - run.create_time.ToNanoseconds()) / 1e9
    row = _row(f"penstock/{database}", count, seconds, cpu, memory.peak_mb)
    return {**row, "plan_seconds": round(plan_seconds, 2), "plan_cpu_us_per_item": round(plan_cpu / count * 1e6, 1)}


def prepare(client: Client) -> None:
    """Sets the limits and the price."""
    client.limits.set("domain:*", concurrency=DOMAIN_CONCURRENCY)
    # Rates that are kept and counted, and never the bottleneck: what is measured is their cost.
    rates = [RateOptions(dimension=name, per_minute=6e8) for name in ("requests", "tokens")]
    client.limits.set("provider:bench", rates=rates)
    client.prices.set("noop", PRICE_MICROS)


def plan_of(client: Client, items: Path) -> str:
    source = client.sources.items(items)
    stage = StageOptions(
        processor="noop",
        parameters={"paid": True},
        concurrency=CONCURRENCY,
        rules={"budget_micros": BUDGET_MICROS, "item_budget_micros": 10 * PRICE_MICROS},
    )
    return client.plans.create(source.source_id, stages=[stage]).plan_id


def started(client: Client, plan_id: str) -> pb.Run:
    return client.runs.start(plan_id, budget_micros=BUDGET_MICROS)


def rival(name: str, count: int, postgres: PostgresServer) -> report.Row:
    with _servers(name, postgres) as (environment, roots):
        os.environ.update(environment)  # its module reads them when it is imported
        module = importlib.import_module(f"tests.bench.rivals.{name}")
        produce = [sys.executable, "-m", f"tests.bench.rivals.{name}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if hasattr(module, "prepare"):
            subprocess.run([*produce, "prepare"], env=environment, cwd=ROOT, check=True, timeout=60)
        workers = [subprocess.Popen(command, env=environment, cwd=ROOT, **quiet) for command in module.WORKERS]  # type: ignore[call-overload]
        try:
            # A small batch first: it ends once the workers are up. Some drop jobs that came before their workers.
            for _ in range(3):
                small = subprocess.run([*produce, "500"], env=environment, cwd=ROOT, timeout=120, **quiet)  # type: ignore[call-overload]
                if small.returncode == 0:
                    break
            roots = [*roots, *(worker.pid for worker in workers)]
            before, before_own = cpu_seconds(*roots), children_cpu()
            with MemoryWatch(*roots) as memory:
                began = time.monotonic()
                subprocess.run([*produce, str(count)], env=environment, cwd=ROOT, check=True, timeout=600, **quiet)  # type: ignore[call-overload]
                seconds = time.monotonic() - began
            cpu = cpu_seconds(*roots) - before + children_cpu() - before_own
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                try:
                    worker.wait(15)
                except subprocess.TimeoutExpired:
                    worker.kill()
                    worker.wait(5)
    until("its workers have ended", lambda: all(worker.poll() is not None for worker in workers))
    return _row(name.replace("_", "/"), count, seconds, cpu, memory.peak_mb)


@contextmanager
def _servers(name: str, postgres: PostgresServer) -> Iterator[tuple[dict[str, str], list[int]]]:
    """A Redis of its own, and a database of its own; the environment and the pids whose CPU counts."""
    server = RedisServer()
    url = postgres.create_database()
    try:
        uses_postgres = name.endswith("postgresql")
        uses_redis = not name.startswith("procrastinate")
        pids = [server.pid] * uses_redis + [postgres.pid] * uses_postgres
        yield {"PEN_BENCH_REDIS": server.url, "PEN_BENCH_POSTGRESQL": url}, pids
    finally:
        server.stop()
        postgres.drop_database(url)


def _row(system: str, count: int, seconds: float, cpu: float, peak_mb: float) -> dict[str, str | int | float | None]:
    return {
        "system": system,
        "items": count,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "peak_mb": round(peak_mb, 1),
        "items_per_second": round(count / seconds),
        "cpu_us_per_item": round(cpu / count * 1e6, 1),
    }


def main(*, quick: bool = False) -> int:
    count = QUICK_ITEMS if quick else ITEMS
    postgres = PostgresServer()
    rows: list[report.Row] = []
    try:
        for database, server in (("sqlite", None), ("postgresql", postgres)):
            with tempfile.TemporaryDirectory(prefix="pen-bench-") as folder:
                rows.append(penstock(Path(folder), count, database, server))
        for name in rivals.NAMES:
            wanted = RIVAL_ITEMS.get(name, RIVAL_DEFAULT)
            rows.append(rival(name, RIVAL_QUICK if quick else wanted, postgres))
    finally:
        postgres.stop()
    celery = next(row for row in rows if row["system"] == "celery/redis")
    best = min((row for row in rows[2:]), key=lambda row: float(row["cpu_us_per_item"] or 0))
    for title, other in (
        (f"celery/redis by penstock/sqlite (bound: {BOUND_BY_CELERY:g})", celery),
        ("best of the others by penstock/sqlite", best),
    ):
        rows.append(
            {
                "system": title,
                "items": None,
                "items_per_second": round(
                    float(rows[0]["items_per_second"] or 0) / float(other["items_per_second"] or 1), 1
                ),
                "cpu_us_per_item": round(
                    float(other["cpu_us_per_item"] or 0) / float(rows[0]["cpu_us_per_item"] or 1), 1
                ),
            }
        )
    report.write("scheduler", rows)
    passed = late(rows)
    for line in passed:
        print(f"  past its bound: {line}")
    return 1 if passed and not quick else 0  # at small sizes the start counts, and proves nothing


def late(rows: list[report.Row]) -> list[str]:
    """A sentence for each bound that was passed."""
    found = []
    for row in rows:
        least, most = BOUNDS.get(str(row["system"]), (0, float("inf")))
        rate, cpu = float(row["items_per_second"] or 0), float(row["cpu_us_per_item"] or 0)
        if rate < least:
            found.append(f"{row['system']}: {rate:,.0f} items a second; at least {least:,} are asked")
        if cpu > most:
            found.append(f"{row['system']}: {cpu:g} microseconds of CPU an item; at most {most:g} are asked")
        if "bound:" in str(row["system"]) and rate < BOUND_BY_CELERY:
            found.append(f"{row['system']}: {rate:g} times as many a second")
    return found


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
