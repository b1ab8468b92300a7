"""A run as a job: which status, which progress, which words."""

from __future__ import annotations

import pytest

from penstock.client.jobs import document_status, job_status
from penstock.v1 import scheduler_pb2 as s


def run(
    state: s.RunState.ValueType,
    *,
    total: int = 10,
    completed: int = 0,
    failed: int = 0,
    collection: s.StageState.ValueType = s.STAGE_STATE_PENDING,
    share: float = 0.0,
    started: bool = True,
    error: str = "",
) -> s.Run:
    made = s.Run(run_id="run-a", number=7, state=state, granularity="sentence", error=error)
    made.stages.append(s.Stage(counts=s.ItemCounts(total=total, completed=completed, failed=failed)))
    made.stages.append(s.Stage(stage=1, state=collection, progress=share))
    made.create_time.FromMilliseconds(1_700_000_000_123)
    if started:
        made.start_time.FromMilliseconds(1_700_000_001_000)
    made.end_time.FromMilliseconds(1_700_000_009_999)
    return made


DONE = s.STAGE_STATE_COMPLETED


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (run(s.RUN_STATE_QUEUED, started=False), "PENDING"),
        (run(s.RUN_STATE_PAUSED, started=False), "PENDING"),
        (run(s.RUN_STATE_RUNNING), "PROCESSING"),
        (run(s.RUN_STATE_PAUSED), "PROCESSING"),
        (run(s.RUN_STATE_STOPPING), "PROCESSING"),
        (run(s.RUN_STATE_RUNNING, completed=10, collection=s.STAGE_STATE_RUNNING, share=0.9), "PROCESSING"),
        (run(s.RUN_STATE_COMPLETED, completed=10, collection=DONE), "COMPLETED"),
        (run(s.RUN_STATE_COMPLETED_WITH_FAILURES, completed=9, failed=1, collection=DONE), "COMPLETED"),
        (run(s.RUN_STATE_STOPPED, completed=4), "FAILED"),
        (run(s.RUN_STATE_FAILED, failed=10, collection=s.STAGE_STATE_SKIPPED), "FAILED"),
        (run(s.RUN_STATE_FAILED, completed=10, collection=s.STAGE_STATE_FAILED), "FAILED"),
        (run(s.RUN_STATE_COMPLETED_WITH_FAILURES, completed=10, collection=s.STAGE_STATE_FAILED), "FAILED"),
    ],
)
def test_status_of_a_job(given: s.Run, status: str) -> None:
    told = job_status(given)
    assert told["status"] == status
    assert (told["error_message"] is not None) == (status == "FAILED")


def test_the_status_object_has_exactly_the_fields_of_the_contract() -> None:
    told = job_status(run(s.RUN_STATE_COMPLETED_WITH_FAILURES, completed=9, failed=1, collection=DONE))
    assert told == {
        "job_id": 7,
        "run_id": "run-a",
        "status": "COMPLETED",
        "total_documents": 10,
        "processed_documents": 10,
        "granularity": "sentence",
        "created_at": "2023-11-14T22:13:20.123Z",
        "started_at": "2023-11-14T22:13:21.000Z",
        "completed_at": "2023-11-14T22:13:29.999Z",
        "error_message": None,
        "progress": 100,
    }


def test_a_job_that_has_not_ended_has_no_end_even_if_it_had_one_before_it_was_resumed() -> None:
    assert job_status(run(s.RUN_STATE_RUNNING))["completed_at"] is None


def test_progress_is_100_only_when_completed_and_never_goes_back() -> None:
    on_the_way = [
        run(s.RUN_STATE_QUEUED, started=False),
        *(run(s.RUN_STATE_RUNNING, completed=done - 1, failed=1) for done in range(1, 11)),
        *(
            run(s.RUN_STATE_RUNNING, completed=10, collection=s.STAGE_STATE_RUNNING, share=share / 10)
            for share in range(11)
        ),
        run(s.RUN_STATE_RUNNING, completed=10, collection=DONE),
    ]
    shown = [job_status(one)["progress"] for one in on_the_way]
    assert shown == sorted(shown)
    assert shown[0] == 0
    assert shown[-1] == 99
    assert job_status(run(s.RUN_STATE_FAILED, completed=10, collection=s.STAGE_STATE_FAILED))["progress"] < 100
    assert job_status(run(s.RUN_STATE_COMPLETED, completed=10, collection=DONE))["progress"] == 100


def test_a_failed_job_says_why() -> None:
    assert job_status(run(s.RUN_STATE_STOPPED, error="stopped by cli"))["error_message"] == "stopped by cli"
    assert "stopped" in (job_status(run(s.RUN_STATE_STOPPED))["error_message"] or "")
    assert job_status(run(s.RUN_STATE_STOPPED, error="wrong folder"))["error_message"] == "stopped: wrong folder"
    nothing = run(s.RUN_STATE_FAILED, failed=10, error="stage 0 (document): none of 10 items completed")
    nothing.stages[0].state = s.STAGE_STATE_FAILED
    nothing.stages[0].error = "none of 10 items completed"
    assert job_status(nothing)["error_message"] == "no document could be analysed; each says why"
    nothing.stages[0].error = "none of 10 items completed: it is empty"
    assert job_status(nothing)["error_message"] == "no document could be analysed: it is empty"
    told = run(s.RUN_STATE_FAILED, completed=10, collection=s.STAGE_STATE_FAILED)
    told.stages[1].error = "none of 1 items completed"
    assert job_status(told)["error_message"] == "the documents could not be compared"
    told.stages[1].error = "no memory left"
    assert job_status(told)["error_message"] == "the documents could not be compared: no memory left"


def test_what_was_stopped_is_processed_as_the_results_say_but_no_progress() -> None:
    stopped = run(s.RUN_STATE_STOPPED, completed=4)
    stopped.stages[0].counts.stopped = 6
    told = job_status(stopped)
    assert (told["processed_documents"], told["progress"]) == (10, 36)


def test_every_item_state_is_a_document_status() -> None:
    for number in s.ItemState.values()[1:]:
        assert document_status(number) in ("PENDING", "PROCESSING", "COMPLETED", "FAILED")
