"""What operators see and do, as plain JSON objects in the dialect of `penstock.client.views`."""

from __future__ import annotations

from typing_extensions import TypedDict

from penstock.client.views import RunView, mode_word, run_view, time_text
from penstock.v1 import rules_pb2, scheduler_pb2

__all__ = [
    "ActionView",
    "ExplanationView",
    "GateView",
    "LedgerEntryView",
    "RetriesView",
    "SummaryView",
    "action_view",
    "explanation_view",
    "gate_answer_word",
    "gate_view",
    "ledger_entry_view",
    "retries_view",
    "summary_view",
]


class ThroughputView(TypedDict):
    items_per_second: float
    last_hour: int


class EtaView(TypedDict):
    known: bool
    early_time: str | None
    late_time: str | None
    reason: str | None


class RunningItemView(TypedDict):
    stage: int
    seq: int
    key: str
    phase: str | None
    progress: float
    start_time: str | None
    worker: str
    attempt: int
    mode: str | None


class FailureGroupView(TypedDict):
    fingerprint: str
    kind: str
    count: int
    example_stage: int
    example_seq: int
    example_key: str
    example_error: str
    first_time: str | None
    last_time: str | None


class SummaryView(TypedDict):
    run: RunView
    throughput: ThroughputView
    eta: EtaView
    running: list[RunningItemView]
    failures: list[FailureGroupView]
    failure_groups: int


class ReasonView(TypedDict):
    """items: how many a limit holds back, of those that were read; None where it was not counted."""

    code: str
    text: str
    change: str | None
    since_time: str | None
    until_time: str | None
    key: str | None
    items: int | None


class ExplanationView(TypedDict):
    """ahead: None where it was not counted."""

    state: str
    reasons: list[ReasonView]
    ahead: int | None


class GateView(TypedDict):
    run_id: str
    stage: int
    name: str
    since_time: str | None
    due_time: str | None
    default_answer: str | None


class ActionView(TypedDict):
    """action_id: None for a preview."""

    action_id: str | None
    run_id: str
    stage: int
    verb: str
    matched: int
    changed: int
    already: int
    refused: int
    done: bool
    example: str | None


class LedgerEntryView(TypedDict):
    number: int
    time: str | None
    kind: str
    stage: int
    seq: int
    attempt: int
    micros: int
    reserved_micros: int


class RetriesView(TypedDict):
    allowed: bool
    changed: bool
    actor: str | None
    reason: str | None
    since_time: str | None


def summary_view(summary: scheduler_pb2.RunSummary) -> SummaryView:
    return {
        "run": run_view(summary.run),
        "throughput": {
            "items_per_second": round(summary.throughput.items_per_second, 3),
            "last_hour": summary.throughput.last_hour,
        },
        "eta": {
            "known": summary.eta.known,
            "early_time": time_text(summary.eta.early_time),
            "late_time": time_text(summary.eta.late_time),
            "reason": summary.eta.reason or None,
        },
        "running": [
            {
                "stage": item.stage,
                "seq": item.seq,
                "key": item.key,
                "phase": item.phase or None,
                "progress": round(item.progress, 3),
                "start_time": time_text(item.start_time),
                "worker": item.worker,
                "attempt": item.attempt,
                "mode": mode_word(item.mode),
            }
            for item in summary.running
        ],
        "failures": [
            {
                "fingerprint": group.fingerprint,
                "kind": group.kind,
                "count": group.count,
                "example_stage": group.example_stage,
                "example_seq": group.example_seq,
                "example_key": group.example_key,
                "example_error": group.example_error,
                "first_time": time_text(group.first_time),
                "last_time": time_text(group.last_time),
            }
            for group in summary.failures
        ],
        "failure_groups": summary.failure_groups,
    }


def explanation_view(explanation: scheduler_pb2.Explanation) -> ExplanationView:
    return {
        "state": explanation.state,
        "reasons": [
            {
                "code": reason.code,
                "text": reason.text,
                "change": reason.change or None,
                "since_time": time_text(reason.since_time),
                "until_time": time_text(reason.until_time),
                "key": reason.key or None,
                "items": reason.items or None,
            }
            for reason in explanation.reasons
        ],
        "ahead": explanation.ahead if explanation.ahead >= 0 else None,
    }


def gate_answer_word(answer: rules_pb2.GateAnswer.ValueType) -> str | None:
    """`approve` or `reject`; None where nothing was said."""
    return rules_pb2.GateAnswer.Name(answer).removeprefix("GATE_ANSWER_").lower() if answer else None


def gate_view(gate: scheduler_pb2.Gate) -> GateView:
    return {
        "run_id": gate.run_id,
        "stage": gate.stage,
        "name": gate.name,
        "since_time": time_text(gate.since_time),
        "due_time": time_text(gate.due_time),
        "default_answer": gate_answer_word(gate.default_answer),
    }


def action_view(action: scheduler_pb2.ItemAction) -> ActionView:
    return {
        "action_id": action.action_id or None,
        "run_id": action.run_id,
        "stage": action.stage,
        "verb": scheduler_pb2.ItemVerb.Name(action.verb).removeprefix("ITEM_VERB_").lower(),
        "matched": action.matched,
        "changed": action.changed,
        "already": action.already,
        "refused": action.refused,
        "done": action.done,
        "example": action.example or None,
    }


def ledger_entry_view(entry: scheduler_pb2.LedgerEntry) -> LedgerEntryView:
    return {
        "number": entry.number,
        "time": time_text(entry.time),
        "kind": entry.kind,
        "stage": entry.stage,
        "seq": entry.seq,
        "attempt": entry.attempt,
        "micros": entry.micros,
        "reserved_micros": entry.reserved_micros,
    }


def retries_view(answer: scheduler_pb2.Retries) -> RetriesView:
    return {
        "allowed": answer.allowed,
        "changed": answer.changed,
        "actor": answer.actor or None,
        "reason": answer.reason or None,
        "since_time": time_text(answer.since_time),
    }
