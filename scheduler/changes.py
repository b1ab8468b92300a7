"""What operators change while runs go on: a run's settings, the answers to its gates, the switch of all retries.

Each is one transaction, idempotent by its request id, with an event that tells old and new. Settings are checked as a
whole: all that is wrong with a request is told at once, and then nothing of it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime.errors import Conflict, InvalidInput, NotFound
from penstock.runtime.sql import Database
from penstock.v1.rules_pb2 import GateAnswer
from penstock.words import numbers_there_are
from scheduler.commands import Answer, Command, Commands, budget_problem, priority_problem
from scheduler.domain.states import ENDED_RUNS, RunState
from scheduler.engine import Engine
from scheduler.store import gates, switches
from scheduler.store.effects import Effects
from scheduler.store.requests import Request, known, remember
from scheduler.store.rows import RunRow, StageRow
from scheduler.store.unit import RunUnit

__all__ = ["Changes", "RunChanges", "StageChanges"]

NO_CAP = -1
_RANGES = {"concurrency": (1, 10_000), "max_tries": (1, 100), "max_run_seconds": (1, 7 * 86_400)}
"""As plans may have them."""


@dataclass(frozen=True, kw_only=True)
class StageChanges:
    """What becomes of a stage's settings; None stays as it is, NO_CAP takes a cap away."""

    stage: int
    concurrency: int | None = None
    max_tries: int | None = None
    max_run_seconds: int | None = None
    budget_micros: int | None = None
    item_budget_micros: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunChanges:
    """What becomes of a run's settings; None stays as it is, NO_CAP takes the cap away."""

    priority: int | None = None
    budget_micros: int | None = None
    stages: Sequence[StageChanges] = ()


class Changes:
    def __init__(self, commands: Commands, engine: Engine, database: Database) -> None:
        self._commands = commands
        self._engine = engine
        self._database = database

    async def update(self, command: Command, asked: RunChanges) -> Answer:
        """Changes settings of a run that has not ended. Raises InvalidInput with all that is wrong, Conflict."""
        if problems := _problems(asked):
            raise InvalidInput("; ".join(problems), code="bad_settings")

        def change(unit: RunUnit, effects: Effects) -> bool:
            if RunState(unit.run.state) in ENDED_RUNS:
                raise Conflict(
                    f"run {unit.run.run_id} is {unit.run.state}, so its settings don't matter any more; resume it "
                    "first, or clone it",
                    code="run_ended",
                    state=unit.run.state,
                )
            unknown = [str(stage.stage) for stage in asked.stages if not 0 <= stage.stage < len(unit.stages)]
            if unknown:
                raise NotFound(
                    f"run {unit.run.run_id} has no stage {', '.join(unknown)}; "
                    + numbers_there_are(len(unit.stages), "stage"),
                    code="stage_not_found",
                )
            told = _set(unit.run, {"priority": asked.priority}, {"budget_micros": asked.budget_micros})
            if told:
                unit.emit("run.updated", actor=command.actor, reason=command.reason, data=told)
            changed, needs_moved = bool(told), False
            for stage in asked.stages:
                row = unit.stages[stage.stage]
                told = _set(
                    row,
                    {name: getattr(stage, name) for name in _RANGES},
                    {"budget_micros": stage.budget_micros, "item_budget_micros": stage.item_budget_micros},
                )
                if told:
                    unit.emit(
                        "stage.updated",
                        subject=f"stage:{stage.stage}",
                        actor=command.actor,
                        reason=command.reason,
                        data=told,
                    )
                changed = changed or bool(told)
                needs_moved = needs_moved or "item_budget_micros" in told
            if changed:
                unit.look_again(head_moved=needs_moved)
            return changed

        return await self._commands.change(command, change)

    async def answer_gate(self, command: Command, gate: str, given: GateAnswer.ValueType) -> Answer:
        """Approves or rejects. Raises NotFound for an unknown gate, Conflict when it does not wait."""

        def change(unit: RunUnit, effects: Effects) -> bool:
            gates.answer(unit, gate, given, actor=command.actor, reason=command.reason)
            return True

        return await self._commands.change(command, change)

    async def waiting_gates(
        self, number: int | None, *, after: tuple[int, int], limit: int
    ) -> Sequence[gates.WaitingGate]:
        def read() -> Sequence[gates.WaitingGate]:
            with self._database.read() as connection:
                return gates.waiting(connection, number=number, after=after, limit=limit)

        return await asyncio.to_thread(read)

    async def retries(self) -> switches.Switch:
        """Whether failed items are tried again, and who said so."""

        def read() -> switches.Switch:
            with self._database.read() as connection:
                return switches.retries(connection)

        return await asyncio.to_thread(read)

    async def set_retries(
        self, allowed: bool, *, actor: str, reason: str, request: Request
    ) -> tuple[switches.Switch, bool]:
        """Stops or allows all retries; what is so afterwards, and whether this changed it."""

        def work(connection: sa.Connection, effects: Effects) -> tuple[switches.Switch, bool]:
            before = known(connection, request)
            if before is not None:
                return switches.retries(connection), before.changed
            now_ms = self._engine.now_ms()
            changed = switches.set_retries(connection, effects, allowed, actor=actor, reason=reason, now_ms=now_ms)
            remember(connection, request, run_id="", changed=changed, now_ms=now_ms)
            return switches.retries(connection), changed

        return await self._engine.commits.run(work)


def _problems(asked: RunChanges) -> list[str]:
    problems = [] if asked.priority is None else [priority_problem(asked.priority)]
    if asked.budget_micros is not None:
        problems.append(budget_problem(asked.budget_micros, "budget_micros", least=NO_CAP))
    seen: set[int] = set()
    for stage in asked.stages:
        if stage.stage in seen:
            problems.append(f"stage {stage.stage} is named twice")
        seen.add(stage.stage)
        for name, (least, most) in _RANGES.items():
            value = getattr(stage, name)
            if value is not None and not least <= value <= most:
                problems.append(f"stage {stage.stage}: {name} is {value:,}, it may be {least} to {most:,}")
        for name in ("budget_micros", "item_budget_micros"):
            value = getattr(stage, name)
            if value is not None:
                problems.append(budget_problem(value, f"stage {stage.stage}: {name}", least=NO_CAP))
    return [problem for problem in problems if problem]


def _set(row: RunRow | StageRow, plain: dict[str, int | None], caps: dict[str, int | None]) -> dict[str, object]:
    """Sets what is given and different; answers name -> [old, new]."""
    wanted = {name: value for name, value in plain.items() if value is not None}
    new: dict[str, int | None] = dict(wanted)
    new |= {name: None if value == NO_CAP else value for name, value in caps.items() if value is not None}
    told: dict[str, object] = {}
    for name, value in new.items():
        old = getattr(row, name)
        if old != value:
            told[name] = [old, value]
            setattr(row, name, value)
    return told
