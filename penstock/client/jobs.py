"""A run of documents as the documents contract tells it: the status object, and the words for it.

PENDING until it has started; PROCESSING until the collection stage has ended, also while paused; COMPLETED also with
failed documents; FAILED when it was stopped, when no document could be analysed, or when the collection failed.
`processed_documents` are those that the results list as COMPLETED or FAILED: once a job was stopped, all of them.
`progress` counts what was executed, and is 100 at COMPLETED only.
"""

from __future__ import annotations

import re

from typing_extensions import TypedDict

from penstock.client.runs import ENDED
from penstock.client.views import time_text
from penstock.v1 import scheduler_pb2

__all__ = ["COMPLETED", "FAILED", "PENDING", "PROCESSING", "JobStatus", "document_status", "job_status"]

PENDING, PROCESSING, COMPLETED, FAILED = "PENDING", "PROCESSING", "COMPLETED", "FAILED"

DOCUMENTS_SHARE = 90  # of the progress: analysing the documents; the collection has the rest
COLLECTION_SHARE = 9  # the last point is COMPLETED itself


class JobStatus(TypedDict):
    job_id: int
    run_id: str
    status: str
    total_documents: int
    processed_documents: int
    granularity: str
    created_at: str | None
    started_at: str | None
    completed_at: str | None
    error_message: str | None
    progress: int


_DOCUMENT_STATUS = {
    scheduler_pb2.ITEM_STATE_QUEUED: PENDING,
    scheduler_pb2.ITEM_STATE_RETRY: PENDING,
    scheduler_pb2.ITEM_STATE_DEFERRED: PENDING,
    scheduler_pb2.ITEM_STATE_RUNNING: PROCESSING,
    scheduler_pb2.ITEM_STATE_COMPLETED: COMPLETED,
    scheduler_pb2.ITEM_STATE_FAILED: FAILED,
    scheduler_pb2.ITEM_STATE_SKIPPED: FAILED,
    scheduler_pb2.ITEM_STATE_STOPPED: FAILED,
}


_STAGES_FAILED = ("no document could be analysed", "the documents could not be compared")
_NONE_COMPLETED = re.compile(r"none of \d+ items? completed(: )?")
"""What the scheduler says of a stage before the error that its items have in common."""


def document_status(state: scheduler_pb2.ItemState.ValueType) -> str:
    return _DOCUMENT_STATUS[state]


def _status(run: scheduler_pb2.Run) -> str:
    if run.state == scheduler_pb2.RUN_STATE_QUEUED:
        return PENDING
    if run.state == scheduler_pb2.RUN_STATE_PAUSED and not run.HasField("start_time"):
        return PENDING
    if run.state not in ENDED:
        return PROCESSING
    collected = len(run.stages) > 1 and run.stages[1].state == scheduler_pb2.STAGE_STATE_COMPLETED
    stopped = run.state in (scheduler_pb2.RUN_STATE_STOPPED, scheduler_pb2.RUN_STATE_FAILED)
    return COMPLETED if collected and not stopped else FAILED


def _error(run: scheduler_pb2.Run) -> str:
    if run.state == scheduler_pb2.RUN_STATE_STOPPED:
        told = run.error or "stopped before it was done"
        return told if told.startswith("stopped") else f"stopped: {told}"
    for stage, what in zip(run.stages, _STAGES_FAILED, strict=False):
        if stage.state == scheduler_pb2.STAGE_STATE_FAILED:
            why = _NONE_COMPLETED.sub("", stage.error)
            return f"{what}: {why}" if why else f"{what}; each says why" if stage.stage == 0 else what
    return run.error or _STAGES_FAILED[1]


def _progress(run: scheduler_pb2.Run, status: str) -> int:
    if status == COMPLETED:
        return 100
    if not run.stages or not run.stages[0].counts.total:
        return 0
    counts = run.stages[0].counts
    share = (counts.completed + counts.failed) / counts.total
    collection = run.stages[1] if len(run.stages) > 1 else None
    done = 0.0
    if collection is not None:
        done = 1.0 if collection.state == scheduler_pb2.STAGE_STATE_COMPLETED else min(collection.progress, 1.0)
    return int(DOCUMENTS_SHARE * share + COLLECTION_SHARE * done)


def job_status(run: scheduler_pb2.Run) -> JobStatus:
    """The status object of a run of documents."""
    counts = run.stages[0].counts if run.stages else scheduler_pb2.ItemCounts()
    status = _status(run)
    return {
        "job_id": run.number,
        "run_id": run.run_id,
        "status": status,
        "total_documents": counts.total,
        "processed_documents": counts.completed + counts.failed + counts.skipped + counts.stopped,
        "granularity": run.granularity,
        "created_at": time_text(run.create_time),
        "started_at": time_text(run.start_time),
        "completed_at": time_text(run.end_time) if run.state in ENDED else None,
        "error_message": _error(run) if status == FAILED else None,
        "progress": _progress(run, status),
    }
