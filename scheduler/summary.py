"""GetRunSummary: what a person wants to see of a run, put together from counters and bounded reads in one snapshot.

It takes the same time for ten items and for ten million; it decides nothing and changes nothing.
"""

from __future__ import annotations

import sqlalchemy as sa

from penstock.runtime.clock import to_timestamp
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.eta import Eta, eta, speed
from scheduler.domain.states import ENDED_RUNS, RunState, StageState
from scheduler.store import reads, seeing
from scheduler.store.rows import RunRow, StageRow
from scheduler.translate import run_message
from scheduler.watching import Phases

__all__ = ["RUNNING", "SHOWN_GROUPS", "run_summary"]

RUNNING = 20
SHOWN_GROUPS = 20


def run_summary(connection: sa.Connection, number: int, phases: Phases, now_ms: int) -> pb.RunSummary:
    """The summary of run `number` as this snapshot has it."""
    run, stages = reads.load_run(connection, number)
    keys = reads.exclusive_keys_of(connection, [number]).get(number, ())
    minutes = seeing.minutes_of(connection, number)
    groups, group_count = seeing.failure_groups(connection, number, SHOWN_GROUPS)
    running = [
        item
        for stage in stages
        if stage.running
        for item in seeing.oldest_running(connection, number, stage.stage, RUNNING)
    ]
    running.sort(key=lambda item: (item.start_ms, item.stage, item.seq))
    pace = speed(minutes, min(now_ms, run.end_ms) if _ended(run) and run.end_ms else now_ms, run.start_ms)
    return pb.RunSummary(
        run=run_message(run, stages, phases, exclusive_keys=keys),
        throughput=pb.Throughput(
            items_per_second=0.0 if _ended(run) else pace.items_per_second, last_hour=pace.last_hour
        ),
        eta=_eta_message(_eta(run, stages, minutes, now_ms)),
        running=[_running_message(run.run_id, item, phases) for item in running[:RUNNING]],
        failures=[_group_message(group) for group in groups],
        failure_groups=group_count,
    )


def _ended(run: RunRow) -> bool:
    return RunState(run.state) in ENDED_RUNS


def _eta(run: RunRow, stages: list[StageRow], minutes: dict[int, int], now_ms: int) -> Eta:
    if _ended(run):
        return Eta(reason=f"the run is {run.state.replace('_', ' ')}")
    if run.state != RunState.RUNNING:
        return Eta(reason=f"not known: the run is {run.state}" + (f" ({run.waiting})" if run.waiting else ""))
    open_stages = [s for s in stages if s.state in (StageState.RUNNING, StageState.PENDING, StageState.WAITING)]
    left = sum(s.total - s.completed - s.failed - s.skipped - s.stopped for s in open_stages)
    return eta(minutes, now_ms, run.start_ms, completed=sum(s.completed for s in stages), left=left)


def _eta_message(told: Eta) -> pb.Eta:
    if told.reason:
        return pb.Eta(known=False, reason=told.reason)
    return pb.Eta(known=True, early_time=to_timestamp(told.early_ms), late_time=to_timestamp(told.late_ms))


def _running_message(run_id: str, item: seeing.Running, phases: Phases) -> pb.RunningItem:
    said = phases.of((run_id, item.stage, item.seq))
    return pb.RunningItem(
        stage=item.stage,
        seq=item.seq,
        key=item.key,
        phase=said.phase if said else "",
        progress=said.progress if said else 0.0,
        start_time=to_timestamp(item.start_ms),
        worker=item.session,
        attempt=item.attempt,
        mode=item.mode,  # type: ignore[arg-type]  # stored as the enum's number
    )


def _group_message(group: seeing.Group) -> pb.FailureGroup:
    return pb.FailureGroup(
        fingerprint=group.fingerprint,
        kind=group.kind,
        count=group.count,
        example_stage=group.stage,
        example_seq=group.seq,
        example_key=group.key,
        example_error=group.error,
        first_time=to_timestamp(group.first_ms),
        last_time=to_timestamp(group.last_ms),
    )
