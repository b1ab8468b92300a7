"""Operators' verbs on items (retry, skip, release, re-run, front, accept), by seqs or by filter, as resumable jobs.

The first chunk is done in the transaction that notes the action, so what is refused is refused whole; the rest follows
chunk by chunk, between the commits of others. A scheduler that dies leaves a row with a cursor: `serve` of any
scheduler goes on from there. A chunk that meets an error (SQL or the planner away) is tried again later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

import orjson
import sqlalchemy as sa

from penstock.filter_sql import condition
from penstock.filters import Filter
from penstock.runtime.clock import IdSource
from penstock.runtime.errors import Conflict, PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from penstock.runtime.sql import Database
from penstock.v1 import common_pb2
from penstock.words import counted
from scheduler.commands import Command
from scheduler.domain.states import ENDED_RUNS, IllegalTransition, RunState, StageState
from scheduler.domain.verbs import REOPENS, UNTOUCHED, Verb
from scheduler.engine import Engine
from scheduler.plans import Plans
from scheduler.previews import CHUNK, Asked, Previews, new_action
from scheduler.store import reads
from scheduler.store.actions import ActionRow, Chunk, apply, insert_action, load_action, open_actions, rows_for_action
from scheduler.store.actions import save as save_action
from scheduler.store.effects import Effects
from scheduler.store.item_fields import columns, never_leased
from scheduler.store.locking import lock
from scheduler.store.reopening import refuse_read_only
from scheduler.store.requests import known, once, remember
from scheduler.store.rows import RunRow, StageRow
from scheduler.store.schema import items
from scheduler.store.unit import RunUnit
from scheduler.waking import Waking

__all__ = ["Actions"]

INLINE_CHUNKS = 10
"""Done before the answer."""
POLL_SECONDS = 5.0
"""Between looks for actions that a scheduler which died has left."""

log = get_logger("actions")


class Actions:
    def __init__(self, engine: Engine, database: Database, plans: Plans, *, new_id: IdSource) -> None:
        self._engine = engine
        self._database = database
        self._plans = plans
        self._new_id = new_id
        self._previews = Previews(database, plans, now_ms=engine.now_ms)
        self._waking = Waking(engine, database)
        self._more = asyncio.Event()

    async def act(self, command: Command, asked: Asked) -> ActionRow:
        """Begins an action and does its first chunks. Raises InvalidInput, NotFound, Conflict."""
        before = await self._before(command)
        if before is not None:
            return before
        run, stage = await self._previews.checked(command.run_id, asked)
        action = replace(
            new_action(run, asked, self._engine.now_ms()),
            action_id=self._new_id("action"),
            actor=command.actor,
            reason=command.reason,
        )
        chunk = await self._chunk(run, stage, action)

        def work(connection: sa.Connection, effects: Effects) -> ActionRow:
            answered = known(connection, command.request)
            if answered is not None:
                return load_action(connection, answered.answer.decode())
            now_ms = self._engine.now_ms()
            unit = lock(connection, run.number, now_ms)
            assert unit is not None, run.number
            _refuse(unit, asked.verb)
            mine = action
            if asked.verb is Verb.FRONT:
                # All ranks of this action, whatever its chunks, in one stroke below all others.
                place = unit.stages[asked.stage]
                place.first_rank -= place.total
                mine = replace(action, rank=place.first_rank)
            insert_action(connection, mine)
            done = self._do(unit, effects, mine, chunk)
            remember(
                connection,
                command.request,
                run_id=command.run_id,
                changed=bool(done.changed),
                now_ms=now_ms,
                answer=action.action_id.encode(),
            )
            return done

        done = await self._engine.commits.run(once(command.request, work))
        for _ in range(INLINE_CHUNKS):
            if done.done:
                return done
            done = await self._go_on(done.action_id)
        self._more.set()
        return done

    async def get(self, action_id: str) -> tuple[ActionRow, str]:
        """An action as it is now, and its run's id. Raises NotFound."""

        def read() -> tuple[ActionRow, str]:
            with self._database.read() as connection:
                row = load_action(connection, action_id)
                return row, reads.load_run(connection, row.run)[0].run_id

        return await asyncio.to_thread(read)

    async def preview(self, run_id: str, asked: Asked) -> ActionRow:
        """What an action would do now; `done` is false where not everything could be counted."""
        return await self._previews.preview(run_id, asked)

    def look_again(self) -> None:
        """Retries were allowed: what waited for that is woken soon."""
        self._more.set()

    async def serve(self) -> None:
        """Goes on with actions that are not done, and wakes what waited for retries; runs until cancelled."""
        while True:
            self._more.clear()
            try:
                await self.go_on()
            except Unavailable as error:
                log.warning("actions can't go on now", error=error.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._more.wait()

    async def go_on(self) -> int:
        """Finishes every open action that can go on now; returns how many. Raises Unavailable while SQL is away."""
        count = 0
        for action_id in await asyncio.to_thread(self._open):
            try:
                while not (await self._go_on(action_id)).done:
                    pass
                count += 1
            except PenstockError as error:
                log.warning("an action can't go on now", action_id=action_id, error=error.message)
            except Exception:
                log.exception("an action can't go on", action_id=action_id)  # others can, and are not in its way
        await self._waking.go_on()
        return count

    # -- chunks

    async def _go_on(self, action_id: str) -> ActionRow:
        """Does the next chunk of an action. One that can't be gone on with is done, and says why."""
        action, run, stage = await asyncio.to_thread(self._load, action_id)
        if action.done:
            return action
        chunk = await self._chunk(run, stage, action)

        def work(connection: sa.Connection, effects: Effects) -> ActionRow:
            unit = lock(connection, action.run, self._engine.now_ms())
            assert unit is not None, action.run
            now = load_action(connection, action_id)
            if now.done or now.cursor != action.cursor:
                return now  # another scheduler did this chunk
            return self._do(unit, effects, now, chunk)

        try:
            return await self._engine.commits.run(work)
        except (Conflict, IllegalTransition) as error:
            return await self._give_up(action, str(error))

    async def _give_up(self, action: ActionRow, why: str) -> ActionRow:
        def work(connection: sa.Connection, effects: Effects) -> ActionRow:
            unit = lock(connection, action.run, self._engine.now_ms())
            assert unit is not None, action.run
            now = load_action(connection, action.action_id)
            if now.done:
                return now
            ended = replace(now, done=True, example=now.example or why)
            save_action(connection, ended)
            _tell_done(unit, ended, why)
            unit.flush(effects)
            effects.changed.add(action.run)
            return ended

        return await self._engine.commits.run(work)

    def _do(self, unit: RunUnit, effects: Effects, action: ActionRow, chunk: Chunk) -> ActionRow:
        refuse_read_only(unit.run)
        first = action.cursor < 0 and not action.matched
        if first:
            what = f"{counted(len(orjson.loads(action.seqs)), 'item')} by seq" if action.seqs else action.filter
            unit.emit(
                "items.action",
                subject=f"stage:{action.stage}",
                actor=action.actor,
                reason=action.reason,
                data={"action_id": action.action_id, "verb": action.verb, "items": what},
            )
        done = apply(unit, effects, action, chunk)
        if done.done:
            _tell_done(unit, done)
        unit.flush(effects)
        effects.changed.add(action.run)
        if done.changed != action.changed:
            effects.moved.add(action.run)
        return done

    async def _chunk(self, run: RunRow, stage: StageRow, action: ActionRow) -> Chunk:
        """The next items to look at. Read outside the transaction: what a row says is read again inside."""
        if action.seqs:
            seqs = [seq for seq in orjson.loads(action.seqs) if seq > action.cursor]
            end, seqs = len(seqs) <= CHUNK, seqs[:CHUNK]
            return Chunk(seqs, await self._untouched(run, stage, action.verb, seqs), seqs[-1], end)
        chosen = action.chosen
        if action.verb in UNTOUCHED and chosen.decide(never_leased(StageState(stage.state))) is not False:
            window = await self._plans.window(run.plan_id, stage.stage, action.cursor, CHUNK)
            found = {item.seq: item for item in window.items}
            last = window.items[-1].seq if window.items else stage.total - 1
            return Chunk(list(found), found, last, window.end or not window.items)
        seqs = await asyncio.to_thread(self._matching, stage, chosen, action.cursor)
        end = len(seqs) < CHUNK
        return Chunk(seqs, {}, stage.total - 1 if end else seqs[-1], end)

    async def _untouched(
        self, run: RunRow, stage: StageRow, verb: str, seqs: Sequence[int]
    ) -> dict[int, common_pb2.Item]:
        if verb not in UNTOUCHED:
            return {}

        def read() -> list[int]:
            with self._database.read() as connection:
                rows = rows_for_action(connection, stage.run, stage.stage, seqs)
                return [seq for seq in seqs if seq not in rows]

        missing = await asyncio.to_thread(read)
        return {item.seq: item for item in await self._plans.items(run.plan_id, stage.stage, missing)}

    def _matching(self, stage: StageRow, chosen: Filter, after: int) -> list[int]:
        # Rows of a stage that a filter takes, a chunk of them, in order of seq.
        query = (
            sa.select(items.c.seq)
            .where(
                items.c.run == stage.run,
                items.c.stage == stage.stage,
                items.c.seq > after,
                condition(chosen, columns(StageState(stage.state))),
            )
            .order_by(items.c.seq)
            .limit(CHUNK)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    # -- reading

    async def _before(self, command: Command) -> ActionRow | None:
        def read() -> ActionRow | None:
            with self._database.read() as connection:
                answered = known(connection, command.request)
                return None if answered is None else load_action(connection, answered.answer.decode())

        return await asyncio.to_thread(read)

    def _load(self, action_id: str) -> tuple[ActionRow, RunRow, StageRow]:
        with self._database.read() as connection:
            action = load_action(connection, action_id)
            run, stages = reads.load_run(connection, action.run)
            return action, run, stages[action.stage]

    def _open(self) -> list[str]:
        with self._database.read() as connection:
            return open_actions(connection)


def _tell_done(unit: RunUnit, action: ActionRow, why: str = "") -> None:
    unit.emit(
        "items.action_done",
        subject=f"stage:{action.stage}",
        actor=action.actor,
        reason=why,
        data={
            "action_id": action.action_id,
            "verb": action.verb,
            "matched": action.matched,
            "changed": action.changed,
            "already": action.already,
            "refused": action.refused,
        },
    )


def _refuse(unit: RunUnit, verb: Verb) -> None:
    """Raises Conflict when no item of such a run takes the verb."""
    refuse_read_only(unit.run)
    state = RunState(unit.run.state)
    if state is RunState.STOPPING and verb in REOPENS:
        raise Conflict(
            f"run {unit.run.run_id} is stopping; {verb} items of it once it is stopped",
            code="illegal_state",
            state=str(state),
        )
    if state in ENDED_RUNS and verb not in REOPENS:
        raise Conflict(
            f"run {unit.run.run_id} is {state}, so nothing of it waits; it takes: resume, retry, re-run, clone",
            code="run_ended",
            state=str(state),
        )
