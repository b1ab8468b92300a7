"""Progress as server-sent events: a snapshot first, numbered events, resume, an end."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.integration.gateway.test_api import planned


def read(http: httpx.Client, path: str, *, at_most: int = 1000, **headers: str) -> list[dict[str, Any]]:
    """The messages of a stream until it ends: name, id, data."""
    messages: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    with http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if not line:
                if "event" in current:
                    messages.append(current)
                current = {}
                if len(messages) >= at_most:
                    break
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                current[name] = json.loads(value) if name == "data" else value
    return messages


def test_a_job_is_told_from_a_snapshot_to_its_end(http: httpx.Client, job: dict[str, Any]) -> None:
    messages = read(http, f"/api/batch/{job['job_id']}/events")
    assert messages[0]["event"] == "status"
    assert messages[0]["data"] == job
    assert "id" not in messages[0]
    events = [message for message in messages if message["event"] == "event"]
    assert [int(message["id"]) for message in events] == list(range(1, len(events) + 1))
    assert [message["data"]["number"] for message in events] == [int(message["id"]) for message in events]
    assert messages[-1] == {"event": "end", "data": job}


def test_a_stream_is_taken_up_after_the_last_event(http: httpx.Client, job: dict[str, Any]) -> None:
    path = f"/api/v1/runs/{job['run_id']}/events/stream"
    every = [one["id"] for one in read(http, path) if one["event"] == "event"]
    messages = read(http, path, **{"Last-Event-ID": every[2]})
    assert messages[0]["event"] == "run"
    assert [one["id"] for one in messages if one["event"] == "event"] == every[3:]
    assert [one["event"] for one in read(http, f"{path}?from=now")] == ["run", "end"]


def test_a_run_is_followed_while_it_runs(http: httpx.Client) -> None:
    plan = planned(http, 2000, "followed", concurrency=4)
    run_id = http.post("/api/v1/runs", json={"plan_id": plan["plan_id"]}).json()["run_id"]
    messages = read(http, f"/api/v1/runs/{run_id}/events/stream")
    assert messages[-1]["event"] == "end"
    assert messages[-1]["data"]["state"] == "completed"
    assert messages[-1]["data"]["counts"]["completed"] == 2000
    numbers = [int(one["id"]) for one in messages if one["event"] == "event"]
    assert numbers == list(range(1, len(numbers) + 1))
    shown = [one["data"]["counts"]["completed"] for one in messages if one["event"] == "run"]
    assert shown == sorted(shown)


@pytest.mark.parametrize("value", ["x", "-1", "1" * 30])
def test_a_bad_last_event_id_is_told(http: httpx.Client, job: dict[str, Any], value: str) -> None:
    answer = http.get(f"/api/batch/{job['job_id']}/events", headers={"Last-Event-ID": value})
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_event_id"
