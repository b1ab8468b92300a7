"""What the sandbox of `custom` SQL adds to the time of a query.

- *query*: one SELECT over a catalog, in the sandbox's process (started, shut in, answered, ended) and straight in this
  one, by a DuckDB of one thread that is open already.
- *plan*: the same through a running Penstock: a preview selected by that SELECT, beside one selected by the filter that
  takes the same rows. Each asks for another number, so that nobody finds a plan that is there.

Medians, in turns, after a first one of each kind. What is bounded is the difference; its CPU, of all processes, stands
beside it, since others on the machine make a process that must start wait much longer than a query.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import duckdb

from penstock import Client
from penstock.client import Selection, StageOptions
from penstock.runtime.parquet_files import literal
from planner.sandbox.sandbox import Sandbox
from planner.sandbox.tables import Table
from tests.bench import report
from tests.bench.usage import cpu_seconds
from tests.servers.stack import Stack
from tests.snapshots import CATALOG, write_catalog, write_rows

ROWS, QUICK_ROWS = 100_000, 10_000
ROUNDS, QUICK_ROUNDS = 20, 5
Told = Sequence[tuple[float, float]]
"""Seconds and CPU seconds of each way."""
MORE_SECONDS = 0.6
"""That the sandbox may take beside the query itself."""


def sql(number: int) -> str:
    return f"SELECT product_id FROM items WHERE price < 100 AND stock > {number} AND note LIKE '%gaming%'"


def in_turns(works: Sequence[Callable[[int], int]], rounds: int, *, root: int) -> Told:
    """Of each, medians of wall and of the CPU of a process and all below it; all must answer alike."""
    took: list[tuple[list[float], list[float]]] = [([], []) for _ in works]
    for number in range(rounds + 1):
        answers = set()
        for (wall, used), work in zip(took, works, strict=True):
            began, before = time.perf_counter(), cpu_seconds(root)
            answers.add(work(number))
            if number:
                wall.append(time.perf_counter() - began)
                used.append(cpu_seconds(root) - before)
        assert len(answers) == 1, answers
    return [(median(wall), median(used)) for wall, used in took]


def queries(folder: Path, count: int, rounds: int) -> Told:
    snapshot, keys = folder / "snapshot", folder / "keys"
    write_catalog(snapshot, count)
    items = Table.of(snapshot, CATALOG)
    sandbox = Sandbox()

    def shut_in(number: int) -> int:
        selected = asyncio.run(sandbox.select(sql(number), {"items": items}, keys_of=["product_id"], into=keys))
        keys.unlink()
        return selected.count

    columns = ", ".join(f'"{column}" AS "{name}"' for name, column in items.shown())
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(f"CREATE VIEW items AS SELECT {columns} FROM read_parquet({literal(snapshot)})")

        def open_here(number: int) -> int:
            return len(connection.execute(sql(number)).fetchall())

        return in_turns([shut_in, open_here], rounds, root=os.getpid())


def previews(folder: Path, count: int, rounds: int) -> Told:
    rows = folder / "rows"
    rows.mkdir()
    write_rows(rows / "rows.parquet", count)
    stack = Stack(folder / "data", environment={"PENSTOCK_PLANNER__SOURCE_FOLDERS": str(rows)})
    stack.start()
    try:
        client = stack.client
        source_id = client.sources.add("rows", server_path=str(rows / "rows.parquet"), kind="catalog").source_id

        def by_sql(number: int) -> int:
            return _preview(client, source_id, Selection(sql=sql(number)))

        def by_filter(number: int) -> int:
            chosen = Selection(filter=f"price < 100 AND stock > {number} AND note:gaming")
            return _preview(client, source_id, chosen)

        return in_turns([by_sql, by_filter], rounds, root=stack.pids()["planner"])
    finally:
        stack.stop()


def _preview(client: Client, source_id: str, selection: Selection) -> int:
    stage = StageOptions(processor="noop")
    return client.plans.create(source_id, stages=[stage], selection=selection, validate_only=True).item_count


def main(*, quick: bool = False) -> int:
    count, rounds = (QUICK_ROWS, QUICK_ROUNDS) if quick else (ROWS, ROUNDS)
    rows: list[report.Row] = []
    with tempfile.TemporaryDirectory(prefix="pen-bench-") as text:
        folder = Path(text)
        for what, without, ((inside, inside_cpu), (beside, beside_cpu)) in (
            ("query", "in this process", queries(folder, count, rounds)),
            ("preview", "by the same filter", previews(folder, count, rounds)),
        ):
            for measure, seconds, cpu, bound in (
                (f"{what}, in the sandbox", inside, inside_cpu, None),
                (f"{what}, {without}", beside, beside_cpu, None),
                (f"{what}, what the sandbox adds", inside - beside, inside_cpu - beside_cpu, MORE_SECONDS),
            ):
                rows.append(
                    {
                        "system": "penstock",
                        "measure": measure,
                        "items": count,
                        "value": round(seconds, 3),
                        "unit": "s",
                        "bound": bound,
                        "cpu_seconds": round(cpu, 3),
                    }
                )
    report.write("sandbox", rows)
    return report.told(report.late(rows), quick=quick)


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
