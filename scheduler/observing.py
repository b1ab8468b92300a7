"""What the scheduler's decisions tell metrics and traces: grants, reports, sweeps, and what stands where.

Counting may not change or slow a decision: a few numbers a batch, never one an item; a span only where an exporter is
set. Gauges are read from SQL now and then; while SQL can't be read they stay as they were.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from penstock.runtime import metrics, tracing
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import LIVE_RUNS, ItemState
from scheduler.store.leases import GrantedBatch

__all__ = ["Gauges", "note_grants", "note_reports", "sweep"]

ITEM_STATES = (
    ItemState.QUEUED, ItemState.RUNNING, ItemState.RETRY, ItemState.DEFERRED, ItemState.COMPLETED, ItemState.FAILED,
)  # fmt: skip

log = get_logger("observing")

# Live runs by state, with their money. Few beside the ended ones: by the index of states.
_RUNS = sa.text("""
SELECT state, count(*) AS runs, sum(reserved_micros) AS reserved FROM runs
WHERE state IN ('queued', 'running', 'paused', 'waiting', 'stopping') GROUP BY state
""")
# Items of live runs by state: what their stages count.
_ITEMS = sa.text("""
SELECT sum(s.total - s.running - s.retry - s.deferred - s.completed - s.failed - s.skipped - s.stopped) AS queued,
  sum(s.running) AS running, sum(s.retry) AS retry, sum(s.deferred) AS deferred, sum(s.completed) AS completed,
  sum(s.failed) AS failed
FROM runs AS r JOIN stages AS s ON s.run = r.number
WHERE r.state IN ('queued', 'running', 'paused', 'waiting', 'stopping')
""")


def note_grants(batches: Iterable[GrantedBatch], granted_ms: int, seconds: float) -> None:
    """After a grant is durable. seconds: since the call looked for work."""
    for batch in batches:
        metrics.GRANT_ITEMS.observe(len(batch.granted))
        if batch.stage.start_ms is not None:
            metrics.QUEUE_SECONDS.observe(max(0, granted_ms - batch.stage.start_ms) / 1000)
    metrics.LEASE_SECONDS.observe(seconds)


def note_reports(batches: Iterable[pb.OutcomeBatch]) -> None:
    """After outcomes are durable."""
    for batch in batches:
        metrics.REPORT_ITEMS.observe(len(batch.outcomes))


@contextmanager
def sweep(name: str) -> Iterator[None]:
    """Around one turn of a sweep."""
    began = time.perf_counter()
    with tracing.step(f"sweep {name}"):
        yield
    metrics.SWEEP_SECONDS.labels(name).observe(time.perf_counter() - began)


class Gauges:
    """Reads what stands where, `seconds` apart."""

    def __init__(self, database: Database, *, seconds: float) -> None:
        self._database = database
        self._seconds = seconds

    async def serve(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.read)
            except PenstockError as error:
                log.info("gauges stay as they were", error=error.message)
            await asyncio.sleep(self._seconds)

    def read(self) -> None:
        with self._database.read() as connection:
            runs = {row.state: row for row in connection.execute(_RUNS)}
            items = connection.execute(_ITEMS).one()
        for state in LIVE_RUNS:
            metrics.RUNS.labels(state).set(runs[state].runs if state in runs else 0)
        metrics.RESERVED_MICROS.set(sum(int(row.reserved or 0) for row in runs.values()))
        for held in ITEM_STATES:
            metrics.ITEMS.labels(held).set(int(getattr(items, held) or 0))
