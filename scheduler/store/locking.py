"""Locking runs: each is read whole under its lock, and written once.

A lock takes the run's row (FOR UPDATE; on SQLite the transaction is IMMEDIATE) until the transaction ends. Who locks
several does so in order of number, so that no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from scheduler.store.effects import Effects, StageKey
from scheduler.store.rows import RUN_COLUMNS, STAGE_COLUMNS, RunRow, StageRow
from scheduler.store.statements import Asked, Rows, Statement, array, together
from scheduler.store.unit import LAST_SEQ, RunUnit, seq_of

__all__ = ["Units", "hold", "lock"]


def _names(columns: Sequence[sa.Column[Any]]) -> str:
    return ", ".join(column.name for column in columns)


# A run whole, locked until the end of the transaction.
_LOCK = Statement(
    f"SELECT {_names(RUN_COLUMNS)} FROM runs WHERE number = :n",
    postgresql=f"SELECT {_names(RUN_COLUMNS)} FROM runs WHERE number = :n FOR UPDATE",
)
# Lock runs in order of number, before anything else is locked.
_HOLD = Statement("SELECT number FROM runs WHERE number = ANY(CAST(:numbers AS bigint[])) ORDER BY number FOR UPDATE")
# Its stages, under the same lock.
_STAGES = Statement(f"SELECT {_names(STAGE_COLUMNS)} FROM stages WHERE run = :n ORDER BY stage")


def lock(connection: sa.Connection, number: int, now_ms: int) -> RunUnit | None:
    """The run `number` under its lock, or None when there is no such run."""
    return Units(connection, now_ms).get(number)


def _locking(number: int, leases_of: Sequence[int]) -> list[Asked]:
    last = [(LAST_SEQ, {"run": number, "stage": stage}) for stage in leases_of]
    return [(_LOCK, {"n": number}), (_STAGES, {"n": number}), *last]


def _locked(
    connection: sa.Connection, answers: Iterator[Rows], now_ms: int, leases_of: Sequence[int]
) -> RunUnit | None:
    """The run of which these are the answers; as many are taken as were asked for it."""
    rows, found = next(answers), next(answers)
    last_seqs = {stage: seq_of(next(answers)) for stage in leases_of}
    if not rows:
        return None
    run, stages = RunRow(*rows[0]), [StageRow(*stage) for stage in found]
    return RunUnit(connection, run, stages, now_ms, last_seqs)


def hold(connection: sa.Connection, numbers: Iterable[int]) -> None:
    """Locks these runs, in order of number, and reads nothing of them. PostgreSQL alone needs it: on SQLite the
    transaction has them all."""
    together(connection, [(_HOLD, {"numbers": array(numbers, "bigint")})])


@dataclass
class Units:
    """The runs that one call locks: each is read once and written once, whatever parts of the call work on it.
    leases_of: the stages that it will lease from."""

    connection: sa.Connection
    now_ms: int
    leases_of: Collection[StageKey] = ()
    _locked: dict[int, RunUnit | None] = field(default_factory=dict)

    def lock(self, *numbers: int, asked: Sequence[Asked] = ()) -> list[Rows]:
        """Locks these in order of number (a later lock of a lower one might meet another transaction's), and answers
        what is asked besides, after them; all in one exchange with the server."""
        stages = {number: self._stages(number) for number in sorted(set(numbers) - self._locked.keys())}
        locking = [one for number, leased in stages.items() for one in _locking(number, leased)]
        answers = iter(together(self.connection, [*locking, *asked]))
        for number, leased in stages.items():
            self._locked[number] = _locked(self.connection, answers, self.now_ms, leased)
        return list(answers)

    def get(self, number: int) -> RunUnit | None:
        """The run under its lock, or None when there is no such run."""
        if number not in self._locked:
            self.lock(number)
        return self._locked[number]

    def _stages(self, number: int) -> list[int]:
        return [stage for run, stage in self.leases_of if run == number]

    def finish(self, effects: Effects) -> None:
        """Writes what changed, and tells whom it concerns."""
        self.leave(effects)
        together(self.connection, effects.writes)
        effects.writes.clear()

    def leave(self, effects: Effects) -> None:
        """Tells whom it concerns, and leaves what changed to be written when the call is over."""
        for number, unit in self._locked.items():
            if unit is not None:
                effects.writes += unit.unwritten(effects)
                effects.learned.update({(number, stage.stage): stage.uses for stage in unit.stages if stage.uses})
                effects.changed.add(number)
                if unit.transitions:
                    effects.moved.add(number)
