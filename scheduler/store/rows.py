"""Rows of runs and stages, column for column, and what of them a locked run writes back.

Columns that are in no `…_CHANGES` never change after the run was made, or are written by a statement of their own
(`archive`). Plain values: nothing here reads or decides.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from penstock.v1.rules_pb2 import GateRules, StageRules
from scheduler.domain.progress import Progress
from scheduler.store.schema import runs, stages

__all__ = [
    "RUN_CHANGES",
    "RUN_COLUMNS",
    "STAGE_CHANGES",
    "STAGE_COLUMNS",
    "Opening",
    "RunRow",
    "StageRow",
    "gate_of",
    "progress_of",
    "queued_of",
]


@dataclass
class RunRow:
    """A row of `runs`, column for column."""

    number: int
    run_id: str
    plan_id: str
    source_id: str
    kind: int
    name: str
    granularity: str
    state: str
    epoch: int
    event_number: int
    settle_number: int
    error: str
    create_ms: int
    start_ms: int | None
    end_ms: int | None
    owner: str = ""
    priority: int = 0
    waiting: str = ""
    budget_micros: int | None = None
    spent_micros: int = 0
    reserved_micros: int = 0
    overrun_micros: int = 0
    unknown_micros: int = 0
    ledger_number: int = 0
    cloned_from: str = ""
    archive: str | None = None
    archive_ms: int | None = None
    needs_micros: int | None = None
    plan_removed: bool = False


@dataclass
class StageRow:
    """A row of `stages`, column for column."""

    run: int
    stage: int
    processor: str
    processor_version: str
    parameters: bytes
    concurrency: int
    max_tries: int
    max_run_seconds: int
    worker_class: str
    state: str
    total: int
    running: int
    retry: int
    completed: int
    failed: int
    skipped: int
    stopped: int
    cursor: int
    error: str
    start_ms: int | None
    end_ms: int | None
    rules: bytes = b""
    paid: bool = False
    repeatable: bool = True
    budget_micros: int | None = None
    item_budget_micros: int | None = None
    spent_micros: int = 0
    reserved_micros: int = 0
    overrun_micros: int = 0
    unknown_micros: int = 0
    heal_micros: int = 0
    deferred: int = 0
    healed: int = 0
    costs: bytes = b""
    uses: bytes = b""
    failing: str = ""
    gate_ms: int | None = None
    gate_due_ms: int | None = None
    first_rank: int = 0
    forgiven: int = 0


@dataclass(frozen=True)
class Opening:
    """A running stage of a running run."""

    run_id: str
    plan_id: str
    epoch: int
    owner: str
    priority: int
    row: StageRow


RUN_COLUMNS = [runs.c[f.name] for f in fields(RunRow)]
STAGE_COLUMNS = [stages.c[f.name] for f in fields(StageRow)]
RUN_CHANGES = (
    "state",
    "epoch",
    "event_number",
    "settle_number",
    "error",
    "start_ms",
    "end_ms",
    "priority",
    "waiting",
    "needs_micros",
    "budget_micros",
    "spent_micros",
    "reserved_micros",
    "overrun_micros",
    "unknown_micros",
    "ledger_number",
)
STAGE_CHANGES = (
    "concurrency",
    "max_tries",
    "max_run_seconds",
    "budget_micros",
    "item_budget_micros",
    "spent_micros",
    "reserved_micros",
    "overrun_micros",
    "unknown_micros",
    "heal_micros",
    "deferred",
    "healed",
    "costs",
    "uses",
    "failing",
    "gate_ms",
    "gate_due_ms",
    "first_rank",
    "forgiven",
    "state",
    "running",
    "retry",
    "completed",
    "failed",
    "skipped",
    "stopped",
    "cursor",
    "error",
    "start_ms",
    "end_ms",
)


def progress_of(stage: StageRow) -> Progress:
    return Progress(
        total=stage.total,
        running=stage.running,
        retry=stage.retry,
        completed=stage.completed,
        failed=stage.failed,
        skipped=stage.skipped,
        stopped=stage.stopped,
        deferred=stage.deferred,
    )


def queued_of(stage: StageRow) -> int:
    """Items that are queued, with a row or without."""
    return progress_of(stage).queued


def gate_of(stage: StageRow) -> GateRules | None:
    """The gate that is asked before the stage begins."""
    rules = StageRules.FromString(stage.rules)
    return rules.gate if rules.HasField("gate") else None
