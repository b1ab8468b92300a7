"""The client over the real programs: what a user writes, and a watch that outlives the scheduler."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock import Client
from penstock.client.jobs import JobStatus
from penstock.client.resources import StageOptions
from penstock.runtime.errors import Conflict, InvalidInput, NotFound
from penstock.v1 import scheduler_pb2
from tests.servers.stack import Stack

TEXTS = {
    "north/lamp.txt": "The lamp at the end of the pier was lit by hand until the war. My aunt carried the oil. " * 6,
    "north/lamp copy.txt": "The lamp at the end of the pier was lit by hand until the war. My aunt carried oil. " * 6,
    "bees.md": "Bees do not care for rain. In June they sat at the door of the hive and waited, and so did I. " * 6,
    "none.txt": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in TEXTS.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(text)
    return tmp_path / "in"


def test_documents_from_a_folder_to_results(stack: Stack, folder: Path) -> None:
    client = stack.client
    seen: list[JobStatus] = []
    job = client.documents.analyze([folder], granularity="paragraph", name="letters")
    assert job["total_documents"] == len(TEXTS)
    status = client.documents.wait(job["job_id"], on_change=seen.append)
    assert status["status"] == "COMPLETED"
    assert seen[-1] == status
    results = client.documents.results(job["job_id"])
    assert {row["filename"] for row in results["documents"]} == set(TEXTS)
    assert [row["filename"] for row in results["documents"] if row["status"] == "FAILED"] == ["none.txt"]
    number = next(row["id"] for row in results["documents"] if row["filename"] == "north/lamp.txt")
    document = client.documents.document(job["job_id"], number)
    assert document["text"] == TEXTS["north/lamp.txt"]
    assert document["neighbours"][0]["filename"] == "north/lamp copy.txt"
    assert json.loads(b"".join(client.documents.export(job["job_id"], "json")))["job"] == status
    collection = client.documents.collection(job["job_id"])
    assert collection is not None
    assert collection.document_count == 3
    assert client.runs.get(job["run_id"]).name == "letters"


def test_a_zip_is_the_same(stack: Stack, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "letters.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name, text in TEXTS.items():
            made.writestr(name, text)
    job = stack.client.documents.analyze([archive], zip=True)
    assert job["total_documents"] == len(TEXTS)
    with pytest.raises(InvalidInput, match="one archive"):
        stack.client.documents.analyze([folder], zip=True)


def test_items_from_mappings_to_outcomes(stack: Stack) -> None:
    client = stack.client
    source = client.sources.items([{"key": f"sdk-{number}", "payload": {"n": number}} for number in range(300)])
    plan = client.plans.create(source.source_id, stages=[StageOptions(processor="noop", max_tries=2)])
    assert [item.key for item in client.plans.items(plan.plan_id)][:2] == ["sdk-0", "sdk-1"]
    run = client.runs.start(plan.plan_id, request_id="req-sdk-whole")
    assert client.runs.start(plan.plan_id, request_id="req-sdk-whole").run_id == run.run_id
    ended = client.runs.wait(run.run_id)
    assert ended.state == scheduler_pb2.RUN_STATE_COMPLETED
    assert len(list(client.runs.items(run.run_id, states=["completed"]))) == 300
    numbers = [event.number for event in client.runs.events(run.run_id)]
    assert numbers == list(range(1, len(numbers) + 1))
    with pytest.raises(Conflict):
        client.runs.pause(run.run_id)
    with pytest.raises(NotFound):
        client.runs.get("run-none")


def test_a_watch_outlives_the_scheduler(fresh_stack: Callable[..., Stack]) -> None:
    stack = fresh_stack()
    stack.start()
    with Client(data=stack.data) as client:
        source = client.sources.items([{"key": f"{number}"} for number in range(400)])
        stage = StageOptions(processor="noop", parameters={"sleep_seconds": 0.02}, concurrency=2)
        plan = client.plans.create(source.source_id, stages=[stage])
        run = client.runs.start(plan.plan_id)
        numbers: list[int] = []
        killed = False
        last = run
        for answer in client.runs.watch(run.run_id):
            last = answer.run
            numbers += [event.number for event in answer.events]
            if not killed and answer.run.counts.completed > 20:
                stack.kill("scheduler")
                killed = True
        assert killed
        assert last.state == scheduler_pb2.RUN_STATE_COMPLETED
        assert last.counts.completed == 400
        assert numbers == list(range(1, len(numbers) + 1))
