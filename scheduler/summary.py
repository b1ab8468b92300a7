"""GetRunSummary: what a person wants to see of a run, put together from counters and bounded reads in one snapshot.

It takes the same time for ten items and for ten million; it decides nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime.clock import to_timestamp
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.eta import Eta, Hold, behind, eta, speed
from scheduler.domain.states import ENDED_RUNS, ItemState, RunState, StageState
from scheduler.store import explaining, reads, seeing
from scheduler.store.rows import RunRow, StageRow
from scheduler.translate import run_message
from scheduler.watching import Phases

__all__ = ["RUNNING", "SHOWN_GROUPS", "Summary", "held_up", "run_summary"]

RUNNING = 20
SHOWN_GROUPS = 20


@dataclass(frozen=True)
class Summary:
    """The end in `message` is the one at this pace; waits: what puts it off as rows tell it; closed: whether closed
    limits may, too."""

    message: pb.RunSummary
    waits: list[Hold]
    closed: bool


def run_summary(connection: sa.Connection, run_id: str, phases: Phases, now_ms: int) -> Summary:
    """The summary of a run as this snapshot has it. Raises NotFound."""
    run, stages, keys = reads.whole_run(connection, run_id=run_id)
    goes_on = run.state == RunState.RUNNING
    waiting_of = [
        (stage.stage, state)
        for stage in stages
        for state, count in ((ItemState.RETRY, stage.retry), (ItemState.DEFERRED, stage.deferred))
        if count and goes_on
    ]
    seen = seeing.seen(
        connection,
        run.number,
        now_ms,
        running_of=[stage.stage for stage in stages if stage.running],
        waiting_of=waiting_of,
        most_running=RUNNING,
        most_groups=SHOWN_GROUPS,
    )
    minutes = seen.minutes
    pace = speed(minutes, min(now_ms, run.end_ms) if _ended(run) and run.end_ms else now_ms, run.start_ms)
    told = pb.RunSummary(
        run=run_message(run, stages, phases, exclusive_keys=keys),
        throughput=pb.Throughput(
            items_per_second=0.0 if _ended(run) else pace.items_per_second, last_hour=pace.last_hour
        ),
        eta=_eta_message(_eta(run, stages, minutes, now_ms)),
        running=[_running_message(run.run_id, item, phases) for item in seen.running],
        failures=[_group_message(group) for group in seen.groups],
        failure_groups=seen.group_count,
    )
    waits = _waits(connection, stages, seen) if waiting_of else []
    return Summary(told, waits, closed=goes_on and seen.closed)


def held_up(summary: pb.RunSummary, holds: Sequence[Hold], now_ms: int) -> None:
    """Puts off the end that a summary of a run that goes on tells, by what is held back of it."""
    counts = [stage.counts for stage in summary.run.stages]
    left = sum(c.queued + c.running + c.retry + c.deferred for c in counts)
    early, late = summary.eta.early_time.ToMilliseconds(), summary.eta.late_time.ToMilliseconds()
    told = Eta(early, late, summary.eta.reason)
    summary.eta.CopyFrom(_eta_message(behind(told, holds, now_ms, left=left)))


def _waits(connection: sa.Connection, stages: Sequence[StageRow], seen: seeing.Seen) -> list[Hold]:
    """What waits by itself: until the latest due time that was found, or for retries to be allowed."""
    waits = []
    if seen.due_ms is not None:
        count = sum(stage.retry + stage.deferred for stage in stages)
        waits.append(Hold("until they are due", count, seen.due_ms))
    if seen.held and (stopped := explaining.retries_stopped(connection)):
        actor, why, _ = stopped
        what = f"to be retried, and all retries were stopped by {actor}" + (f": {why}" if why else "")
        more = any(stage.retry > seeing.LOOKED_AT for stage in stages)
        waits.append(Hold(what, seen.held, None, more))
    return waits


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
