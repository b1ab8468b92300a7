"""ExplainRun, ExplainItem: why something does not run, gathered from SQL, the plan and Redis, told by `domain.reasons`.

It only reads, in bounded time. While Redis is away that is told, and what it counts (leases that a limit has out) is
left out; the rest needs SQL, and for an item that was never leased the planner.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa

from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import Unavailable
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from penstock.words import counted
from scheduler.domain.eta import Hold
from scheduler.domain.limits import LANE_VALVE, STAGE_VALVE, lane_keys
from scheduler.domain.reasons import (
    KeyNow,
    Reason,
    RunNow,
    StageNow,
    away_reason,
    key_reasons,
    run_reasons,
    stage_reasons,
    wait_reasons,
)
from scheduler.domain.shown import left_by, shown
from scheduler.domain.states import ENDED_STAGES, STARTABLE_ITEMS, ItemState, RunState, StageState
from scheduler.domain.verbs import UNKNOWN
from scheduler.item_rows import ItemRows
from scheduler.parked import NOTHING, Parked
from scheduler.plans import Plans
from scheduler.store import explaining as facts
from scheduler.store import reads
from scheduler.store.class_troubles import trouble_of
from scheduler.store.rows import RunRow, StageRow, gate_of

__all__ = ["Explainer", "Held"]

Held = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
"""Leases that each of these limit keys has out. Raises Unavailable."""

HeldBack = Callable[[tuple[int, int]], Awaitable[Parked]]
"""What limits hold back of a stage (run number, stage). Raises Unavailable."""

CheckRedis = Callable[[], Awaitable[None]]
"""Raises Unavailable that says why while nothing is leased because Redis can't be used."""

HasRoom = Callable[[str, str, str], bool]
"""Whether a worker of this class that knows this processor in this version has a free slot."""

MOST_KEYS = 200
"""So many limits are looked at, those that hold back the most items of a run."""
TOLD_KEYS = 5
PASSING = frozenset({"stage_full", "turn", "few_workers"})
"""Reasons of a stage that pass by themselves while it goes on."""

SILENT_TERMS = 2
"""A worker that gave no sign for so many lease terms counts for none."""


class Explainer:
    def __init__(
        self,
        database: Database,
        plans: Plans,
        rows: ItemRows,
        held: Held,
        held_back: HeldBack,
        check_redis: CheckRedis,
        has_room: HasRoom,
        *,
        now_ms: Callable[[], int],
        term_ms: int,
    ) -> None:
        self._database = database
        self._rows = rows
        self._plans = plans
        self._held = held
        self._parked = held_back
        self._check_redis = check_redis
        self._has_room = has_room
        self._now_ms = now_ms
        self._silent_ms = SILENT_TERMS * max(term_ms, 15_000)

    async def run(self, number: int) -> pb.Explanation:
        """Why nothing, or not more, of a run is running."""
        now = self._now_ms()

        def read() -> tuple[RunRow, list[Reason], StageRow | None]:
            with self._database.read() as connection:
                run, stages = reads.load_run(connection, number)
                reasons: list[Reason] = []
                open_stage: StageRow | None = None
                current = next((s for s in stages if StageState(s.state) not in ENDED_STAGES), None)
                told = run_reasons(self._run_now(connection, run))
                if current is not None and not told and run.archive is None:
                    reasons += self._waits(connection, current)
                    reasons += stage_reasons(self._stage_now(connection, stages, current), now)
                    open_stage = current
                return run, reasons + told, open_stage

        run, reasons, stage = await asyncio.to_thread(read)
        closed: list[Reason] = []
        if stage is not None:
            closed = await self._away()
            closed += key_reasons(await self._keys([STAGE_VALVE.format(run=number, stage=stage.stage)]), now)
            reasons = sorted([*reasons, *await self._held_back(stage, now)], key=lambda reason: reason.code in PASSING)
        return _explanation(run.state, [*closed, *reasons], ahead=0)

    async def closures(self, number: int) -> list[Hold]:
        """The closed limits at which items of a run wait; none are told while Redis is away."""
        now = self._now_ms()

        def read() -> StageRow | None:
            with self._database.read() as connection:
                _, stages = reads.load_run(connection, number)
                return next((s for s in stages if StageState(s.state) not in ENDED_STAGES), None)

        stage = await asyncio.to_thread(read)
        if stage is None:
            return []
        left = stage.total - stage.completed - stage.failed - stage.skipped - stage.stopped
        whole = key_reasons(await self._keys([STAGE_VALVE.format(run=number, stage=stage.stage)]), now)
        found = [*(replace(reason, items=left) for reason in whole), *await self._at_limits(stage, now)]
        return [
            Hold(_until_opened(reason), reason.items, reason.until_ms, reason.more)
            for reason in found
            if reason.code == "limit_closed"
        ]

    async def _held_back(self, stage: StageRow, now: int) -> list[Reason]:
        """The limits that hold back the most items of a stage; none are told while Redis is away."""
        found = await self._at_limits(stage, now)
        # A rate lets something through all the time: it is told where nothing else holds.
        hard = [reason for reason in found if reason.code != "limit_rate"] or found
        return [_with_count(reason) for reason in sorted(hard, key=lambda reason: -reason.items)[:TOLD_KEYS]]

    async def _at_limits(self, stage: StageRow, now: int) -> list[Reason]:
        try:
            parked = await self._parked((stage.run, stage.stage))
        except Unavailable:
            return []
        counts: Counter[str] = Counter()
        lanes = {LANE_VALVE.format(run=stage.run, stage=stage.stage, lane=lane): lane for lane in parked.lanes}
        for valve, lane in lanes.items():
            counts.update(dict.fromkeys([*lane_keys(lane), valve], parked.lanes[lane]))
        unread = {key for valve, lane in lanes.items() if lane in parked.unread for key in (*lane_keys(lane), valve)}
        keys = await self._keys([key for key, _ in counts.most_common(MOST_KEYS)], parked)
        told = [replace(key, items=counts[key.key], more=not parked.whole or key.key in unread) for key in keys]
        return [replace(reason, text=_of_lane(reason, lanes)) for reason in key_reasons(told, now)]

    async def item(self, number: int, index: int, seq: int) -> pb.Explanation:
        """Why an item is not running. Raises NotFound for a stage or seq that the run has not."""
        now = self._now_ms()
        run, stages, row = await asyncio.to_thread(self._item, number, index, seq)
        stage = stages[index]
        within = StageState(stage.state)
        state = shown(within, ItemState(row.state)) if row is not None else left_by(within)
        if state is ItemState.RUNNING and row is not None:
            text = f"it runs, attempt {row.attempt}, on {row.session}"
            reason = Reason(code="running", text=text, change="", since_ms=row.start_ms)
            return _explanation(state, [reason], ahead=0)
        if state not in STARTABLE_ITEMS:
            ended = _ended(state, row, stage)
            if run.plan_removed:
                # It is only read: nothing of it is resumed, retried or run again.
                never = ", and it never began" if row is None else ""
                ended = replace(ended, text=f"{ended.text}{never}", change="")
            return _explanation(state, [ended, *run_reasons(await self._of(run))], ahead=0)
        lane = row.lane if row is not None else (await self._plans.items(run.plan_id, index, [seq]))[0].lane
        keys = [STAGE_VALVE.format(run=number, stage=index), *lane_keys(lane)]
        if lane:
            keys.append(LANE_VALVE.format(run=number, stage=index, lane=lane))
        try:
            parked = await self._parked((number, index))
        except Unavailable:
            parked = NOTHING
        key_now = await self._keys(keys, parked)

        def read() -> tuple[list[Reason], list[Reason], list[Reason], int]:
            with self._database.read() as connection:
                waits: list[Reason] = []
                if row is not None:
                    stopped = facts.retries_stopped(connection) if row.due_ms is None else None
                    waits = wait_reasons(state, row.due_ms, row.tries, stopped)
                of_stage = stage_reasons(self._stage_now(connection, stages, stage), now)
                of_run = run_reasons(self._run_now(connection, run))
                ahead = -1
                if stage.state in (StageState.RUNNING, StageState.PENDING, StageState.WAITING):
                    rank = row.rank if row is not None else seq
                    ahead = facts.ahead_of(connection, number, index, seq=seq, rank=rank, low_water=stage.cursor)
                return waits, of_stage, of_run, ahead

        waits, of_stage, of_run, ahead = await asyncio.to_thread(read)
        gates = {reason.key for reason in of_stage if reason.code == "gate"}
        # First what holds the whole run, or all of its stage: whatever is done to the item would not help.
        reasons = [r for r in of_run if r.code != "gate" or r.key not in gates]
        reasons += [r for r in of_stage if r.code not in PASSING] + await self._away()
        reasons += [*waits, *key_reasons(key_now, now), *(r for r in of_stage if r.code in PASSING)]
        if ahead > 0 and not waits:
            text = f"{counted(ahead, 'item')} of its stage come{'s' if ahead == 1 else ''} before it"
            reasons.append(Reason(code="order", text=text, change="move it to the front, or wait"))
        return _explanation(state, reasons, ahead=ahead)

    def _item(self, number: int, index: int, seq: int) -> tuple[RunRow, list[StageRow], facts.ItemNow | None]:
        with self._database.read() as connection:
            run, stages = reads.load_run(connection, number)
            reads.check_seq(run, reads.stage_of(run, stages, index), seq)
            if run.archive is None:
                return run, stages, facts.item_now(connection, number, index, seq)
        kept = self._rows.between(run, index, after_seq=seq - 1, up_to_seq=seq)
        return run, stages, facts.item_of(kept[0]) if kept else None

    async def _of(self, run: RunRow) -> RunNow:
        def read() -> RunNow:
            with self._database.read() as connection:
                return self._run_now(connection, run)

        return await asyncio.to_thread(read)

    def _run_now(self, connection: sa.Connection, run: RunRow) -> RunNow:
        move = facts.last_move(connection, run.number)
        return RunNow(
            state=RunState(run.state),
            waiting=run.waiting,
            error=run.error,
            since_ms=move.time_ms if move else None,
            actor=move.actor if move else "",
            reason=move.reason if move else "",
            end_ms=run.end_ms,
            archived=run.archive is not None,
            plan_removed=run.plan_removed,
            budget_micros=run.budget_micros,
            committed_micros=run.spent_micros + run.reserved_micros,
        )

    def _stage_now(self, connection: sa.Connection, stages: Sequence[StageRow], stage: StageRow) -> StageNow:
        before = next((s for s in stages[: stage.stage] if StageState(s.state) not in ENDED_STAGES), None)
        text = ""
        if before is not None:
            done = before.completed + before.failed + before.skipped + before.stopped
            text = (
                f"stage {before.stage} comes first: it is {before.state}, {done:,} of {before.total:,} items have ended"
            )
        return StageNow(
            stage=stage.stage,
            state=StageState(stage.state),
            running=stage.running,
            concurrency=stage.concurrency,
            worker_class=stage.worker_class,
            failing=stage.failing,
            gate=gate.name if (gate := gate_of(stage)) else "",
            gate_ms=stage.gate_ms,
            gate_due_ms=stage.gate_due_ms,
            before=text or "its run has not come to it",
            budget_micros=stage.budget_micros,
            committed_micros=stage.spent_micros + stage.reserved_micros,
            worker_seen_ms=facts.worker_seen(connection, stage.worker_class),
            worker_silent_ms=self._silent_ms,
            room=self._has_room(stage.worker_class, stage.processor, stage.processor_version),
            others=facts.other_runs(connection, stage.run, stage.worker_class),
            trouble=_trouble(connection, stage.worker_class),
        )

    def _waits(self, connection: sa.Connection, stage: StageRow) -> list[Reason]:
        """Of a stage of which everything that is left waits by itself."""
        left = stage.total - stage.completed - stage.failed - stage.skipped - stage.stopped
        waiting = stage.retry + stage.deferred
        if not waiting or stage.running or waiting < left:
            return []
        reasons = []
        for state, count in ((ItemState.RETRY, stage.retry), (ItemState.DEFERRED, stage.deferred)):
            if count:
                due, held = facts.next_due(connection, stage.run, stage.stage, state)
                stopped = facts.retries_stopped(connection) if held else None
                *first, own = wait_reasons(state, due, 0, stopped)
                text = f"all that is left of stage {stage.stage}, {counted(count, 'item')}, waits: {state}"
                reasons += [*first, replace(own, text=text)]
        return reasons

    async def _away(self) -> list[Reason]:
        try:
            await self._check_redis()
        except Unavailable as error:
            return [away_reason(error.message)]
        return []

    async def _keys(self, keys: Sequence[str], parked: Parked = NOTHING) -> list[KeyNow]:
        def read() -> list[facts.KeyLimit]:
            with self._database.read() as connection:
                return facts.limits_of(connection, keys)

        found = await asyncio.to_thread(read)
        try:
            held = await self._held([one.key for one in found]) if found else {}
        except Unavailable:
            held = {}
        return [
            KeyNow(
                key=one.key,
                called=_called(one),
                name=one.key,
                held=held.get(one.key, 0),
                concurrency=one.concurrency,
                state=one.state,
                closed_until_ms=one.closed_until_ms,
                used_up=one.rates and one.key in parked.keys,
                reason=one.reason,
                change_ms=one.change_ms,
            )
            for one in found
        ]


def _trouble(connection: sa.Connection, worker_class: str) -> tuple[str, str, int] | None:
    found = trouble_of(connection, worker_class)
    return None if found is None else (found.trouble.text, found.trouble.advice, found.since_ms)


def _called(one: facts.KeyLimit) -> str:
    if one.key.startswith("stage:"):
        return f"the valve of its stage ({one.key})"
    if one.key.startswith("lane:"):
        return f"the valve of its lane ({one.key})"
    return f"limit {one.key}" + (f" (by the pattern {one.name})" if one.name != one.key else "")


def _of_lane(reason: Reason, lanes: Mapping[str, str]) -> str:
    """The sentence about a lane's valve with the lane's name: a run has many."""
    lane = lanes.get(reason.key)
    return reason.text if lane is None else reason.text.replace("its lane", f"lane {lane}", 1)


def _with_count(reason: Reason) -> Reason:
    least = "at least " if reason.more else ""
    return replace(reason, text=f"{reason.text}; {least}{reason.items:,} of its items wait")


def _until_opened(reason: Reason) -> str:
    return f"at {reason.text.partition(' is closed')[0]}, which is closed until somebody opens it"


def _ended(state: ItemState, row: facts.ItemNow | None, stage: StageRow) -> Reason:
    since = row.end_ms if row is not None else stage.end_ms
    change = "re-run it" if state is not ItemState.STOPPED else "resume the run"
    if state is ItemState.FAILED and row is not None:
        settle = "accept it if it was done, or retry it by name" if row.error_kind == UNKNOWN else "retry it"
        return Reason(code="failed", text=f"it failed ({row.error_kind}): {row.error}", change=settle, since_ms=since)
    return Reason(code=str(state), text=f"it is {state}", change=change, since_ms=since)


def _explanation(state: str, reasons: Sequence[Reason], *, ahead: int) -> pb.Explanation:
    return pb.Explanation(
        state=str(state).replace("_", " "),
        reasons=[
            pb.Reason(
                code=reason.code,
                text=reason.text,
                change=reason.change,
                since_time=to_timestamp(reason.since_ms),
                until_time=to_timestamp(reason.until_ms),
                key=reason.key,
                items=reason.items,
            )
            for reason in reasons
        ],
        ahead=ahead,
    )
