"""Procrastinate, all in PostgreSQL: two processes of fifty jobs, enqueued in batches; a job's row keeps its end."""

from __future__ import annotations

import asyncio
import logging
import sys

import procrastinate
from procrastinate.types import JSONValue

from tests.bench.rivals import postgresql_url

__all__ = ["WORKERS"]

WORKERS = [
    [
        *(sys.executable, "-m", "procrastinate", "--app", "tests.bench.rivals.procrastinate_postgresql.app"),
        *("worker", "--concurrency", "50"),
    ]
] * 2
TOGETHER = 1_000
PAUSE_SECONDS = 0.1

logging.getLogger("procrastinate").setLevel(logging.WARNING)  # two lines a job cost as much as the job
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=postgresql_url()))


@app.task(name="noop")
async def noop(i: int) -> None:
    """Does nothing; its row says that it succeeded."""


async def produce(count: int) -> None:
    async with app.open_async():
        before = await _succeeded()
        for first in range(0, count, TOGETHER):
            jobs: list[dict[str, JSONValue]] = [{"i": n} for n in range(first, min(first + TOGETHER, count))]
            await noop.batch_defer_async(*jobs)
        while await _succeeded() < before + count:  # noqa: ASYNC110 - other processes end them
            await asyncio.sleep(PAUSE_SECONDS)


async def prepare() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def _succeeded() -> int:
    row = await app.connector.execute_query_one_async(
        "SELECT count(*) AS n FROM procrastinate_jobs WHERE status = 'succeeded'"
    )
    return int(row["n"])


if __name__ == "__main__":
    from tests.bench.rivals import procrastinate_postgresql as rival

    asyncio.run(rival.prepare() if sys.argv[1] == "prepare" else rival.produce(int(sys.argv[1])))
