"""ExplainRun, ExplainItem: why something does not run, gathered from SQL, the plan and Redis, told by `domain.reasons`.

It only reads, in bounded time. What Redis counts (leases that a limit has out) is left out of the answer while Redis
is away; the rest needs SQL, and for an item that was never leased the planner.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa

from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import NotFound, Unavailable
from penstock.runtime.sql import Database
from penstock.v1 import rules_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.limits import LANE_VALVE, STAGE_VALVE, lane_keys
from scheduler.domain.reasons import (
    KeyNow,
    Reason,
    RunNow,
    StageNow,
    key_reasons,
    run_reasons,
    stage_reasons,
    wait_reasons,
)
from scheduler.domain.shown import left_by, shown
from scheduler.domain.states import ENDED_STAGES, STARTABLE_ITEMS, ItemState, RunState, StageState
from scheduler.item_rows import ItemRows
from scheduler.plans import Plans
from scheduler.store import explaining as facts
from scheduler.store import reads
from scheduler.store.rows import RunRow, StageRow

__all__ = ["Explainer", "Held"]

Held = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
"""Leases that each of these limit keys has out. Raises Unavailable."""

Parked = Callable[[tuple[int, int]], Awaitable[Mapping[str, int]]]
"""Items of a stage (run number, stage) that limits hold back, by lane. Raises Unavailable."""

MOST_KEYS = 200
"""So many limits are looked at, those that hold back the most items of a run."""
TOLD_KEYS = 5

SILENT_TERMS = 2
"""A worker that gave no sign for so many lease terms counts for none."""


class Explainer:
    def __init__(
        self,
        database: Database,
        plans: Plans,
        rows: ItemRows,
        held: Held,
        parked: Parked,
        *,
        now_ms: Callable[[], int],
        term_ms: int,
    ) -> None:
        self._database = database
        self._rows = rows
        self._plans = plans
        self._held = held
        self._parked = parked
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
            closed = key_reasons(await self._keys([STAGE_VALVE.format(run=number, stage=stage.stage)]), now)
            reasons += await self._held_back(stage, now)
        return _explanation(run.state, [*closed, *reasons], ahead=0)

    async def _held_back(self, stage: StageRow, now: int) -> list[Reason]:
        """The limits that hold back the most items of a stage; none are told while Redis is away."""
        try:
            parked = await self._parked((stage.run, stage.stage))
        except Unavailable:
            return []
        counts: Counter[str] = Counter()
        lanes: dict[str, str] = {}
        for lane, count in parked.items():
            valve = LANE_VALVE.format(run=stage.run, stage=stage.stage, lane=lane)
            lanes[valve] = lane
            counts.update(dict.fromkeys([*lane_keys(lane), valve], count))
        found = key_reasons(await self._keys([key for key, _ in counts.most_common(MOST_KEYS)]), now)
        # A rate lets something through all the time: it is told where nothing else holds.
        hard = [reason for reason in found if reason.code != "limit_rate"] or found
        return [
            replace(reason, text=f"{_of_lane(reason, lanes)}; {counts[reason.key]:,} of its items wait")
            for reason in sorted(hard, key=lambda reason: -counts[reason.key])[:TOLD_KEYS]
        ]

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
            return _explanation(state, [_ended(state, row, stage), *run_reasons(await self._of(run))], ahead=0)
        lane = row.lane if row is not None else (await self._plans.items(run.plan_id, index, [seq]))[0].lane
        keys = [*lane_keys(lane), STAGE_VALVE.format(run=number, stage=index)]
        if lane:
            keys.append(LANE_VALVE.format(run=number, stage=index, lane=lane))
        key_now = await self._keys(keys)

        def read() -> tuple[list[Reason], list[Reason], list[Reason], int]:
            with self._database.read() as connection:
                stopped = facts.retries_stopped(connection)
                waits = wait_reasons(state, row.due_ms, row.tries, stopped) if row is not None else []
                of_stage = stage_reasons(self._stage_now(connection, stages, stage), now)
                of_run = run_reasons(self._run_now(connection, run))
                ahead = -1
                if stage.state in (StageState.RUNNING, StageState.PENDING, StageState.WAITING):
                    rank = row.rank if row is not None else seq
                    ahead = facts.ahead_of(connection, number, index, seq=seq, rank=rank, low_water=stage.cursor)
                return waits, of_stage, of_run, ahead

        waits, of_stage, of_run, ahead = await asyncio.to_thread(read)
        reasons = [*waits, *key_reasons(key_now, now)]
        if ahead > 0 and not waits:
            text = f"{ahead:,} items of its stage come before it"
            reasons.append(Reason(code="order", text=text, change="move it to the front, or wait"))
        gates = {reason.key for reason in of_stage if reason.code == "gate"}
        reasons += [*of_stage, *(r for r in of_run if r.code != "gate" or r.key not in gates)]
        return _explanation(state, reasons, ahead=ahead)

    def _item(self, number: int, index: int, seq: int) -> tuple[RunRow, list[StageRow], facts.ItemNow | None]:
        with self._database.read() as connection:
            run, stages = reads.load_run(connection, number)
            if not 0 <= index < len(stages):
                there = f"its stages are 0 to {len(stages) - 1}"
                raise NotFound(f"run {run.run_id} has no stage {index}; {there}", code="stage_not_found")
            if not 0 <= seq < stages[index].total:
                there = f"its items are 0 to {stages[index].total - 1}"
                raise NotFound(f"stage {index} of run {run.run_id} has no item {seq}; {there}", code="item_not_found")
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
            gate=rules_pb2.StageRules.FromString(stage.rules).gate.name,
            gate_ms=stage.gate_ms,
            gate_due_ms=stage.gate_due_ms,
            before=text or "its run has not come to it",
            budget_micros=stage.budget_micros,
            committed_micros=stage.spent_micros + stage.reserved_micros,
            worker_seen_ms=facts.worker_seen(connection, stage.worker_class),
            worker_silent_ms=self._silent_ms,
            others=facts.other_runs(connection, stage.run, stage.worker_class),
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
                due = facts.next_due(connection, stage.run, stage.stage, state)
                first, *more = wait_reasons(state, due, 0, facts.retries_stopped(connection))
                text = f"{count:,} items, all that are left of stage {stage.stage}, wait: {state}"
                reasons += [Reason(code=first.code, text=text, change=first.change, until_ms=due), *more]
        return reasons

    async def _keys(self, keys: Sequence[str]) -> list[KeyNow]:
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
                rates=one.rates,
                reason=one.reason,
                change_ms=one.change_ms,
            )
            for one in found
        ]


def _called(one: facts.KeyLimit) -> str:
    if one.key.startswith("stage:"):
        return "the valve of its stage"
    if one.key.startswith("lane:"):
        return "the valve of its lane"
    return f"limit {one.key}" + (f" (by the pattern {one.name})" if one.name != one.key else "")


def _of_lane(reason: Reason, lanes: Mapping[str, str]) -> str:
    """The sentence about a lane's valve with the lane's name: a run has many."""
    lane = lanes.get(reason.key)
    return reason.text if lane is None else reason.text.replace("its lane", f"lane {lane}", 1)


def _ended(state: ItemState, row: facts.ItemNow | None, stage: StageRow) -> Reason:
    since = row.end_ms if row is not None else stage.end_ms
    change = "re-run it" if state is not ItemState.STOPPED else "resume the run"
    if state is ItemState.FAILED and row is not None:
        settle = "accept it if it was done, or retry it by name" if row.error_kind == "unknown" else "retry it"
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
            )
            for reason in reasons
        ],
        ahead=ahead,
    )
