"""What operators ask for of a run: start, pause, resume, stop. Each is one transaction, idempotent by its request id.

A command is acknowledged after its commit: from then on it holds, whoever dies. What is already so is answered, not
refused; what the state does not allow is refused with the state and what it allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from penstock.runtime.clock import IdSource
from penstock.runtime.errors import Conflict, InvalidInput, PenstockError
from scheduler.domain.states import (
    ENDED_RUNS,
    RUN_TABLE,
    IllegalTransition,
    RunEvent,
    RunState,
    StageState,
    allowed,
)
from scheduler.engine import Engine
from scheduler.giving_way import give_way
from scheduler.plans import PLAN, Plans
from scheduler.store import exclusive
from scheduler.store.effects import Effects
from scheduler.store.endings import Endings
from scheduler.store.locking import lock
from scheduler.store.plan_uses import use
from scheduler.store.reads import find_run
from scheduler.store.reopening import has_left, refuse_read_only, reopen
from scheduler.store.requests import Request, known, once, remember
from scheduler.store.rows import Opening, RunRow, StageRow
from scheduler.store.starting import NewRun, insert_run
from scheduler.store.unit import RunUnit
from scheduler.watching import Begun

__all__ = ["MAX_BUDGET_MICROS", "Answer", "Command", "Commands", "Start", "budget_problem", "priority_problem"]

MAX_PRIORITY = 1_000
MAX_BUDGET_MICROS = 10**15
"""A thousand million dollars: more is a slip of the pen."""
_SETTLED = {RunEvent.PAUSE: RunState.PAUSED, RunEvent.RESUME: RunState.RUNNING}
_WORDS = {
    RunEvent.PAUSE: "pause",
    RunEvent.RESUME: "resume",
    RunEvent.STOP: "stop",
    RunEvent.FORCE_STOP: "stop",
}


@dataclass(frozen=True)
class Command:
    """An operator's word about a run: who, why, and the request by which it is said."""

    run_id: str
    actor: str
    reason: str
    request: Request


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run is started with. budget_micros None: no cap; confirm: whoever asks knows what the plan warns of."""

    plan_id: str
    name: str
    actor: str
    owner: str
    priority: int = 0
    budget_micros: int | None = None
    exclusive_keys: Sequence[str] = ()
    cloned_from: str = ""
    reason: str = ""
    confirm: bool = False
    request: Request


@dataclass(frozen=True)
class Answer:
    """number: of the run; changed: whether this call (or the one that it repeats) changed anything; made: the run,
    its stages and its exclusive keys, where this call has made them."""

    number: int
    changed: bool
    made: tuple[RunRow, list[StageRow], Sequence[str]] | None = None


def priority_problem(priority: int) -> str:
    """What is wrong with a priority; empty when all is well."""
    if abs(priority) <= MAX_PRIORITY:
        return ""
    return f"priority is {priority:,}, it may be -{MAX_PRIORITY:,} to {MAX_PRIORITY:,}"


def budget_problem(micros: int, what: str, *, least: int = 0) -> str:
    """What is wrong with a cap in micro-dollars; empty when all is well."""
    if least <= micros <= MAX_BUDGET_MICROS:
        return ""
    none = ", -1 takes it away" if least < 0 else ""
    return f"{what} is {micros:,}, it may be 0 to {MAX_BUDGET_MICROS:,} millionths of a dollar{none}"


def _problems(asked: Start) -> list[str]:
    problems = [priority_problem(asked.priority)]
    if asked.budget_micros is not None:
        problems.append(budget_problem(asked.budget_micros, "budget_micros"))
    try:
        exclusive.checked(asked.exclusive_keys)
    except PenstockError as error:
        problems.append(error.message)
    return [problem for problem in problems if problem]


class Commands:
    def __init__(self, engine: Engine, plans: Plans, *, new_id: IdSource) -> None:
        self._engine = engine
        self._plans = plans
        self.new_id = new_id

    async def start(self, asked: Start) -> Answer:
        """Makes and begins a run of a plan. Raises NotFound for the plan, InvalidInput with everything that is wrong or
        when there is nothing to do, Conflict for an exclusive key that a live run has, or a plan that was removed
        meanwhile."""
        if problems := _problems(asked):
            raise InvalidInput("; ".join(problems), code="bad_settings")
        if asked.plan_id.startswith(PLAN):  # else it is a name, which the planner knows
            self._engine.first.expect(asked.plan_id)
        try:
            plan = await self._plans.keep(
                asked.plan_id,
                confirm=asked.confirm,
                now_ms=self._engine.now_ms(),
                budget_micros=asked.budget_micros,
            )
        except PenstockError:
            # The plan may have gone since the same request was answered.
            if (answered := await self._answered(asked.request)) is not None:
                return answered
            raise
        if not plan.stages or not plan.item_count:
            raise InvalidInput(f"plan {asked.plan_id} has no items: nothing to run", code="empty_plan")
        new = NewRun(
            run_id=self.new_id("run"),
            name=asked.name,
            owner=asked.owner or asked.actor,
            priority=asked.priority,
            budget_micros=asked.budget_micros,
            exclusive_keys=exclusive.checked(asked.exclusive_keys),
            cloned_from=asked.cloned_from,
        )

        def work(connection: sa.Connection, effects: Effects) -> Answer:
            before = known(connection, asked.request)
            if before is not None:
                return Answer(find_run(connection, run_id=before.run_id), before.changed)
            now_ms = self._engine.now_ms()
            use(connection, plan)
            number = insert_run(connection, plan, new, now_ms)
            exclusive.take(connection, number, new.exclusive_keys)
            unit = lock(connection, number, now_ms)
            assert unit is not None, number
            told = {"plan_id": plan.plan_id, "owner": new.owner, "priority": new.priority}
            if new.budget_micros is not None:
                told["budget_micros"] = new.budget_micros
            if new.cloned_from:
                told["cloned_from"] = new.cloned_from
            unit.emit("run.created", actor=asked.actor, new=RunState.QUEUED, reason=asked.reason, data=told)
            unit.move_run(RunEvent.BEGIN, actor=asked.actor)
            unit.begin_stage(unit.stages[0])
            unit.flush(effects)
            remember(connection, asked.request, run_id=new.run_id, changed=True, now_ms=now_ms)
            effects.changed.add(number)
            effects.moved.add(number)
            if unit.stages[0].state == StageState.RUNNING:  # else it waits at its gate
                row = replace(unit.stages[0])
                effects.begun.append(Opening(new.run_id, plan.plan_id, unit.run.epoch, new.owner, new.priority, row))
            return Answer(number, True, (unit.run, unit.stages, new.exclusive_keys))

        answer = await self._engine.commits.run(once(asked.request, work))
        await give_way()
        return answer

    async def _answered(self, request: Request) -> Answer | None:
        """What the same request was answered before."""

        def work(connection: sa.Connection, effects: Effects) -> Answer | None:
            before = known(connection, request)
            return None if before is None else Answer(find_run(connection, run_id=before.run_id), before.changed)

        return await self._engine.commits.run(work) if request.request_id else None

    async def pause(self, command: Command) -> Answer:
        return await self._do(command, RunEvent.PAUSE)

    async def resume(self, command: Command) -> Answer:
        return await self._do(command, RunEvent.RESUME)

    async def stop(self, command: Command, *, force: bool) -> Answer:
        return await self._do(command, RunEvent.FORCE_STOP if force else RunEvent.STOP)

    async def _do(self, command: Command, event: RunEvent) -> Answer:
        def change(unit: RunUnit, effects: Effects) -> bool:
            endings = Endings(unit.connection, effects, self._engine.rules, unit.now_ms, Begun())
            try:
                _carry_out(unit, endings, event, command)
            except IllegalTransition as error:
                raise _refused(unit, event) from error
            return True

        return await self.change(command, change, already=lambda unit: _already(unit, event))

    async def change(
        self,
        command: Command,
        change: Callable[[RunUnit, Effects], bool],
        *,
        already: Callable[[RunUnit], bool] = lambda unit: False,
    ) -> Answer:
        """Does this to the locked run, in one transaction with the note of the request; `change` answers whether it
        changed anything. What is `already` so is answered, also of a run that is only read. Raises NotFound, and
        Conflict for an archived run, or one whose plan is gone."""

        def work(connection: sa.Connection, effects: Effects) -> Answer:
            before = known(connection, command.request)
            if before is not None:
                return Answer(find_run(connection, run_id=before.run_id), before.changed)
            number = find_run(connection, run_id=command.run_id)
            now_ms = self._engine.now_ms()
            unit = lock(connection, number, now_ms)
            assert unit is not None, number
            changed = False
            if not already(unit):
                refuse_read_only(unit.run)
                changed = change(unit, effects)
            if changed:
                unit.flush(effects)
                effects.changed.add(number)
                effects.moved.add(number)
            remember(connection, command.request, run_id=command.run_id, changed=changed, now_ms=now_ms)
            return Answer(number, changed)

        return await self._engine.commits.run(once(command.request, work))


def _already(unit: RunUnit, event: RunEvent) -> bool:
    state = RunState(unit.run.state)
    if event in (RunEvent.STOP, RunEvent.FORCE_STOP):
        return state is RunState.STOPPED or (state is RunState.STOPPING and event is RunEvent.STOP)
    return _SETTLED[event] is state


def _carry_out(unit: RunUnit, endings: Endings, event: RunEvent, command: Command) -> None:
    state = RunState(unit.run.state)
    if event is RunEvent.RESUME and state in ENDED_RUNS:
        if not has_left(unit):
            raise _nothing_left(unit)
        again = RunEvent.RESUME if state is RunState.STOPPED else RunEvent.REOPEN
        reopen(unit, again, actor=command.actor, reason=command.reason)
        unit.settle_up()
        return
    if event is not RunEvent.RESUME:
        unit.run.epoch += 1  # what was proposed before this is void, also when the run goes on at once
    if event is RunEvent.FORCE_STOP:
        reason = _by(command, "stopped by force")
        endings.stop_by_force(unit, reason)
        unit.finish_stop(RunEvent.FORCE_STOP, actor=command.actor, reason=reason)
        return
    unit.move_run(event, actor=command.actor, reason=command.reason)
    if event is RunEvent.STOP:
        unit.run.error = _by(command, "stopped")
        unit.settle_up()
    elif event is RunEvent.RESUME:
        unit.settle_up()


def _by(command: Command, what: str) -> str:
    return f"{what} by {command.actor}" + (f": {command.reason}" if command.reason else "")


def _nothing_left(unit: RunUnit) -> Conflict:
    return Conflict(
        f"run {unit.run.run_id} is {unit.run.state} and every item of it has ended, so there is nothing to resume; "
        "it takes: retry or re-run of items, clone",
        code="nothing_left",
        state=unit.run.state,
    )


def _refused(unit: RunUnit, event: RunEvent) -> Conflict:
    state = RunState(unit.run.state)
    takes = [_WORDS[RunEvent(name)] for name in allowed(RUN_TABLE, state) if RunEvent(name) in _WORDS]
    if state is RunState.WAITING:
        takes.append("an answer to its gate" if unit.run.waiting.startswith("gate") else "a higher budget")
    elif state in ENDED_RUNS:
        takes += ["retry or re-run of items", "clone"]
    ended = "has ended" if state in ENDED_RUNS else f"is {state}"
    where = f" ({unit.run.waiting})" if unit.run.waiting else ""
    return Conflict(
        f"run {unit.run.run_id} is {state}{where}, so it can't {_WORDS[event]}; it takes: "
        + ", ".join(dict.fromkeys(takes) or [f"nothing, it {ended}"]),
        code="run_ended" if state in ENDED_RUNS else "illegal_state",
        state=str(state),
    )
