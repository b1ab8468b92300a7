"""Clones: a new run of those items of an ended run that failed, or that it did not come to.

The planner makes a plan of them, in the order of the old one and with its stages and settings; the new run is started
like any other, with the owner, priority and exclusive keys of the old one and what is left of its budget. The old run
stays as it is. What ended unknown is left out: doing it again may do it twice, so a person names it, in its own run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime.errors import Conflict
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2
from scheduler.commands import Answer, Command, Commands, Start
from scheduler.domain.states import ENDED_RUNS, ItemState, RunState
from scheduler.domain.verbs import UNKNOWN
from scheduler.item_rows import ItemRows
from scheduler.plans import Plans
from scheduler.store import exclusive, reads
from scheduler.store.plan_uses import refuse_without_plan
from scheduler.store.requests import known
from scheduler.store.rows import RunRow, StageRow
from scheduler.store.schema import items

__all__ = ["Choice", "Cloning"]

PAGE = 20_000

# A page of the rows of a stage that are in one of these states, without what is large.
_STATES = (
    sa.select(items.c.seq, items.c.state, items.c.error_kind)
    .where(
        items.c.run == sa.bindparam("run"),
        items.c.stage == sa.bindparam("stage"),
        items.c.seq > sa.bindparam("after"),
        items.c.state.in_(sa.bindparam("states", expanding=True)),
    )
    .order_by(items.c.seq)
    .limit(PAGE)
)


@dataclass(frozen=True)
class Choice:
    """Which items: those that failed, those that did not end."""

    failed: bool
    unfinished: bool

    def takes(self, state: str, kind: str | None) -> bool:
        """Whether it takes an item whose row says so."""
        if state == ItemState.FAILED:
            return self.failed and kind != UNKNOWN
        return self.unfinished and state not in (ItemState.COMPLETED, ItemState.SKIPPED)


class Cloning:
    def __init__(self, commands: Commands, database: Database, plans: Plans, rows: ItemRows) -> None:
        self._commands = commands
        self._database = database
        self._plans = plans
        self._rows = rows

    async def clone(self, command: Command, choice: Choice, *, name: str) -> Answer:
        """Starts a run of these items. Raises NotFound, Conflict when the run has not ended, nothing is chosen, or
        its plan was removed."""
        done = await asyncio.to_thread(self._before, command)
        if done is not None:
            return done
        run, stages, keys = await asyncio.to_thread(self._load, command.run_id)
        refuse_without_plan(run)
        if RunState(run.state) not in ENDED_RUNS:
            raise Conflict(
                f"run {run.run_id} is {run.state}; a clone is made of what an ended run has left: stop it first",
                code="illegal_state",
                state=run.state,
            )
        plan = await self._derived(run, stages, choice, name or run.name, command)
        budget = run.budget_micros
        return await self._commands.start(
            Start(
                plan_id=plan.plan_id,
                name=name or run.name,
                actor=command.actor,
                owner=run.owner,
                priority=run.priority,
                budget_micros=None if budget is None else max(budget - run.spent_micros, 0),
                exclusive_keys=keys,
                cloned_from=run.run_id,
                reason=command.reason,
                confirm=True,
                request=command.request,
            )
        )

    async def _derived(
        self, run: RunRow, stages: Sequence[StageRow], choice: Choice, name: str, command: Command
    ) -> planner_pb2.Plan:
        """The plan of the chosen items of the first stage that has any, and of the stages after it."""
        for stage in stages:
            pages = self._seqs(run, stage, choice)
            first = await anext(pages, None)
            if first is not None:
                return await self._plans.derive(
                    run.plan_id,
                    stage.stage,
                    _with(first, pages),
                    name=name,
                    actor=command.actor,
                    request_id=command.request.request_id,
                )
        what = "failed" if choice.failed and not choice.unfinished else "left"
        unknown = choice.failed and any(stage.failed for stage in stages)
        hint = "; what ended unknown is retried or accepted by name, in its own run" if unknown else ""
        raise Conflict(f"run {run.run_id} has nothing {what} to clone{hint}", code="nothing_left", state=run.state)

    async def _seqs(self, run: RunRow, stage: StageRow, choice: Choice) -> AsyncIterator[list[int]]:
        """The chosen seqs in rising order, in pages that are not empty."""
        pages = self._read(run, stage, choice)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            if page:
                yield page

    def _read(self, run: RunRow, stage: StageRow, choice: Choice) -> Iterator[list[int]]:
        wanted = [state for state in ItemState if choice.unfinished or state is ItemState.FAILED]
        after = -1
        while after < stage.total - 1:
            rows = self._page(run, stage, wanted, after)
            last = rows[-1][0] if len(rows) == PAGE else stage.total - 1
            page = [seq for seq, state, kind in rows if choice.takes(state, kind)]
            if choice.unfinished:
                # What has no row was never come to.
                there = {seq for seq, _, _ in rows}
                page = sorted(page + [seq for seq in range(after + 1, last + 1) if seq not in there])
            yield page
            after = last

    def _page(
        self, run: RunRow, stage: StageRow, states: Sequence[ItemState], after: int
    ) -> list[tuple[int, str, str | None]]:
        if run.archive is None:
            with self._database.read() as connection:
                values = {"run": run.number, "stage": stage.stage, "after": after, "states": list(states)}
                if reads.archive_of(connection, run.number) is None:
                    return [(row.seq, row.state, row.error_kind) for row in connection.execute(_STATES, values)]
        rows, _ = self._rows.in_states(run, stage.stage, states, after_seq=after, up_to_seq=stage.total - 1, limit=PAGE)
        return [(row.seq, row.state, row.error_kind) for row in rows]

    def _before(self, command: Command) -> Answer | None:
        with self._database.read() as connection:
            done = known(connection, command.request)
            return None if done is None else Answer(reads.find_run(connection, run_id=done.run_id), done.changed)

    def _load(self, run_id: str) -> tuple[RunRow, list[StageRow], list[str]]:
        with self._database.read() as connection:
            number = reads.find_run(connection, run_id=run_id)
            return *reads.load_run(connection, number), exclusive.keys_of(connection, number)


async def _with(first: list[int], rest: AsyncIterator[list[int]]) -> AsyncIterator[list[int]]:
    yield first
    async for page in rest:
        yield page
