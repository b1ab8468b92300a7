"""Rows to messages: the one place where SQL's words of runs, items and events become the contract's.

Pure. A number of a request that is none of the contract's states is InvalidInput, with those that there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import orjson
import sqlalchemy as sa

from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import InvalidInput
from penstock.runtime.plain_text import plain_text
from penstock.v1 import common_pb2, rules_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.shown import left_by, shown
from scheduler.domain.states import ENDED_RUNS, ItemState, RunState, StageState
from scheduler.store.endings import Refusal
from scheduler.store.leases import Session
from scheduler.store.rows import RunRow, StageRow, queued_of
from scheduler.watching import Phases

__all__ = [
    "event_message",
    "item_message",
    "item_states",
    "ledger_messages",
    "refusal_message",
    "run_message",
    "run_states",
    "session_of",
]

AnyRow = sa.Row[*tuple[Any, ...]] | SimpleNamespace
"""A row of SQL, or of an archive."""

RUN_STATES = {state: pb.RunState.Value(f"RUN_STATE_{state.upper()}") for state in RunState}
STAGE_STATES = {state: pb.StageState.Value(f"STAGE_STATE_{state.upper()}") for state in StageState}
ITEM_STATES = {state: pb.ItemState.Value(f"ITEM_STATE_{state.upper()}") for state in ItemState}
_COUNTS = [field.name for field in pb.ItemCounts.DESCRIPTOR.fields]
_RUN_OF = {number: state for state, number in RUN_STATES.items()}
_ITEM_OF = {number: state for state, number in ITEM_STATES.items()}


def _counts(stage: StageRow) -> pb.ItemCounts:
    """As people see them: rows that wait in a stage that has ended are what the stage says."""
    counts = pb.ItemCounts(
        total=stage.total,
        queued=queued_of(stage),
        running=stage.running,
        retry=stage.retry,
        completed=stage.completed,
        failed=stage.failed,
        skipped=stage.skipped,
        stopped=stage.stopped,
        deferred=stage.deferred,
    )
    left = left_by(StageState(stage.state))
    if left is not ItemState.QUEUED:
        waiting = counts.queued + counts.retry + counts.deferred
        counts.queued = counts.retry = counts.deferred = 0
        setattr(counts, left, getattr(counts, left) + waiting)
    return counts


def _money(row: RunRow | StageRow) -> pb.Money:
    return pb.Money(
        budget_micros=row.budget_micros,
        spent_micros=row.spent_micros,
        reserved_micros=row.reserved_micros,
        overrun_micros=row.overrun_micros,
        unknown_micros=row.unknown_micros,
    )


def run_message(run: RunRow, stages: list[StageRow], phases: Phases, *, exclusive_keys: Sequence[str] = ()) -> pb.Run:
    message = pb.Run(
        run_id=run.run_id,
        number=run.number,
        plan_id=run.plan_id,
        source_id=run.source_id,
        kind=run.kind,  # type: ignore[arg-type]  # stored as the enum's number
        name=run.name,
        state=RUN_STATES[RunState(run.state)],
        quiesced=not any(stage.running for stage in stages),
        error=run.error,
        granularity=run.granularity,
        event_number=run.event_number,
        create_time=to_timestamp(run.create_ms),
        start_time=to_timestamp(run.start_ms),
        end_time=to_timestamp(run.end_ms) if RunState(run.state) in ENDED_RUNS else None,
        owner=run.owner,
        priority=run.priority,
        waiting=run.waiting,
        money=_money(run),
        exclusive_keys=exclusive_keys,
        archived=run.archive is not None,
        cloned_from=run.cloned_from,
        plan_removed=bool(run.plan_removed),
    )
    for stage in stages:
        counts = _counts(stage)
        phase = phases.of((run.run_id, stage.stage, 0)) if stage.total == 1 and stage.running else None
        message.stages.add(
            stage=stage.stage,
            processor=stage.processor,
            processor_version=stage.processor_version,
            state=STAGE_STATES[StageState(stage.state)],
            counts=counts,
            start_time=to_timestamp(stage.start_ms),
            end_time=to_timestamp(stage.end_ms),
            error=stage.error,
            progress=phase.progress if phase else 0.0,
            phase=phase.phase if phase else "",
            concurrency=stage.concurrency,
            max_tries=stage.max_tries,
            money=_money(stage),
            rules=rules_pb2.StageRules.FromString(stage.rules),
            healed=stage.healed,
        )
        for field in _COUNTS:
            setattr(message.counts, field, getattr(message.counts, field) + getattr(counts, field))
    return message


def item_message(stage: int, row: AnyRow, *, within: str = StageState.RUNNING, payload: bytes = b"") -> pb.RunItem:
    """`within`: the state of its stage, which speaks for rows that wait."""
    blob = common_pb2.BlobRef(sha256=row.result_blob, size_bytes=row.result_size) if row.result_blob else None
    return pb.RunItem(
        seq=row.seq,
        stage=stage,
        key=row.key,
        group=row.grp,
        payload=payload,
        state=ITEM_STATES[shown(StageState(within), ItemState(row.state))],
        attempt=row.attempt,
        tries=row.tries,
        error_kind=row.error_kind or "",
        error=row.error or "",
        result=row.result or b"",
        result_blob=blob,
        worker=row.session,
        start_time=to_timestamp(row.start_ms),
        end_time=to_timestamp(row.end_ms),
        due_time=to_timestamp(row.due_ms),
        settle_number=row.settle_number or 0,
        lane=row.lane or "",
        fingerprint=row.fingerprint or "",
        cost_micros=row.cost_micros,
        reserved_micros=row.reserved_micros,
        mode=row.mode,
        heals=row.heals,
        healed=row.healed,
    )


def event_message(row: AnyRow) -> pb.Event:
    return pb.Event(
        number=row.number,
        time=to_timestamp(row.time_ms),
        type=row.type,
        subject=row.subject,
        actor=row.actor,
        old_state=row.old_state,
        new_state=row.new_state,
        reason=row.reason,
        data=row.data,
    )


def ledger_messages(row: AnyRow) -> list[pb.LedgerEntry]:
    """The entries of a batch; they share its number."""
    return [
        pb.LedgerEntry(
            number=row.number,
            time=to_timestamp(row.time_ms),
            kind=kind,
            stage=row.stage,
            seq=seq,
            attempt=attempt,
            micros=micros,
            reserved_micros=reserved,
        )
        for kind, seq, attempt, micros, reserved in orjson.loads(row.entries)
    ]


def run_states(numbers: list[int]) -> list[RunState]:
    return [_known(_RUN_OF, number, "run state") for number in numbers]


def item_states(numbers: list[int]) -> list[ItemState]:
    return [_known(_ITEM_OF, number, "item state") for number in numbers]


def _known(table: Mapping[Any, Any], number: int, what: str) -> Any:
    if number not in table:
        raise InvalidInput(f"{what} {number} is none; there are: {', '.join(table.values())}", code="bad_state")
    return table[number]


def refusal_message(refusal: Refusal) -> pb.OutcomeAnswer:
    return pb.OutcomeAnswer(
        run_id=refusal.run_id,
        stage=refusal.stage,
        seq=refusal.seq,
        attempt=refusal.attempt,
        reason=refusal.reason,
    )


def session_of(said: pb.WorkerSession) -> Session:
    """Who calls. Raises InvalidInput."""
    if not said.session or not said.worker_class:
        raise InvalidInput("the call names no worker session or class", code="bad_session")
    name = plain_text(said.session, "session")
    worker, class_ = plain_text(said.worker, "worker"), plain_text(said.worker_class, "worker_class")
    return Session(name, worker or name, class_)
