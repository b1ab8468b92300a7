"""The locked run: the unit in which everything of a run changes.

`lock` takes the run's row (FOR UPDATE; on SQLite the transaction is IMMEDIATE), so whoever holds a unit is alone with
the run: counters, states, event and settle numbers change in memory and are written once by `flush`, in the caller's
transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
import sqlalchemy as sa

from penstock.runtime import metrics
from scheduler.domain.progress import run_end, stage_end
from scheduler.domain.states import (
    ENDED_STAGES,
    RUN_TABLE,
    STAGE_TABLE,
    Mode,
    RunEvent,
    RunState,
    StageEvent,
    StageState,
    advance,
)
from scheduler.store import exclusive, money
from scheduler.store.effects import Effects
from scheduler.store.rows import (
    RUN_CHANGES,
    RUN_COLUMNS,
    STAGE_CHANGES,
    STAGE_COLUMNS,
    RunRow,
    StageRow,
    gate_of,
    progress_of,
    queued_of,
)
from scheduler.store.schema import items
from scheduler.store.stage_rules import stage_rules
from scheduler.store.statements import Statement

__all__ = ["RUN_COLUMNS", "STAGE_COLUMNS", "RunRow", "RunUnit", "StageRow", "Units", "lock", "progress_of"]


def _names(columns: Sequence[sa.Column[Any]]) -> str:
    return ", ".join(column.name for column in columns)


_LOCK = Statement(
    f"SELECT {_names(RUN_COLUMNS)} FROM runs WHERE number = :n",
    postgresql=f"SELECT {_names(RUN_COLUMNS)} FROM runs WHERE number = :n FOR UPDATE",
)
_STAGES = Statement(f"SELECT {_names(STAGE_COLUMNS)} FROM stages WHERE run = :n ORDER BY stage")
_TELL = Statement(
    "INSERT INTO events (run, number, time_ms, type, subject, actor, old_state, new_state, reason, data) "
    "VALUES (:run, :number, :time_ms, :type, :subject, :actor, :old_state, :new_state, :reason, :data)"
)
_ERRORS = (
    sa.select(items.c.error)
    .where(items.c.run == sa.bindparam("n"), items.c.stage == sa.bindparam("s"), items.c.settle_number.is_not(None))
    .distinct()
    .limit(2)
)


@lru_cache(maxsize=1_024)
def _write(table: str, where: str, columns: tuple[str, ...]) -> Statement:
    """Writes what changed of a row, and no more: a run has many columns, and a batch of items changes few."""
    return Statement(f"UPDATE {table} SET {', '.join(f'{name} = :{name}' for name in columns)} WHERE {where}")


@dataclass
class RunUnit:
    """A run under its lock. `now_ms` is the time of everything that this transaction says."""

    connection: sa.Connection
    run: RunRow
    stages: list[StageRow]
    now_ms: int
    transitions: int = 0
    prices: dict[tuple[int, Mode], int | None] = field(default_factory=dict)
    _bills: dict[int, money.Bill] = field(default_factory=dict)
    _events: list[dict[str, Any]] = field(default_factory=list)
    _before: tuple[object, ...] = ()
    _before_stages: list[tuple[object, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._before = _values(self.run, RUN_CHANGES)
        self._before_stages = [_values(stage, STAGE_CHANGES) for stage in self.stages]

    def emit(
        self,
        type_: str,
        *,
        subject: str = "",
        actor: str = "scheduler",
        old: str = "",
        new: str = "",
        reason: str = "",
        data: dict[str, object] | None = None,
    ) -> None:
        """Adds the run's next event to this transaction."""
        self.run.event_number += 1
        self._events.append(
            {
                "run": self.run.number,
                "number": self.run.event_number,
                "time_ms": self.now_ms,
                "type": type_,
                "subject": subject,
                "actor": actor,
                "old_state": old,
                "new_state": new,
                "reason": reason[:2000],
                "data": orjson.dumps(data or {}),
            }
        )

    def move_run(self, event: RunEvent, *, actor: str = "scheduler", reason: str = "") -> None:
        """Advances the run's state, with its event. Raises IllegalTransition."""
        old = RunState(self.run.state)
        new = advance(RUN_TABLE, old, event)
        self.run.state = new
        if new is not RunState.WAITING:
            self.run.waiting, self.run.needs_micros = "", None
        if new is RunState.RUNNING:
            self.run.start_ms = self.run.start_ms or self.now_ms
            self.run.end_ms = None
            self.run.error = ""
        elif event in _ENDS_RUN:
            self.run.end_ms = self.now_ms
            self.run.error = reason if new in (RunState.FAILED, RunState.STOPPED) else ""
            exclusive.free(self.connection, self.run.number)
        self.transitions += 1
        self.emit("run.state", actor=actor, old=old, new=new, reason=reason)

    def move_stage(self, stage: StageRow, event: StageEvent, *, actor: str = "scheduler", reason: str = "") -> None:
        """Advances a stage's state, with its event. Raises IllegalTransition."""
        old = StageState(stage.state)
        new = advance(STAGE_TABLE, old, event)
        stage.state = new
        if new is StageState.RUNNING:
            stage.start_ms = stage.start_ms or self.now_ms
            stage.end_ms = None
        else:
            stage.end_ms = self.now_ms if new in ENDED_STAGES else None
        if old is StageState.RUNNING:
            self.bill(stage).close()
            money.learn(self, stage)
        if event in (StageEvent.REOPEN, StageEvent.REOPEN_UNBEGUN):
            stage.failing = ""
        stage.error = reason if new is StageState.FAILED else ""
        # What the stage leaves is what it says; rows that wait stay as they are (domain/shown.py).
        if new in (StageState.SKIPPED, StageState.FAILED):
            stage.skipped += queued_of(stage)
        elif new is StageState.STOPPED:
            stage.stopped += queued_of(stage)
        self.transitions += 1
        self.emit("stage.state", subject=f"stage:{stage.stage}", actor=actor, old=old, new=new, reason=reason)

    def begin_stage(self, stage: StageRow, *, actor: str = "scheduler") -> None:
        """Begins a pending stage, or asks its gate first; the run then waits, and a paused one once it is resumed. What
        has begun before is not asked again."""
        gate = gate_of(stage)
        if gate is None or stage.start_ms is not None:
            self.move_stage(stage, StageEvent.BEGIN, actor=actor)
            return
        stage.gate_ms = self.now_ms
        stage.gate_due_ms = self.now_ms + int(gate.timeout_seconds * 1000) if gate.timeout_seconds else None
        self.move_stage(stage, StageEvent.ASK, actor=actor, reason=f"gate {gate.name}")
        self.wait_at_gate()

    def wait_at_gate(self) -> None:
        """A running run of which one stage waits at its gate, and none runs, is waiting."""
        waiting = [stage for stage in self.stages if stage.state == StageState.WAITING]
        if self.run.state != RunState.RUNNING or not waiting or self._any(StageState.RUNNING):
            return
        gate = gate_of(waiting[0])
        self.run.waiting = f"gate {gate.name}" if gate else "gate"
        self.move_run(RunEvent.WAIT, reason=self.run.waiting)

    def _any(self, state: StageState) -> bool:
        return any(stage.state == state for stage in self.stages)

    def settle_up(self) -> None:
        """After counters changed: ends the stages that are done, begins the next or ends the run; ends a stop that is
        quiet. Two stages may run at once: items of an earlier one may be retried while a later one runs.
        """
        if self.run.state == RunState.STOPPING:
            if not any(stage.running for stage in self.stages):
                self.finish_stop(RunEvent.QUIESCED, reason=self.run.error or "stopped by an operator")
            return
        if self.run.state not in (RunState.RUNNING, RunState.PAUSED, RunState.WAITING):
            return
        for stage in self.stages:
            if stage.state == StageState.RUNNING:
                event = stage_end(progress_of(stage), stage.failing)
                if event is not None:
                    reason = self._why_failed(stage) if event is StageEvent.FAIL else ""
                    self.move_stage(stage, event, reason=reason)
        self.go_on()
        self.wait_at_gate()
        self._wait_for_money()

    def look_again(self, *, head_moved: bool = False) -> bool:
        """After a cap was raised, a price was set or money came back: goes on when it is enough; returns whether it
        does. What was proposed while the run was held is void, and its windows are opened anew. head_moved: another
        item may come first now, and nobody knows yet what it needs."""
        if not self.run.waiting.startswith(money.BUDGET) or not (head_moved or money.look_again(self)):
            return False
        waited, self.run.waiting, self.run.needs_micros = self.run.waiting, "", None
        self.run.epoch += 1
        if self.run.state == RunState.WAITING:
            self.move_run(RunEvent.GO_ON, reason="there is money again")
        else:
            self.transitions += 1
            self.emit("budget.freed", reason=f"there is money again; before, {waited}")
        return True

    def _wait_for_money(self) -> None:
        """A run that is held by a budget goes on when money came back, and waits when nothing of it runs."""
        if not self.run.waiting.startswith(money.BUDGET) or self.look_again():
            return
        if self.run.state == RunState.RUNNING and not any(stage.running for stage in self.stages):
            # What waits keeps its words: they are cleared by every move but this one.
            self.move_run(RunEvent.WAIT, reason=self.run.waiting)

    def bill(self, stage: StageRow) -> money.Bill:
        """What this transaction says of a stage's money."""
        if stage.stage not in self._bills:
            self._bills[stage.stage] = money.Bill(self, stage)
        return self._bills[stage.stage]

    def go_on(self) -> None:
        """Where no stage runs or waits: begins the next one, or ends the run after the last."""
        for before, stage in zip([None, *self.stages], self.stages, strict=False):
            if stage.state in (StageState.RUNNING, StageState.WAITING):
                return
            if stage.state == StageState.PENDING:
                if before is None or _begins(stage, before):
                    self.begin_stage(stage)
                    if stage.state == StageState.RUNNING and stage_end(progress_of(stage), stage.failing):
                        self.settle_up()  # it has no items, or each was skipped before its turn came
                    return
                done = f"{before.state}, {before.completed} of {before.total} items completed"
                self.move_stage(stage, StageEvent.SKIP, reason=f"stage {before.stage} {done}")
        failed = next((stage for stage in self.stages if stage.state == StageState.FAILED), None)
        failures = sum(stage.failed for stage in self.stages)
        why = f"stage {failed.stage} ({failed.processor}): {failed.error}" if failed else ""
        self.move_run(run_end(failed is not None, failures), reason=why)

    def _why_failed(self, stage: StageRow) -> str:
        """The items' own error where it is one and the same, after what became of the stage."""
        if stage.failing:
            return stage.failing
        errors = self.connection.execute(_ERRORS, {"n": stage.run, "s": stage.stage}).scalars().all()
        same = f": {errors[0]}" if len(errors) == 1 and errors[0] else ""
        return f"none of {stage.total} items completed{same}"

    def finish_stop(self, event: RunEvent, *, actor: str = "scheduler", reason: str) -> None:
        """Nothing runs any more: what is left is stopped, and so are its stages and the run."""
        for stage in self.stages:
            if stage.state not in (StageState.RUNNING, StageState.PENDING, StageState.WAITING):
                continue
            self.move_stage(stage, StageEvent.STOP, actor=actor, reason=reason)
        self.move_run(event, actor=actor, reason=reason)

    def flush(self) -> None:
        """Writes what changed, once, in the caller's transaction."""
        for bill in self._bills.values():
            bill.close()
        now = _values(self.run, RUN_CHANGES)
        changes = _changes(RUN_CHANGES, self._before, now)
        if changes:
            statement = _write("runs", "number = :n", tuple(changes))
            statement.run(self.connection, {"n": self.run.number, **changes})
            self._before = now
        for index, stage in enumerate(self.stages):
            now = _values(stage, STAGE_CHANGES)
            changes = _changes(STAGE_CHANGES, self._before_stages[index], now)
            if changes:
                _count_money(stage, self._before_stages[index])
                statement = _write("stages", "run = :n AND stage = :s", tuple(changes))
                statement.run(self.connection, {"n": stage.run, "s": stage.stage, **changes})
                self._before_stages[index] = now
        self.prices.clear()
        if self._events:
            _TELL.run_many(self.connection, self._events)
            for event in self._events:
                metrics.EVENTS.labels(event["type"]).inc()
            self._events = []


_SPENT, _OVERRUN = STAGE_CHANGES.index("spent_micros"), STAGE_CHANGES.index("overrun_micros")


def _count_money(stage: StageRow, before: tuple[Any, ...]) -> None:
    """Tells metrics what was spent; a correction downwards is not told."""
    if stage.spent_micros > before[_SPENT]:
        metrics.SPENT_MICROS.labels(stage.processor).inc(stage.spent_micros - before[_SPENT])
    if stage.overrun_micros > before[_OVERRUN]:
        metrics.OVERRUN_MICROS.labels(stage.processor).inc(stage.overrun_micros - before[_OVERRUN])


_ENDS_RUN = frozenset(
    {
        RunEvent.QUIESCED,
        RunEvent.FORCE_STOP,
        RunEvent.COMPLETE,
        RunEvent.COMPLETE_WITH_FAILURES,
        RunEvent.FAIL,
        RunEvent.REJECT,
    }
)


def _begins(stage: StageRow, before: StageRow) -> bool:
    rules = stage_rules(stage.rules)
    failed = before.state != StageState.COMPLETED
    return rules.begins_after(failed=failed, completed=before.completed, total=before.total)


def _values(row: RunRow | StageRow, names: Iterable[str]) -> tuple[object, ...]:
    return tuple([getattr(row, name) for name in names])


def _changes(names: Sequence[str], before: tuple[object, ...], now: tuple[object, ...]) -> dict[str, object]:
    if before == now:
        return {}
    return {name: new for name, old, new in zip(names, before, now, strict=True) if old != new}


def lock(connection: sa.Connection, number: int, now_ms: int) -> RunUnit | None:
    """The run `number` under its lock, or None when there is no such run. Callers lock several in order of number."""
    rows = _LOCK.rows(connection, {"n": number})
    if not rows:
        return None
    found = [StageRow(*stage) for stage in _STAGES.rows(connection, {"n": number})]
    return RunUnit(connection, RunRow(*rows[0]), found, now_ms)


@dataclass
class Units:
    """The runs that one call locks: each is read once and written once, whatever parts of the call work on it."""

    connection: sa.Connection
    now_ms: int
    _locked: dict[int, RunUnit | None] = field(default_factory=dict)

    def lock(self, *numbers: int) -> None:
        """Locks these in order of number; a later lock of a lower one might meet another transaction's."""
        for number in sorted(set(numbers)):
            self.get(number)

    def get(self, number: int) -> RunUnit | None:
        """The run under its lock, or None when there is no such run."""
        if number not in self._locked:
            self._locked[number] = lock(self.connection, number, self.now_ms)
        return self._locked[number]

    def finish(self, effects: Effects) -> None:
        """Writes what changed, and tells whom it concerns."""
        for number, unit in self._locked.items():
            if unit is not None:
                unit.flush()
                effects.learned.update({(number, stage.stage): stage.uses for stage in unit.stages if stage.uses})
                effects.changed.add(number)
                if unit.transitions:
                    effects.moved.add(number)
