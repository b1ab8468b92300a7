"""What people read takes the same time in a run of any size: no statement of it walks through items or events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.runtime.sql import Database
from scheduler.domain.states import ItemState
from scheduler.store import archive, explaining, held, reading, reads, seeing
from scheduler.summary import run_summary
from scheduler.watching import Phases
from tests.integration.scheduler.filled import NOW, RUNNING, fill_half
from tests.servers.schemas import prepared

TOTAL = 40_000
LARGE = ("items", "events", "attempts", "ledger")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    one = Database(database_url, "scheduler")
    prepared(one)
    fill_half(one, "run-1", 1, TOTAL)
    yield one
    one.close()


def told(database: Database, read: Callable[[sa.Connection], object]) -> list[str]:
    """The plans of all statements that `read` makes."""
    made: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        made.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.read() as connection:
            read(connection)
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    plans = []
    with database.read() as connection:
        for statement, parameters in made:
            if "SELECT" in statement:
                rows = connection.exec_driver_sql(explain + statement, parameters).all()
                plans.append("\n".join(str(row[-1]) for row in rows) + f"\n-- {statement}")
    assert plans
    return plans


def walks(database: Database, plan: str) -> bool:
    """Whether a plan goes through all rows of a large table, or of a run, by position."""
    steps = plan.partition("\n-- ")[0]
    if database.is_sqlite:
        return any(f"SCAN {table}" in steps for table in LARGE)
    return any(f"Seq Scan on {table}" in steps for table in LARGE)


READS: dict[str, Callable[[sa.Connection], object]] = {
    "summary": lambda c: run_summary(c, "run-1", Phases(), NOW),
    "failed": lambda c: reads.rows_in_states(c, 1, 0, [ItemState.FAILED], after_seq=-1, up_to_seq=TOTAL, limit=100),
    "waiting": lambda c: reads.rows_in_states(
        c, 1, 0, [ItemState.QUEUED, ItemState.RETRY, ItemState.RUNNING], after_seq=-1, up_to_seq=TOTAL, limit=100
    ),
    "completed": lambda c: reads.rows_in_states(
        c, 1, 0, [ItemState.COMPLETED], after_seq=5_000, up_to_seq=TOTAL, limit=100
    ),
    "page": lambda c: reads.item_rows(c, 1, 0, after_seq=9_000, up_to_seq=9_100, limit=100),
    "outcomes": lambda c: reads.outcome_rows(
        c, 1, 0, after=9_000, states=[ItemState.COMPLETED, ItemState.FAILED], limit=100
    ),
    "events": lambda c: reads.list_events(c, 1, after=50, types=[], limit=100),
    "archived": lambda c: [
        archive.chunk(c, table, 1, 0, after=9_000, width=100) for table in ("items", "attempts", "events", "ledger")
    ],
    "waits": lambda c: explaining.next_due(c, 1, 0, "retry"),
    "waiting, summed up": lambda c: seeing.seen(
        c, 1, NOW, running_of=[], waiting_of=[(0, ItemState.RETRY)], most_running=20, most_groups=20
    ),
    "events of types": lambda c: reads.list_events(c, 1, after=50, types=["run.state", "item.failed"], limit=100),
    "events of an item": lambda c: reads.list_events(c, 1, after=50, types=[], subject="item:0/7", limit=100),
    "moved": lambda c: explaining.last_move(c, 1),
    "startable": lambda c: reading.queued_rows(c, 1, 0, -1, 4_000),
    "running, all": lambda c: held.open_rows(c, 1, 0, ItemState.RUNNING),
    "startable, moved": lambda c: reading.moved_rows(c, 1, 0),
    "explained": lambda c: (
        explaining.item_now(c, 1, 0, 15_000),
        explaining.ahead_of(c, 1, 0, seq=25_000, rank=25_000, low_water=20_000),
        explaining.other_runs(c, 1, "default"),
    ),
}


@pytest.mark.parametrize("name", READS)
def test_no_read_for_people_walks_through_a_run(database: Database, name: str) -> None:
    for plan in told(database, READS[name]):
        assert not walks(database, plan), plan


@pytest.mark.parametrize("name", ["failed", "waiting", "completed", "page", "outcomes", "events", "archived", "moved"])
def test_a_page_is_read_in_the_order_of_an_index_and_ends_there(database: Database, name: str) -> None:
    for plan in told(database, READS[name]):
        steps = plan.partition("\n-- ")[0]
        assert "Sort" not in steps, plan
        assert "TEMP B-TREE" not in steps, plan
        assert "Bitmap" not in steps, plan


def test_running_and_failed_items_are_found_by_their_own_index(database: Database) -> None:
    for name, index in (
        ("summary", "items_open"),
        ("failed", "items_not_completed"),
        ("waiting", "items_open"),
        ("waits", "items_open"),
        ("waiting, summed up", "items_open"),
        ("waiting, summed up", "items_due"),
        ("events of types", "events_type"),
        ("events of an item", "events_subject"),
        ("moved", "events_type"),
        ("startable", "items_open"),
        ("startable, moved", "items_open"),
        ("running, all", "items_open"),
    ):
        plans = [
            plan.partition("\n-- ")[0]
            for plan in told(database, READS[name])
            if "FROM items" in plan or "FROM events" in plan
        ]
        assert plans
        assert any(index in plan for plan in plans), "\n\n".join(plans)
        assert not any("PRIMARY KEY (run=? AND stage=?)" in plan or "items_pkey" in plan for plan in plans), plans


def test_a_summary_of_many_says_what_one_of_few_says(database: Database) -> None:
    with database.read() as connection:
        told = run_summary(connection, "run-1", Phases(), NOW).message
    assert told.run.counts.total == TOTAL
    assert len(told.running) == 20
    assert [item.seq for item in told.running] == list(range(TOTAL // 2 - RUNNING, TOTAL // 2 - RUNNING + 20))
    assert (len(told.failures), told.failure_groups) == (20, 1_001)
    counts = [group.count for group in told.failures]
    assert counts == sorted(counts, reverse=True)
    assert told.eta.known
    assert told.throughput.last_hour > 19_000


def test_failed_items_of_a_large_run_come_in_pages(database: Database) -> None:
    seqs: list[int] = []
    after = -1
    with database.read() as connection:
        while after < TOTAL:
            found, after = reads.rows_in_states(
                connection, 1, 0, [ItemState.FAILED], after_seq=after, up_to_seq=TOTAL, limit=7
            )
            seqs += [row.seq for row in found]
            if len(found) < 7:
                break
    assert seqs == list(range(0, TOTAL // 2 - RUNNING, 1_000))
