"""The SQL of histories and estimates, on both databases: nothing counts twice, and a run has what was told at its
start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import sqlalchemy as sa

from penstock.runtime.parquet_files import ParquetFiles
from penstock.runtime.schema import migrate
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from planner.domain.active import Change
from planner.domain.history import History, HistoryKey, Outcomes
from planner.estimate_faces import estimates_page
from planner.estimate_rows import EndedRun, EstimateRows, run_estimates
from planner.results.ends import Ended, Ends
from planner.results.history_rows import HistoryRows
from planner.results.rows import Move, ResultRows
from planner.store import PlanRow, SourceRow, Store, plans
from tests.integration.planner.conftest import FakeClock
from tests.servers.schemas import prepared

KEY = HistoryKey("noop", "1", "a=1")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    one = Database(database_url, "planner")
    prepared(one)
    yield one
    one.close()


def measured(count: int, run: str = "run-1", *, cost_micros: int = 0, group: str = "a") -> History:
    return History.of(
        Outcomes(
            run=run,
            run_ms=1,
            max_tries=5,
            groups=[group] * count,
            seconds=np.ones(count),
            cost_micros=np.full(count, float(cost_micros)),
            tries=np.zeros(count, np.int64),
            failed=np.zeros(count, np.bool_),
        )
    )


def move(after: int, settled: int, count: int, number: int = 1) -> Move:
    return Move(number, 0, after, settled, KEY, measured(count, f"run-{number}"))


def kept(rows: ResultRows, *moves: Move) -> None:
    rows.keep(rows.announce(level=0, sha256="0" * 64, row_count=1, now_ms=1), moves)


def items(database: Database) -> int:
    return HistoryRows(database).sizes(["noop"]).get(KEY, 0)


def test_what_lies_behind_a_cursor_counts_no_more(database: Database) -> None:
    rows = ResultRows(database)
    kept(rows, move(0, 10, 10))
    kept(rows, move(0, 10, 10), move(0, 4, 4, number=2))
    assert items(database) == 14
    kept(rows, move(10, 15, 5))
    kept(rows, move(10, 15, 5), move(0, 15, 15))
    assert items(database) == 19
    assert rows.cursors(1) == {0: 15}
    assert HistoryRows(database).read([KEY])[KEY].runs["run-1"].items == 15


def test_records_in_which_something_cost_money_are_known_without_reading_them(database: Database) -> None:
    rows = ResultRows(database)
    kept(rows, move(0, 10, 10))
    assert HistoryRows(database).costly(["noop"]) == set()
    paid = replace(KEY, parameters="paid=true")
    kept(rows, replace(move(0, 4, 4, number=2), key=paid, history=measured(4, cost_micros=7, group='"costs":[]')))
    assert HistoryRows(database).costly(["noop"]) == {paid}
    assert HistoryRows(database).costly(["other"]) == set()


def test_several_planners_at_once_count_once(database: Database) -> None:
    rows = ResultRows(database)
    kept(rows, move(0, 10, 10))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: kept(rows, move(10, 20, 10)), range(4)))
    assert items(database) == 20


def told(seconds: float) -> planner_pb2.Plan:
    spread = planner_pb2.Range(low=seconds, middle=seconds, high=seconds)
    stage = planner_pb2.StageEstimate(groups=[planner_pb2.GroupEstimate(group="a")])
    return planner_pb2.Plan(estimate=planner_pb2.Estimate(runtime_seconds=spread, stages=[stage]))


def planned(database: Database, plan_id: str) -> None:
    store = Store(database)
    store.keep_source(SourceRow("s", 2, 1, 0, 0, "0" * 64, 0, (0,), 0), request_id="", now_ms=0)
    store.keep_plan(PlanRow(plan_id, "s", 2, "", "", (), "0" * 64, 0, 0, None), request_id="", now_ms=0)


def removed(database: Database, plan_id: str) -> None:
    """By whoever knows nothing of estimates."""
    with database.write() as connection:
        assert connection.execute(sa.delete(plans).where(plans.c.plan_id == plan_id)).rowcount == 1


def test_a_run_has_what_was_told_when_it_was_started(database: Database) -> None:
    rows = EstimateRows(database)
    planned(database, "plan-1")
    assert not rows.told_at("plan-1", 100).HasField("runtime_seconds")
    rows.start("plan-1", now_ms=50)  # nothing was told: nothing is kept
    rows.tell("plan-1", told(1), now_ms=100)
    rows.start("plan-1", now_ms=200)
    rows.tell("plan-1", told(2), now_ms=300)
    rows.tell("plan-1", told(3), now_ms=400)
    rows.start("plan-1", now_ms=500)
    rows.start("plan-1", now_ms=600)
    at = {ms: rows.told_at("plan-1", ms).runtime_seconds.low for ms in (150, 250, 450, 510, 700)}
    assert at == {150: 1, 250: 1, 450: 1, 510: 3, 700: 3}
    assert rows.told(["plan-1"], groups=True)["plan-1"] == told(3)
    assert not rows.told(["plan-1", "plan-2"])["plan-1"].estimate.stages[0].groups
    assert rows.sweep() == 0
    assert rows.told_at("plan-1", 700).runtime_seconds.low == 3


def test_what_was_told_of_a_plan_that_is_gone_is_told_of_none_that_is_made_again(database: Database) -> None:
    rows = EstimateRows(database)
    for plan_id in ("plan-1", "plan-2"):
        planned(database, plan_id)
        rows.tell(plan_id, told(1), now_ms=100)
        rows.start(plan_id, now_ms=200)
    removed(database, "plan-1")
    rows.tell("plan-1", told(2), now_ms=300)
    rows.start("plan-1", now_ms=400)  # asked before it went: it is no plan that can be started any more
    assert rows.sweep() == 2, "what is told, and what was at the first start"
    planned(database, "plan-1")
    assert not rows.told_at("plan-1", 500).HasField("runtime_seconds")
    assert rows.told_at("plan-2", 500).runtime_seconds.low == 1


class Said:
    """What the scheduler tells of a run."""

    def __init__(self, run: pb.Run, changes: Sequence[Change]) -> None:
        self._run, self._changes = run, changes

    async def run(self, run_id: str) -> pb.Run:
        return self._run

    async def states(self, run_id: str) -> Sequence[Change]:
        return self._changes


def known_runtimes(database: Database) -> dict[int, float | None]:
    with database.read() as connection:
        return {row.number: row.runtime_seconds for row in connection.execute(sa.select(run_estimates))}


async def test_of_a_run_under_a_clock_that_went_back_nobody_invents_a_runtime(
    database: Database, tmp_path: Path
) -> None:
    rows, files = EstimateRows(database), ParquetFiles(tmp_path, memory="64MB", spill=tmp_path / "spill", what="files")
    ends = Ends(database=database, rows=rows, files=files, store=Store(database), clock=FakeClock())
    run = pb.Run(run_id="run", plan_id="plan-1", state=pb.RUN_STATE_COMPLETED)
    run.start_time.FromMilliseconds(1_000)
    forth, back = [(1_000, "running"), (3_500, "completed")], [(9_000, "running"), (3_500, "completed")]
    for number, changes in enumerate((forth, back), 1):
        await ends.learn(cast("Any", Said(run, changes)), Ended(number=number, run_id="run", settle_number=1), [])
    files.close()
    assert known_runtimes(database) == {1: 2.5, 2: None}


def test_runtimes_that_were_kept_before_they_could_be_unknown_are_read(empty_database_url: str) -> None:
    database = Database(empty_database_url, "planner")
    migrate(database, "0006")
    with database.write() as connection:
        connection.execute(sa.insert(run_estimates).values(ended(1).values()))
    migrate(database)
    rows = EstimateRows(database)
    unknown = replace(ended(2), runtime_seconds=None)
    with database.write() as connection:
        rows.keep_end(connection, unknown)
    assert rows.compared(before=0, limit=10) == [unknown, ended(1)]
    page = estimates_page(rows, before=0, plan_id="", limit=10, notes=[])
    assert [one.HasField("runtime_seconds") for one in page.estimates] == [False, True]
    database.close()


def ended(number: int, state: str = "completed", *, settled: int = 5, known: bool = True) -> EndedRun:
    estimate = told(1).estimate if known else None
    return EndedRun(number, settled, f"run-{number}", "plan-1", "", state, 1_000, estimate, 1.5, 20)


def test_the_last_end_of_a_run_stands_once(database: Database) -> None:
    rows = EstimateRows(database)
    for run in (ended(1), ended(2, "stopped", known=False), ended(3), ended(2, settled=9)):
        with database.write() as connection:
            rows.keep_end(connection, run)
    with database.write() as connection:
        rows.keep_end(connection, ended(2, "failed", settled=12))
    assert rows.ended([1, 2, 4]) == {1: (5, "completed"), 2: (9, "completed")}
    assert rows.compared(before=0, limit=10) == [ended(3), ended(2, settled=9), ended(1)]
    assert [run.number for run in rows.compared(before=3, plan_id="plan-1", limit=1)] == [2]
    assert rows.compared(before=0, plan_id="plan-2", limit=1) == []


def test_moves_of_runs_that_are_copied_for_good_count_no_more(database: Database) -> None:
    rows = ResultRows(database)
    kept(rows, move(0, 10, 10), move(0, 4, 4, number=2))
    rows.finish(2)
    kept(rows, move(0, 10, 10))
    assert items(database) == 14
    kept(rows, move(4, 6, 2, number=2))
    assert items(database) == 16


def test_planners_at_once_say_how_far_a_run_is_copied_and_never_less(database: Database) -> None:
    rows = ResultRows(database)

    def told(settled: int) -> None:
        rows.reached(1, settled)
        rows.finish(settled)

    with ThreadPoolExecutor(4) as pool:
        for first in range(1, 41, 8):
            list(pool.map(told, range(first, first + 8)))
    assert rows.final_below() == 40
    rows.reached(50, 9)
    rows.reached(50, 4)
    assert rows.copied([50]) == {50: 9}
    rows.finish(12)
    assert rows.final_below() == 40, "what one has copied for good the other, who is slow, has not"


def test_the_first_records_of_a_processor_by_several_planners_at_once_all_count(database: Database) -> None:
    rows = ResultRows(database)
    for turn in range(8):
        key = replace(KEY, version=f"{turn}")
        moves = [replace(move(0, 4, 4, number=number), key=key) for number in range(turn * 4 + 1, turn * 4 + 5)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: kept(rows, one), moves))
        assert HistoryRows(database).sizes(["noop"])[key] == 16


def test_planners_that_bring_the_same_processors_in_other_orders_wait_for_each_other_once(database: Database) -> None:
    rows, keys = ResultRows(database), [replace(KEY, version=f"{number}") for number in range(12)]

    def several(first: int) -> None:
        order = keys if first % 200 else keys[::-1]
        kept(rows, *(replace(move(0, 1, 1, number=first + place), key=key) for place, key in enumerate(order)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(several, range(100, 2_500, 100)))
    assert set(HistoryRows(database).sizes(["noop"]).values()) == {24}
