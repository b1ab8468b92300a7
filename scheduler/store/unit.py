"""The locked run: the unit in which everything of a run changes.

Whoever holds a unit is alone with the run (see `locking`): counters, states, event and settle numbers change in memory
and are written once by `flush`, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.words import counted
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
    STAGE_CHANGES,
    RunRow,
    StageRow,
    gate_of,
    progress_of,
    queued_of,
)
from scheduler.store.schema import items
from scheduler.store.stage_rules import stage_rules
from scheduler.store.statements import Asked, Rows, Statement, together

__all__ = ["LAST_SEQ", "RunUnit", "seq_of"]


# The last item of a stage that has a row.
LAST_SEQ = Statement("SELECT seq FROM items WHERE run = :run AND stage = :stage ORDER BY seq DESC LIMIT 1")
# Add an event.
_TELL = Statement(
    "INSERT INTO events (run, number, time_ms, type, subject, actor, old_state, new_state, reason, data) "
    "VALUES (:run, :number, :time_ms, :type, :subject, :actor, :old_state, :new_state, :reason, :data)"
)
# Whether all items of a stage ended with one and the same error.
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
    """A run under its lock. `now_ms` is the time of everything that this transaction says; `last_seqs`: by stage, what
    `last_seq` was when it was locked, of those from which its transaction leases."""

    connection: sa.Connection
    run: RunRow
    stages: list[StageRow]
    now_ms: int
    last_seqs: dict[int, int] = field(default_factory=dict)
    transitions: int = 0
    prices: dict[tuple[int, Mode], int | None] = field(default_factory=dict)
    _bills: dict[int, money.Bill] = field(default_factory=dict)
    _events: list[dict[str, Any]] = field(default_factory=list)
    _writes: list[Asked] = field(default_factory=list)
    _before: tuple[object, ...] = ()
    _before_stages: list[tuple[object, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._before = _values(self.run, RUN_CHANGES)
        self._before_stages = [_values(stage, STAGE_CHANGES) for stage in self.stages]

    def last_seq(self, stage: int) -> int:
        """No item of the stage after this seq has a row, as long as the run is locked; -1: none has."""
        if stage in self.last_seqs:
            return self.last_seqs.pop(stage)  # what is leased now has rows
        writes, self._writes = self._writes, []
        together(self.connection, writes)
        return seq_of(LAST_SEQ.rows(self.connection, {"run": self.run.number, "stage": stage}))

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
        new = advance(RUN_TABLE, old, event, self._story)
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

    def _story(self) -> list[str]:
        """Whose it is, where its stages are, and what this transaction did to them."""
        places = [f"stage {stage.stage} {stage.state}" for stage in self.stages]
        moves = [
            f"{event['subject'] or 'run'} {event['old_state']} -> {event['new_state']}"
            for event in self._events
            if event["type"] in ("run.state", "stage.state")
        ]
        return [f"run {self.run.run_id} {self.run.state} at event {self.run.event_number}", *places, *moves]

    def move_stage(self, stage: StageRow, event: StageEvent, *, actor: str = "scheduler", reason: str = "") -> None:
        """Advances a stage's state, with its event. Raises IllegalTransition."""
        old = StageState(stage.state)
        new = advance(STAGE_TABLE, old, event, self._story)
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
            self._forgive(stage, actor)
        stage.error = reason if new is StageState.FAILED else ""
        # What the stage leaves is what it says; rows that wait stay as they are (domain/shown.py).
        if new in (StageState.SKIPPED, StageState.FAILED):
            stage.skipped += queued_of(stage)
        elif new is StageState.STOPPED:
            stage.stopped += queued_of(stage)
        self.transitions += 1
        self.emit("stage.state", subject=f"stage:{stage.stage}", actor=actor, old=old, new=new, reason=reason)

    def _forgive(self, stage: StageRow, actor: str) -> None:
        """Whoever takes up a stage that passed its tolerance accepts its failures: it counts anew from here."""
        if not stage.failing:
            return
        stage.failing, stage.forgiven = "", stage.failed
        reason = f"{counted(stage.failed, 'failure')} accepted; more count anew against what it tolerates"
        self.emit(
            "stage.forgiven",
            subject=f"stage:{stage.stage}",
            actor=actor,
            reason=reason,
            data={"forgiven": stage.failed},
        )

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

    def add(self, asked: Asked) -> None:
        """Notes a write of the hot path, to be made with the others. Nobody may read what it writes before that."""
        self._writes.append(asked)

    def flush(self, effects: Effects) -> None:
        """Writes what changed, once, in the caller's transaction, whose effects get what is counted of it."""
        together(self.connection, self.unwritten(effects))

    def unwritten(self, effects: Effects) -> list[Asked]:
        """What changed, as statements that whoever asks must carry out, in this order."""
        for bill in self._bills.values():
            bill.close()
        now = _values(self.run, RUN_CHANGES)
        changes = _changes(RUN_CHANGES, self._before, now)
        writes, self._writes = self._writes, []
        if changes:
            writes.append((_write("runs", "number = :n", tuple(changes)), {"n": self.run.number, **changes}))
            self._before = now
        for index, stage in enumerate(self.stages):
            now = _values(stage, STAGE_CHANGES)
            changes = _changes(STAGE_CHANGES, self._before_stages[index], now)
            if changes:
                effects.counts += money.spent_since(stage, self._before_stages[index])
                statement = _write("stages", "run = :n AND stage = :s", tuple(changes))
                writes.append((statement, {"n": stage.run, "s": stage.stage, **changes}))
                self._before_stages[index] = now
        self.prices.clear()
        for event in self._events:
            writes.append((_TELL, event))
            effects.counts.append((metrics.EVENTS.labels(event["type"]), 1))
        self._events = []
        return writes


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


def seq_of(found: Rows) -> int:
    return found[0][0] if found else -1
