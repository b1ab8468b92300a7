"""Gates: the stages that wait for a person's yes or no, their answers, and what time answers for nobody.

A stage at its gate is `waiting`, and so is its run (or it is paused). Yes begins the stage; no stops the run, which can
be resumed and then asks again. All of it happens under the run's lock: of two answers the second is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime.errors import Conflict, InvalidInput, NotFound
from penstock.v1.rules_pb2 import GATE_ANSWER_APPROVE, GATE_ANSWER_REJECT, GateAnswer, GateRules
from scheduler.domain.states import ENDED_RUNS, RunEvent, RunState, StageEvent, StageState
from scheduler.store.effects import Effects
from scheduler.store.locking import lock
from scheduler.store.rows import STAGE_COLUMNS, StageRow, gate_of
from scheduler.store.schema import runs, stages
from scheduler.store.statements import Statement
from scheduler.store.unit import RunUnit

__all__ = ["WaitingGate", "answer", "overdue", "time_out", "waiting"]

LIMIT = 100
_WORDS = {GATE_ANSWER_APPROVE: "approved", GATE_ANSWER_REJECT: "rejected"}
# From the few runs that may wait to their stages by key, never through all stages.
_WAITING = runs.join(stages, stages.c.run == runs.c.number)
_MAY_WAIT = (runs.c.state.in_([RunState.WAITING, RunState.PAUSED]), stages.c.state == StageState.WAITING)
# Runs with a gate that waits and is due, by the index on the states of runs.
_OVERDUE = Statement.of(
    sa.select(runs.c.number)
    .select_from(_WAITING)
    .where(*_MAY_WAIT, stages.c.gate_due_ms <= sa.bindparam("now", type_=sa.BigInteger))
    .distinct()
    .order_by(runs.c.number)
    .limit(LIMIT)
)


@dataclass(frozen=True)
class WaitingGate:
    """A stage that waits, with its run's id and its gate's rules."""

    run_id: str
    stage: StageRow
    gate: GateRules


def answer(unit: RunUnit, name: str, given: GateAnswer.ValueType, *, actor: str, reason: str) -> None:
    """Begins the stage that waits at this gate, or stops the run. Raises NotFound, Conflict, InvalidInput."""
    if given not in _WORDS:
        raise InvalidInput("the answer to a gate is approve or reject", code="bad_gate_answer")
    stage = _stage_at(unit, name)
    why = f"gate {name} {_WORDS[given]} by {actor}" + (f": {reason}" if reason else "")
    unit.emit(f"gate.{_WORDS[given]}", subject=f"stage:{stage.stage}", actor=actor, reason=reason, data={"gate": name})
    stage.gate_due_ms = None
    if given == GATE_ANSWER_REJECT:
        unit.run.epoch += 1
        unit.finish_stop(RunEvent.REJECT, actor=actor, reason=why)
        return
    unit.move_stage(stage, StageEvent.BEGIN, actor=actor, reason=why)
    if unit.run.state == RunState.WAITING:
        unit.move_run(RunEvent.GO_ON, actor=actor, reason=why)
    unit.settle_up()  # each of its items may have been skipped meanwhile


def _stage_at(unit: RunUnit, name: str) -> StageRow:
    gates = [(stage, gate.name) for stage in unit.stages if (gate := gate_of(stage)) is not None]
    there = ", ".join(known for _, known in gates)
    found = next((stage for stage, known in gates if known == name), None)
    if found is None:
        raise NotFound(
            f"run {unit.run.run_id} has no gate {name!r}; " + (f"its gates: {there}" if there else "it has none"),
            code="gate_not_found",
        )
    if found.state == StageState.WAITING:
        return found
    if RunState(unit.run.state) in ENDED_RUNS:
        text = f"run {unit.run.run_id} is {unit.run.state}, so no gate of it waits"
        raise Conflict(text, code="run_ended", state=unit.run.state)
    now = next((known for stage, known in gates if stage.state == StageState.WAITING), None)
    what = f"it waits at gate {now!r}" if now else f"its stage {found.stage} is {found.state}"
    raise Conflict(
        f"gate {name!r} of run {unit.run.run_id} does not wait for an answer; {what}",
        code="gate_not_waiting",
        state=unit.run.state,
    )


def overdue(connection: sa.Connection, now_ms: int) -> list[int]:
    """Numbers of runs with a gate whose time is over; for a reader, so that the sweep writes only when there is one."""
    return [number for (number,) in _OVERDUE.rows(connection, {"now": now_ms})]


def time_out(connection: sa.Connection, effects: Effects, now_ms: int) -> int:
    """Gives every gate whose time is over its default answer; returns how many."""
    count = 0
    for number in overdue(connection, now_ms):
        unit = lock(connection, number, now_ms)
        if unit is None:
            continue
        for stage in unit.stages:
            # Read again under the lock: a person may have answered meanwhile.
            if stage.state != StageState.WAITING or stage.gate_due_ms is None or stage.gate_due_ms > now_ms:
                continue
            gate = gate_of(stage)
            if gate is not None:
                default = gate.default_answer or GATE_ANSWER_REJECT
                answer(unit, gate.name, default, actor="scheduler", reason="nobody answered in time")
                count += 1
        unit.flush(effects)
        effects.changed.add(number)
        effects.moved.add(number)
    return count


def waiting(
    connection: sa.Connection, *, number: int | None, after: tuple[int, int], limit: int
) -> Sequence[WaitingGate]:
    """Gates that wait now, of one run or of all, in order of (run, stage) after this one."""
    # Stages that wait, oldest run first, by the index on the states of runs.
    query = (
        sa.select(runs.c.run_id, *STAGE_COLUMNS)
        .select_from(_WAITING)
        .where(*_MAY_WAIT, sa.tuple_(runs.c.number, stages.c.stage) > sa.tuple_(*map(sa.literal, after)))
        .order_by(runs.c.number, stages.c.stage)
        .limit(limit)
    )
    if number is not None:
        query = query.where(runs.c.number == number)
    found = []
    for run_id, *row in connection.execute(query):
        stage = StageRow(*row)
        gate = gate_of(stage)
        if gate is not None:
            found.append(WaitingGate(run_id, stage, gate))
    return found
