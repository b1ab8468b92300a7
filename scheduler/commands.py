"""What operators ask for: start, pause, resume, stop. Each is one transaction, idempotent by its request id.

A command is acknowledged after its commit: from then on it holds, whoever dies. What is already so is answered, not
refused; what the state does not allow is refused with the state and what it allows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime.clock import IdSource
from penstock.runtime.errors import AlreadyExists, Conflict, InvalidInput
from penstock.v1 import planner_pb2
from scheduler.domain.states import (
    ENDED_RUNS,
    RUN_TABLE,
    IllegalTransition,
    ItemState,
    RunEvent,
    RunState,
    StageEvent,
    StageState,
    allowed,
)
from scheduler.engine import Engine
from scheduler.plans import Plans
from scheduler.store.effects import Effects
from scheduler.store.items import ItemRow, Settled, record_attempts, rows_of, settle
from scheduler.store.leases import open_rows
from scheduler.store.reads import find_run
from scheduler.store.schema import requests, runs, stages
from scheduler.store.stopping import reopen_stopped
from scheduler.store.unit import RunUnit, StageRow, lock

__all__ = ["Answer", "Command", "Commands"]

_SETTLED = {RunEvent.PAUSE: RunState.PAUSED, RunEvent.RESUME: RunState.RUNNING}


@dataclass(frozen=True)
class Command:
    """An operator's word about a run: who, why, and the id under which it is said."""

    run_id: str
    actor: str
    reason: str
    request_id: str


@dataclass(frozen=True)
class Answer:
    """number: of the run; changed: whether this call (or the one that it repeats) changed anything."""

    number: int
    changed: bool


class Commands:
    def __init__(self, engine: Engine, plans: Plans, *, new_id: IdSource) -> None:
        self._engine = engine
        self._plans = plans
        self._new_id = new_id

    async def start(self, *, plan_id: str, name: str, actor: str, request_id: str) -> Answer:
        """Makes and begins a run of a plan. Raises NotFound for the plan, InvalidInput when it has nothing to do."""
        plan = await self._plans.keep(plan_id)
        if not plan.stages or not plan.item_count:
            raise InvalidInput(f"plan {plan_id} has no items: nothing to run", code="empty_plan")
        run_id = self._new_id("run")
        digest = _digest("start", plan_id, name)

        def work(connection: sa.Connection, effects: Effects) -> Answer:
            known = _known(connection, request_id, "start", digest)
            if known is not None:
                return known
            number = _insert_run(connection, plan, run_id, name, self._engine.now_ms())
            unit = lock(connection, number, self._engine.now_ms())
            assert unit is not None, number
            unit.emit("run.created", actor=actor, new=RunState.QUEUED, data={"plan_id": plan_id})
            unit.move_run(RunEvent.BEGIN, actor=actor)
            unit.begin_stage(unit.stages[0])
            unit.flush()
            _remember(connection, request_id, "start", digest, run_id, True, self._engine.now_ms())
            effects.changed.add(number)
            effects.moved.add(number)
            return Answer(number, True)

        return await self._engine.commits.run(work)

    async def pause(self, command: Command) -> Answer:
        return await self._do(command, RunEvent.PAUSE)

    async def resume(self, command: Command) -> Answer:
        return await self._do(command, RunEvent.RESUME)

    async def stop(self, command: Command, *, force: bool) -> Answer:
        return await self._do(command, RunEvent.FORCE_STOP if force else RunEvent.STOP)

    async def _do(self, command: Command, event: RunEvent) -> Answer:
        digest = _digest(event, command.run_id, command.reason)

        def work(connection: sa.Connection, effects: Effects) -> Answer:
            known = _known(connection, command.request_id, event, digest)
            if known is not None:
                return known
            number = find_run(connection, run_id=command.run_id)
            unit = lock(connection, number, self._engine.now_ms())
            assert unit is not None, number
            changed = not _already(RunState(unit.run.state), event)
            if changed:
                try:
                    _carry_out(unit, effects, event, command)
                except IllegalTransition as error:
                    raise _refused(unit, event) from error
                unit.flush()
                effects.changed.add(number)
                effects.moved.add(number)
            _remember(connection, command.request_id, event, digest, command.run_id, changed, self._engine.now_ms())
            return Answer(number, changed)

        return await self._engine.commits.run(work)


def _already(state: RunState, event: RunEvent) -> bool:
    if event in (RunEvent.STOP, RunEvent.FORCE_STOP):
        return state is RunState.STOPPED or (state is RunState.STOPPING and event is RunEvent.STOP)
    return _SETTLED[event] is state


def _carry_out(unit: RunUnit, effects: Effects, event: RunEvent, command: Command) -> None:
    if event is not RunEvent.RESUME:
        unit.run.epoch += 1  # what was proposed before this is void, also when the run goes on at once
    if event is RunEvent.FORCE_STOP:
        _force_stop(unit, effects, command)
        return
    reopening = unit.run.state == RunState.STOPPED
    unit.move_run(event, actor=command.actor, reason=command.reason)
    if event is RunEvent.STOP:
        unit.run.error = _by(command, "stopped")
        unit.settle_up()
    elif reopening:
        for stage in unit.stages:
            if stage.state == StageState.STOPPED:
                reopen_stopped(unit.connection, stage.run, stage.stage)
                stage.stopped = 0
                begun = stage.start_ms is not None
                unit.move_stage(stage, StageEvent.REOPEN if begun else StageEvent.REOPEN_UNBEGUN, actor=command.actor)


def _by(command: Command, what: str) -> str:
    return f"{what} by {command.actor}" + (f": {command.reason}" if command.reason else "")


def _force_stop(unit: RunUnit, effects: Effects, command: Command) -> None:
    """Ends what runs without its outcome: from this commit on none is accepted."""
    for stage in unit.stages:
        if stage.state != StageState.RUNNING:
            continue
        places = open_rows(unit.connection, stage.run, stage.stage, ItemState.RUNNING)
        rows = list(rows_of(unit.connection, stage.run, stage.stage, [seq for seq, _, _ in places]).values())
        settle(unit, stage, [_stopped(row, unit.now_ms) for row in rows])
        record_attempts(unit.connection, [_stopped_attempt(stage, row, unit.now_ms) for row in rows])
        effects.forget.setdefault((stage.run, stage.stage), []).extend(row.slot for row in rows)
    unit.finish_stop(RunEvent.FORCE_STOP, actor=command.actor, reason=_by(command, "stopped by force"))


def _stopped(row: ItemRow, now_ms: int) -> Settled:
    return Settled(
        seq=row.seq,
        attempt=row.attempt,
        state=ItemState.STOPPED,
        tries=row.tries,
        suspect=0,
        end_ms=now_ms,
        due_ms=None,
        settle_number=None,
        digest=None,
        error_kind=None,
        error=None,
        result=None,
        result_blob=None,
        result_size=None,
    )


def _stopped_attempt(stage: StageRow, row: ItemRow, now_ms: int) -> dict[str, object]:
    return {
        "run": stage.run,
        "stage": stage.stage,
        "seq": row.seq,
        "attempt": row.attempt,
        "ended": "stopped",
        "session": row.session,
        "start_ms": row.start_ms,
        "end_ms": now_ms,
        "digest": None,
        "refused_digest": None,
        "error_kind": None,
        "error": None,
    }


def _refused(unit: RunUnit, event: RunEvent) -> Conflict:
    state = RunState(unit.run.state)
    words = {RunEvent.PAUSE: "pause", RunEvent.RESUME: "resume", RunEvent.STOP: "stop", RunEvent.FORCE_STOP: "stop"}
    takes = [words[RunEvent(name)] for name in allowed(RUN_TABLE, state) if RunEvent(name) in words]
    possible = f"it takes: {', '.join(dict.fromkeys(takes))}" if takes else "it has ended and takes no command"
    return Conflict(
        f"run {unit.run.run_id} is {state}, so it can't {words[event]}; {possible}",
        code="run_ended" if state in ENDED_RUNS else "illegal_state",
        state=str(state),
    )


def _insert_run(connection: sa.Connection, plan: planner_pb2.Plan, run_id: str, name: str, now_ms: int) -> int:
    number = connection.execute(
        sa.insert(runs)
        .values(
            run_id=run_id,
            plan_id=plan.plan_id,
            source_id=plan.source_id,
            kind=plan.kind,
            name=name or plan.name,
            granularity=plan.granularity,
            state=RunState.QUEUED,
            create_ms=now_ms,
        )
        .returning(runs.c.number)
    ).scalar_one()
    connection.execute(
        sa.insert(stages),
        [
            {
                "run": number,
                "stage": stage.stage,
                "processor": stage.processor,
                "processor_version": stage.processor_version,
                "parameters": stage.parameters,
                "concurrency": stage.concurrency,
                "max_tries": stage.max_tries,
                "max_run_seconds": stage.max_run_seconds,
                "worker_class": stage.worker_class,
                "state": StageState.PENDING,
                "total": stage.item_count,
            }
            for stage in plan.stages
        ],
    )
    return int(number)


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def _known(connection: sa.Connection, request_id: str, method: str, digest: bytes) -> Answer | None:
    if not request_id:
        return None
    row = connection.execute(sa.select(requests).where(requests.c.request_id == request_id)).one_or_none()
    if row is None:
        return None
    if row.method != method or row.digest != digest:
        raise AlreadyExists(
            f"request_id {request_id!r} was used for another request ({row.method}); take a new one",
            code="request_id_reused",
        )
    return Answer(find_run(connection, run_id=row.run_id), row.changed)


def _remember(
    connection: sa.Connection, request_id: str, method: str, digest: bytes, run_id: str, changed: bool, now_ms: int
) -> None:
    if request_id:
        connection.execute(
            sa.insert(requests).values(
                request_id=request_id,
                method=method,
                digest=digest,
                run_id=run_id,
                changed=changed,
                create_ms=now_ms,
            )
        )
