"""A run whose rows are written straight into SQL, as many as a test wants, in the states of a run that is half done."""

from __future__ import annotations

import sqlalchemy as sa

from penstock.runtime.sql import Database
from scheduler.store.schema import failures, runs, stages, throughput

__all__ = ["NOW", "RUNNING", "fill_half", "fill_rows"]

NOW = 1_700_000_000_000
RUNNING = 400
FAILED_EACH = 1_000
GROUPS = 1_001

# One statement, made by the database itself: completed, every FAILED_EACH-th failed, the last ones running.
_ITEMS_HEAD = """
INSERT INTO items (run, stage, seq, key, grp, state, attempt, tries, suspect, session, grant_number, start_ms, end_ms,
  settle_number, error_kind, error, result, fingerprint, mode, heals, healed, reserved_micros, cost_micros)
SELECT :run, 0, n, 'k' || n, 'g' || (n % 100),
  CASE WHEN n >= :done THEN 'running' WHEN n % :each = 0 THEN 'failed' ELSE 'completed' END,
  1, 0, 0, 'session-1', 1, :now - (:half - n), CASE WHEN n >= :done THEN NULL ELSE :now END,
  CASE WHEN n >= :done THEN NULL ELSE n + 1 END, CASE WHEN n < :done AND n % :each = 0 THEN 'item' END,
  CASE WHEN n < :done AND n % :each = 0 THEN 'it broke' END, :result,
  CASE WHEN n < :done AND n % :each = 0 THEN 'aa' END, 1, 0, false, 0, 0
"""
_ITEMS_SQLITE = sa.text(
    "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :half)"
    + _ITEMS_HEAD
    + "FROM numbers WHERE true ON CONFLICT (run, stage, seq) DO NOTHING"
)
_ITEMS_POSTGRESQL = sa.text(
    _ITEMS_HEAD + "FROM generate_series(0, :half - 1) AS numbers(n) ON CONFLICT (run, stage, seq) DO NOTHING"
)


def fill_half(database: Database, run_id: str, number: int, total: int) -> None:
    """A run of `total` items, half of which have rows: RUNNING of them run. Its failures have as many groups as a
    stage may have."""
    with database.write() as connection:
        connection.execute(
            sa.insert(runs).values(
                number=number, run_id=run_id, plan_id="plan-1", source_id="source-1", kind=1, name="", granularity="",
                state="running", epoch=0, event_number=0, settle_number=0, error="", create_ms=NOW - 3_600_000,
                start_ms=NOW - 3_600_000,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(stages).values(
                run=number, stage=0, processor="noop", processor_version="1", parameters=b"{}", concurrency=RUNNING,
                max_tries=5, max_run_seconds=60, worker_class="default", state="running", total=total, running=0,
                cursor=0, error="", start_ms=NOW - 3_600_000,
            )
        )  # fmt: skip
    fill_rows(database, number, total, now_ms=NOW)


def fill_rows(database: Database, number: int, total: int, *, now_ms: int) -> None:
    """Makes the first stage of a run, of which nothing runs, one that is half done."""
    half, done = total // 2, total // 2 - RUNNING
    failed = -(-done // FAILED_EACH)
    with database.write() as connection:
        statement = _ITEMS_SQLITE if database.is_sqlite else _ITEMS_POSTGRESQL
        values = {"run": number, "half": half, "done": done, "each": FAILED_EACH, "now": now_ms}
        connection.execute(statement, {**values, "result": b'{"ok":true}'})
        connection.execute(sa.update(runs).where(runs.c.number == number).values(settle_number=done))
        counters = {"running": RUNNING, "completed": done - failed, "failed": failed, "cursor": half}
        connection.execute(sa.update(stages).where(stages.c.run == number, stages.c.stage == 0).values(**counters))
        connection.execute(
            sa.insert(failures),
            [
                {
                    "run": number, "stage": 0, "fingerprint": f"{n:012x}", "kind": "item", "count": n % 50 + 1,
                    "seq": n, "key": f"k{n}", "error": "it broke " * 50, "first_ms": now_ms - 5_000,
                    "last_ms": now_ms - n,
                }
                for n in range(GROUPS)
            ],
        )  # fmt: skip
        minute = now_ms // 60_000
        connection.execute(sa.delete(throughput).where(throughput.c.run == number))
        connection.execute(
            sa.insert(throughput),
            [{"run": number, "minute": minute - back, "settled": done // 60} for back in range(60)],
        )
