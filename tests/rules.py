"""What must hold between the scheduler's rows after every commit, on SQLite and PostgreSQL: checked by scanning.

The simulator, the interleavings, the stateful test and chaos all end with `breaches`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from scheduler.domain.outcomes import Ended
from scheduler.domain.states import ENDED_RUNS, ENDED_STAGES, ItemState
from scheduler.store.schema import attempts, events, exclusive_keys, items, ledger, runs, stages

__all__ = ["Breach", "breaches"]

_Row = sa.Row[*tuple[Any, ...]]
COUNTED = (ItemState.RUNNING, ItemState.RETRY, ItemState.DEFERRED, ItemState.COMPLETED, ItemState.FAILED)
SETTLED = (ItemState.COMPLETED, ItemState.FAILED)
FREE = (Ended.THROTTLED, Ended.DEFERRED, Ended.RELEASED)
"""Ends of attempts that cost no try."""


@dataclass(frozen=True)
class Breach:
    """Which rule fell, about what, and how."""

    rule: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule} {self.subject}: {self.text}"


_EVENTS = sa.select(events.c.run, sa.func.count(), sa.func.min(events.c.number), sa.func.max(events.c.number)).group_by(
    events.c.run
)
_SETTLED = (
    sa.select(
        items.c.run,
        sa.func.count(),
        sa.func.count(items.c.settle_number.distinct()),
        sa.func.max(items.c.settle_number),
    )
    .where(items.c.settle_number.is_not(None))
    .group_by(items.c.run)
)


def breaches(connection: sa.Connection) -> list[Breach]:
    """Every rule that does not hold; of archived runs nothing is asked."""
    found = list(connection.execute(sa.select(runs).where(runs.c.archive.is_(None))))
    numbers = [run.number for run in found]
    by_run: dict[int, list[_Row]] = defaultdict(list)
    for stage in connection.execute(sa.select(stages).where(stages.c.run.in_(numbers)).order_by(stages.c.stage)):
        by_run[stage.run].append(stage)
    return [
        *_counters(connection, by_run),
        *_states(found, by_run),
        *_numbers(connection, found),
        *_tries(connection),
        *_money(connection, found, by_run),
        *_exclusive(connection, found),
    ]


def _counters(connection: sa.Connection, by_run: dict[int, list[_Row]]) -> Iterator[Breach]:
    counts: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    query = sa.select(items.c.run, items.c.stage, items.c.state, sa.func.count()).group_by(
        items.c.run, items.c.stage, items.c.state
    )
    for run, stage, state, count in connection.execute(query):
        counts[run, stage][state] = count
    for run, found in by_run.items():
        for stage in found:
            rows = counts[run, stage.stage]
            said = {state: getattr(stage, state) for state in COUNTED}
            if any(said[state] != rows[state] for state in COUNTED):
                yield Breach("counters", f"{run}/{stage.stage}", f"the stage says {said}, its rows {dict(rows)}")
            if sum(said.values()) + stage.skipped + stage.stopped > stage.total:
                yield Breach("counters", f"{run}/{stage.stage}", f"more than {stage.total} items: {said}")
            if min(*said.values(), stage.skipped, stage.stopped) < 0:
                yield Breach("counters", f"{run}/{stage.stage}", f"below nothing: {said}")
    odd = sa.select(items.c.run, items.c.stage, items.c.seq, items.c.state, items.c.settle_number).where(
        sa.or_(
            sa.and_(items.c.state.in_(SETTLED), items.c.settle_number.is_(None)),
            sa.and_(items.c.state.not_in(SETTLED), items.c.settle_number.is_not(None)),
        )
    )
    for row in connection.execute(odd):
        yield Breach("settled", f"{row[0]}/{row[1]}/{row[2]}", f"{row.state} with settle number {row.settle_number}")


def _states(found: list[_Row], by_run: dict[int, list[_Row]]) -> Iterator[Breach]:
    for run in found:
        states = [stage.state for stage in by_run[run.number]]
        if run.state in ENDED_RUNS:
            if any(stage.running for stage in by_run[run.number]):
                yield Breach("ended", str(run.number), f"the run is {run.state} and items of it run")
            if any(state not in ENDED_STAGES for state in states):
                yield Breach("ended", str(run.number), f"the run is {run.state}, its stages {states}")
        elif all(state in ENDED_STAGES for state in states) and run.state != "stopping":
            yield Breach("ended", str(run.number), f"the run is {run.state}, its stages {states}")


def _numbers(connection: sa.Connection, found: list[_Row]) -> Iterator[Breach]:
    told = {row[0]: row[1:] for row in connection.execute(_EVENTS)}
    settled = {row[0]: row[1:] for row in connection.execute(_SETTLED)}
    for run in found:
        if run.number in told:
            count, first, last = told[run.number]
            if last != run.event_number or count != last - first + 1:
                yield Breach("events", str(run.number), f"{count} of {first} to {last}; the run: {run.event_number}")
        if run.number in settled:
            count, different, last = settled[run.number]
            if different != count or last > run.settle_number:
                yield Breach("settle numbers", str(run.number), f"used twice or above {run.settle_number}")
    twice = (
        sa.select(items.c.run, items.c.stage, items.c.seq, items.c.attempt)
        .join(
            attempts,
            sa.and_(attempts.c.run == items.c.run, attempts.c.stage == items.c.stage, attempts.c.seq == items.c.seq),
        )
        .where(attempts.c.attempt > items.c.attempt)
    )
    for row in connection.execute(twice):
        yield Breach("fence", f"{row[0]}/{row[1]}/{row[2]}", f"an attempt after {row.attempt} has ended")


def _tries(connection: sa.Connection) -> Iterator[Breach]:
    """A try is counted for what failed or was lost, and for nothing else; a retry by hand begins to count anew."""
    counted = (
        sa.select(sa.func.count())
        .where(
            attempts.c.run == items.c.run,
            attempts.c.stage == items.c.stage,
            attempts.c.seq == items.c.seq,
            attempts.c.ended.not_in(FREE),
        )
        .scalar_subquery()
    )
    settled = sa.case((items.c.state.in_(SETTLED), 1), else_=0)
    query = sa.select(items.c.run, items.c.stage, items.c.seq, items.c.tries).where(items.c.tries > counted + settled)
    for row in connection.execute(query):
        yield Breach(
            "tries", f"{row.run}/{row.stage}/{row.seq}", f"{row.tries} are counted, fewer attempts have failed"
        )


def _money(
    connection: sa.Connection,
    found: list[_Row],
    by_run: dict[int, list[_Row]],
) -> Iterator[Breach]:
    sums: dict[tuple[int, int], tuple[int, int]] = {}
    query = sa.select(
        items.c.run,
        items.c.stage,
        sa.func.sum(items.c.cost_micros),
        sa.func.sum(sa.case((items.c.state == ItemState.RUNNING, items.c.reserved_micros), else_=0)),
    ).group_by(items.c.run, items.c.stage)
    for number, stage, cost, reserved in connection.execute(query):
        sums[number, stage] = int(cost), int(reserved)
    written: Counter[tuple[int, int]] = Counter()
    for row in connection.execute(sa.select(ledger)):
        written[row.run, row.stage] += row.micros
        entries = sum(entry[3] for entry in orjson.loads(row.entries))
        if entries != row.micros:
            yield Breach("ledger", f"{row.run}/{row.stage}", f"batch {row.number}: {entries} in entries, {row.micros}")
    for run in found:
        for stage in by_run[run.number]:
            key = run.number, stage.stage
            cost, reserved = sums.get(key, (0, 0))
            if not stage.spent_micros == cost == written[key]:
                yield Breach(
                    "ledger",
                    f"{key[0]}/{key[1]}",
                    f"the stage spent {stage.spent_micros}, its items {cost}, its ledger {written[key]}",
                )
            if stage.reserved_micros != reserved:
                yield Breach("reserved", f"{key[0]}/{key[1]}", f"{stage.reserved_micros}, its items {reserved}")
        spent = sum(stage.spent_micros for stage in by_run[run.number])
        held = sum(stage.reserved_micros for stage in by_run[run.number])
        if run.spent_micros != spent or run.reserved_micros != held:
            yield Breach(
                "ledger",
                str(run.number),
                f"the run says {run.spent_micros} + {run.reserved_micros}, its stages {spent} + {held}",
            )


def _exclusive(connection: sa.Connection, found: list[_Row]) -> Iterator[Breach]:
    states = {run.number: run.state for run in found}
    for row in connection.execute(sa.select(exclusive_keys).where(exclusive_keys.c.held)):
        if states.get(row.run) in ENDED_RUNS:
            yield Breach("exclusive", row.key, f"held by run {row.run}, which is {states[row.run]}")
