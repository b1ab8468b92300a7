"""What outcomes say of the time and money that items take: a part's record, and what a run's items do not tell.

The scheduler tells of an item when its last attempt began and ended. Where it was tried several times, each try counts
as long as the last; of one that was healed at last, as long as attempts of those that were not. Clocks tell
milliseconds: what began and ended in the same one took half of it. What a clock that was set says, ends before
beginnings and attempts of a year, is no time of anything: such items are not measured.

Imported late: numpy takes a tenth of a second. Calls block. Files that can't be read raise Unavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from penstock.runtime.parquet_files import ParquetFiles, literal
from planner.domain.history import History, Outcomes
from planner.domain.moments import Run, RunFacts, run_facts
from planner.domain.sketch import Floats
from planner.results.parts import outcomes_of_run

__all__ = ["StageRun", "facts_of", "measured"]

LEAST_SECONDS = 0.0005
FACT_ROWS = 1_000_000
"""Of larger runs nobody looks at how long slots stood empty."""
RETRIED_SHARE = 0.02
"""Where more was tried again, slots that seem empty held attempts that nobody tells of."""

USUAL_RUN_SECONDS, LONGEST_TIMES = 600, 100
"""No attempt holds its slot so many times longer than its stage lets it run, whatever it waits for in its worker."""
LONGEST_STARTUP_SECONDS = 300.0
"""Where items name limits: what began later than that waited for one of them."""

_LAST = "(end_ms - start_ms) / 1000.0"
_USUAL = f"avg({_LAST}) FILTER (NOT healed) OVER ()"
_EXECUTED = "CASE WHEN state = 'completed' THEN tries + 1 ELSE greatest(tries, 1) END"


@dataclass(frozen=True)
class StageRun:
    """A run of a stage. run_ms, start_ms: when the run and when its stage began; worked: how long the run worked
    between two times, in seconds; steady: no pause kept slots empty; laned: limits may have."""

    run_id: str
    stage: int
    run_ms: int
    start_ms: int
    max_run_seconds: int
    worked: Callable[[int, int], float | None]
    steady: bool
    laned: bool


def measured(
    files: ParquetFiles, part: Path, *, run_id: str, run_ms: int, max_tries: int, max_run_seconds: int
) -> History:
    """The record of a part that holds outcomes of one stage of one run."""
    with files.cursor() as cursor:
        columns = cursor.execute(
            f'SELECT "group", healed, {_LAST} AS last, coalesce({_USUAL}, {_LAST}) AS usual, '
            f"{_EXECUTED} AS executed, cost_micros::DOUBLE AS cost, tries::BIGINT AS tries, state = 'failed' AS failed "
            f"FROM read_parquet({literal(part.resolve())}) WHERE {_told(max_run_seconds)}"
        ).fetchnumpy()
    last = np.maximum(np.asarray(columns["last"], np.float64), LEAST_SECONDS)
    before = np.where(columns["healed"], np.maximum(np.asarray(columns["usual"], np.float64), LEAST_SECONDS), last)
    return History.of(
        Outcomes(
            run=run_id,
            run_ms=run_ms,
            max_tries=max_tries,
            groups=np.asarray(columns["group"]).tolist(),
            seconds=last + before * (np.asarray(columns["executed"], np.float64) - 1.0),
            cost_micros=np.maximum(np.asarray(columns["cost"], np.float64), 0.0),
            tries=np.asarray(columns["tries"], np.int64),
            failed=np.asarray(columns["failed"], np.bool_),
        )
    )


def facts_of(files: ParquetFiles, parts: Sequence[Path], of: StageRun) -> History | None:
    """A record of what the items of a run's stage do not tell, to be added to theirs; None where nothing is known."""
    rows = f"{outcomes_of_run(parts, of.run_id)} WHERE stage = {int(of.stage)} AND {_told(of.max_run_seconds)}"
    with files.cursor() as cursor:
        count, first, again = cursor.execute(
            f"SELECT count(*), min(start_ms), sum({_EXECUTED} - 1) FROM {rows}"
        ).fetchall()[0]
        if not count:
            return None
        startup = of.worked(of.start_ms, max(first, of.start_ms))
        if startup is None or (of.laned and startup > LONGEST_STARTUP_SECONDS):
            return None
        facts: RunFacts | None = RunFacts(startup)
        if of.steady and not of.laned and count <= FACT_ROWS and again <= RETRIED_SHARE * count:
            told = cursor.execute(f"SELECT start_ms, end_ms FROM {rows}").fetchnumpy()
            begins = (np.asarray(told["start_ms"], np.int64) - of.start_ms) / 1000
            ends = np.maximum((np.asarray(told["end_ms"], np.int64) - of.start_ms) / 1000, begins)
            found = run_facts(begins, ends, start_seconds=0.0, slots=_at_once(begins, ends))
            facts = replace(found, startup_seconds=startup) if found is not None else facts
    return History(runs={of.run_id: Run(of.run_ms, 0, {}, facts)})


def _told(max_run_seconds: int) -> str:
    """Of an outcome: that it tells how long it took."""
    longest_ms = max(max_run_seconds, USUAL_RUN_SECONDS) * LONGEST_TIMES * 1000
    return f"end_ms - start_ms BETWEEN 0 AND {int(longest_ms)}"


def _at_once(begins: Floats, ends: Floats) -> int:
    """The most items that held slots at one time: what the run could use, whoever bounded it."""
    times = np.concatenate([ends, begins])
    steps = np.repeat([-1, 1], begins.size)
    order = np.argsort(times, kind="stable")
    return max(int(np.cumsum(steps[order]).max()), 1)
