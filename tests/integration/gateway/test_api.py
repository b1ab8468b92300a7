"""The resource API, its schema, its errors, and who may ask, over the real programs."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from penstock.client import find
from tests.servers.stack import Stack, until


def items_source(http: httpx.Client, count: int, tag: str) -> dict[str, Any]:
    lines = "\n".join(json.dumps({"key": f"{tag}-{n}", "group": "g", "payload": {"n": n}}) for n in range(count))
    answer = http.post("/api/v1/sources", files={"items": ("items.jsonl", lines)})
    assert answer.status_code == 200, answer.text
    source: dict[str, Any] = answer.json()
    return source


def planned(http: httpx.Client, count: int, tag: str, **stage: Any) -> dict[str, Any]:
    source = items_source(http, count, tag)
    body = {"source_id": source["source_id"], "stages": [{"processor": "noop", **stage}], "name": tag}
    answer = http.post("/api/v1/plans", json=body)
    assert answer.status_code == 200, answer.text
    plan: dict[str, Any] = answer.json()
    return plan


def run_ended(http: httpx.Client, run_id: str) -> dict[str, Any]:
    def state() -> dict[str, Any] | None:
        run: dict[str, Any] = http.get(f"/api/v1/runs/{run_id}").json()
        return run if run["state"] in ("completed", "completed_with_failures", "failed", "stopped") else None

    run: dict[str, Any] = until(f"{run_id} ended", state, seconds=40)
    return run


def test_items_from_source_to_outcome(http: httpx.Client) -> None:
    source = items_source(http, 250, "way")
    assert source["kind"] == "items"
    assert source["item_count"] == 250
    assert http.get(f"/api/v1/sources/{source['source_id']}").json() == source
    plan = planned(http, 250, "way")
    assert plan["source_id"] == source["source_id"]
    assert http.get(f"/api/v1/plans/{plan['plan_id']}").json()["plan_id"] == plan["plan_id"]
    assert plan["stages"][0]["processor"] == "noop"
    first = http.get(f"/api/v1/plans/{plan['plan_id']}/items", params={"page_size": 200}).json()
    rest = http.get(
        f"/api/v1/plans/{plan['plan_id']}/items", params={"page_size": 200, "page_token": first["next_page_token"]}
    ).json()
    assert [item["seq"] for item in first["items"] + rest["items"]] == list(range(250))
    assert rest["next_page_token"] is None
    assert first["items"][3]["payload"] == {"n": 3}

    body = {"plan_id": plan["plan_id"], "name": "way", "request_id": "req-way-1"}
    run = http.post("/api/v1/runs", json=body).json()
    assert http.post("/api/v1/runs", json=body).json()["run_id"] == run["run_id"]
    run = run_ended(http, run["run_id"])
    assert run["state"] == "completed"
    assert run["counts"]["completed"] == 250
    assert http.get(f"/api/v1/runs/{run['number']}").json() == run
    assert run["run_id"] in [one["run_id"] for one in http.get("/api/v1/runs").json()["runs"]]
    listed = http.get("/api/v1/runs", params={"state": "completed", "kind": "items"}).json()["runs"]
    assert run in listed

    page = http.get(f"/api/v1/runs/{run['run_id']}/items", params={"page_size": 100, "state": "completed"}).json()
    assert [item["seq"] for item in page["items"]] == list(range(100))
    assert page["items"][0]["attempt"] == 1
    again = http.get("/api/v1/items", params={"run_id": run["run_id"], "page_size": 100}).json()
    assert [item["key"] for item in again["items"]] == [item["key"] for item in page["items"]]
    one = http.get(f"/api/v1/runs/{run['run_id']}/items/0/7").json()
    assert (one["key"], one["state"], one["payload"]) == ("way-7", "completed", {"n": 7})

    events = http.get(f"/api/v1/runs/{run['run_id']}/events").json()["events"]
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert (
        http.get("/api/v1/events", params={"run_id": run["run_id"], "page_token": "1"}).json()["events"] == events[1:]
    )


def test_pause_resume_stop(http: httpx.Client) -> None:
    plan = planned(http, 3000, "halt", concurrency=1)
    run_id = http.post("/api/v1/runs", json={"plan_id": plan["plan_id"]}).json()["run_id"]
    answer = http.post(f"/api/v1/runs/{run_id}/pause", json={"reason": "lunch"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["run"]["state"] == "paused"
    assert not http.post(f"/api/v1/runs/{run_id}/pause").json()["changed"]
    assert http.post(f"/api/v1/runs/{run_id}/resume").json()["run"]["state"] == "running"
    headers = {"Penstock-Actor": "ann"}
    http.patch(f"/api/v1/runs/{run_id}", json={"priority": 3, "reason": "it is urgent"}, headers=headers)
    told = [event for event in http.get(f"/api/v1/runs/{run_id}/events").json()["events"] if event["actor"] == "ann"]
    assert [(event["type"], event["reason"]) for event in told] == [("run.updated", "it is urgent")]
    http.post(f"/api/v1/runs/{run_id}/stop", json={"force": True, "reason": "enough"})
    run = run_ended(http, run_id)
    assert run["state"] == "stopped"
    answer = http.post(f"/api/v1/runs/{run_id}/pause")
    assert answer.status_code == 409
    assert "stopped" in answer.json()["detail"]
    answer = http.get(f"/api/v1/runs/{run_id}/events", params={"type": "run.stat"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_type")
    reasons = [event["reason"] for event in http.get(f"/api/v1/runs/{run_id}/events").json()["events"]]
    assert "lunch" in reasons
    actors = {event["actor"] for event in http.get(f"/api/v1/runs/{run_id}/events").json()["events"]}
    assert "http" in actors


def test_a_preview_is_the_plan(http: httpx.Client) -> None:
    source = items_source(http, 3, "preview")
    body = {"source_id": source["source_id"], "stages": [{"processor": "noop"}]}
    draft = http.post("/api/v1/plans", json={**body, "validate_only": True}).json()
    assert draft["draft"]
    plan = http.post("/api/v1/plans", json=body).json()
    assert plan["plan_id"] == draft["plan_id"]
    assert not plan["draft"]


def test_a_collection(http: httpx.Client, job: dict[str, Any]) -> None:
    collection = http.get(f"/api/v1/collections/{job['run_id']}").json()
    assert collection["document_count"] == 4
    page = http.get(f"/api/v1/collections/{job['run_id']}/documents").json()
    assert len(page["documents"]) == 4
    assert collection["run_id"] == job["run_id"]
    assert collection["create_time"].endswith("Z")
    assert [len(row) for row in collection["similarity_matrix"]] == [4] * 4
    assert collection["cluster_matrix"] is None
    for document in page["documents"]:
        assert document["summary"]["confidence_level"] in ("high", "medium", "low", "uncertain")
        assert all(isinstance(seq, int) for seq in (document["seq"], *(one["seq"] for one in document["neighbours"])))
        assert (document["summary"]["ai_probability"] is None) == (
            document["summary"]["confidence_level"] == "uncertain"
        )
    first = http.get(f"/api/v1/collections/{job['run_id']}/documents", params={"page_size": 3}).json()
    token = first["next_page_token"]
    rest = http.get(f"/api/v1/collections/{job['run_id']}/documents", params={"page_token": token}).json()
    assert first["documents"] + rest["documents"] == page["documents"]
    assert rest["next_page_token"] is None


def test_processors(http: httpx.Client) -> None:
    names = [one["name"] for one in http.get("/api/v1/processors").json()["processors"]]
    assert {"document", "collection", "noop"} <= set(names)


def test_endpoints_lead_a_client_to_the_services(stack: Stack, http: httpx.Client) -> None:
    told = http.get("/api/v1/endpoints").json()
    assert told["data"] == str(stack.data)
    found = find(environment={"PENSTOCK_URL": stack.url})
    by_folder = find(data=stack.data, environment={})
    assert (found.planner, found.token, found.blobs) == (by_folder.planner, by_folder.token, by_folder.blobs)
    assert found.token


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/v1/sources/none", None, 404),
        ("GET", "/api/v1/plans/none", None, 404),
        ("GET", "/api/v1/plans/none/items", None, 404),
        ("GET", "/api/v1/plans/none/items?page_token=" + "9" * 25, None, 400),
        ("GET", "/api/v1/runs/none", None, 404),
        ("GET", "/api/v1/runs/99999999", None, 404),
        ("GET", "/api/v1/runs/99999999999999999999999", None, 404),
        ("GET", "/api/v1/runs/" + "a" * 60_000, None, 404),
        ("GET", "/api/v1/plans/" + "a" * 60_000, None, 404),
        ("GET", "/api/v1/runs/%00", None, 400),
        ("GET", "/api/v1/plans/%00", None, 400),
        ("GET", "/api/v1/plans/%00/items", None, 400),
        ("GET", "/api/v1/sources/%00", None, 400),
        ("GET", "/api/v1/runs/none/items", None, 404),
        ("GET", "/api/v1/runs/none/items/0/0", None, 404),
        ("GET", "/api/v1/runs/none/events", None, 404),
        ("GET", "/api/v1/runs/none/events/stream", None, 404),
        ("POST", "/api/v1/runs/none/pause", None, 404),
        ("GET", "/api/v1/collections/none", None, 404),
        ("GET", "/api/v1/nothing", None, 404),
        ("DELETE", "/api/v1/runs", None, 405),
        ("GET", "/api/v1/runs?state=done", None, 400),
        ("GET", "/api/v1/runs?page_size=0", None, 400),
        ("GET", "/api/v1/runs?page_token=%00x", None, 400),
        ("GET", "/api/v1/items", None, 400),
        ("POST", "/api/v1/plans", {}, 400),
        ("POST", "/api/v1/plans", {"source_id": "none"}, 404),
        ("POST", "/api/v1/plans", {"source_id": "none", "unknown": 1}, 400),
        ("POST", "/api/v1/runs", {"plan_id": "none"}, 404),
        ("POST", "/api/v1/runs", {"plan_id": "none", "name": "a\0b"}, 400),
        ("POST", "/api/v1/runs", [], 400),
        ("POST", "/api/v1/runs", {"plan_id": 3}, 400),
    ],
)
def test_errors_are_problems(http: httpx.Client, method: str, path: str, body: object, status: int) -> None:
    answer = http.request(method, path, json=body) if body is not None else http.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"]
    assert problem["detail"]


def test_a_body_is_bounded_also_when_it_does_not_say_how_long_it_is(http: httpx.Client) -> None:
    chunks = (b"x" * (1 << 20) for _ in range(8))
    answer = http.post("/api/v1/runs", content=chunks, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.headers["content-type"] == "application/problem+json"


def test_bad_json_and_unknown_processors_are_told(http: httpx.Client) -> None:
    answer = http.post("/api/v1/runs", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "the body is no JSON")
    answer = http.post("/api/v1/runs", content=b'{"plan_id": "x"}')
    assert answer.status_code == 400
    assert "application/json" in answer.json()["detail"]
    source = items_source(http, 1, "unknown")
    answer = http.post("/api/v1/plans", json={"source_id": source["source_id"], "stages": [{"processor": "nope"}]})
    assert answer.status_code in (400, 404)
    assert "noop" in answer.json()["detail"]
    answer = http.post("/api/v1/sources", files={"items": ("items.jsonl", b'{"key": ""}\nnot json')})
    assert answer.status_code == 400


def test_the_deepest_payload_that_is_taken_is_shown(http: httpx.Client) -> None:
    line = b'{"key":"deep","payload":{"n":18446744073709551615,"x":' + b"[" * 98 + b"]" * 98 + b"}}"
    source = http.post("/api/v1/sources", files={"items": ("items.jsonl", line)}).json()
    plan = http.post("/api/v1/plans", json={"source_id": source["source_id"], "stages": [{"processor": "noop"}]}).json()
    run = http.post("/api/v1/runs", json={"plan_id": plan["plan_id"]}).json()["run_id"]
    payload = json.loads(line)["payload"]
    assert http.get(f"/api/v1/plans/{plan['plan_id']}/items").json()["items"][0]["payload"] == payload
    assert http.get(f"/api/v1/runs/{run}/items?with_payload=true").json()["items"][0]["payload"] == payload
    assert http.get(f"/api/v1/runs/{run}/items/0/0").json()["payload"] == payload
    assert run_ended(http, run)["state"] == "completed"


def test_no_token_and_no_type_breaks_a_list(http: httpx.Client, job: dict[str, Any]) -> None:
    run = f"/api/v1/runs/{job['run_id']}"
    for path in ("/api/v1/runs?", f"{run}/items?", f"{run}/events?", f"/api/v1/collections/{job['run_id']}/documents?"):
        assert http.get(f"{path}page_token={'9' * 30}").status_code == 400, path
    assert http.get(f"{run}/events?type=%00").status_code == 400
    assert http.get(f"/api/v1/events?run_id={'a' * 60_000}").status_code == 400


@pytest.mark.parametrize("value", [b'"\\ud800"', b"[" * 600 + b"]" * 600, b"9" * 30])
def test_parameters_that_json_cannot_hold_are_told(http: httpx.Client, value: bytes) -> None:
    source = items_source(http, 1, "parameters")["source_id"].encode()
    body = b'{"source_id":"%b","stages":[{"processor":"noop","parameters":{"x":%b}}]}' % (source, value)
    answer = http.post("/api/v1/plans", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameters"), answer.text


def test_browsers_get_pages(http: httpx.Client) -> None:
    home = http.get("/", headers={"accept": "text/html"})
    assert "<title>Penstock</title>" in home.text
    assert http.get("/", headers={"if-none-match": home.headers["etag"]}).status_code == 304
    for path in ("/app.css", "/app.js", "/amounts.js", "/operating.js", "/icon.svg"):
        assert http.get(path).status_code == 200
    error = http.get("/api/batch/999999/report", headers={"accept": "text/html,*/*"})
    assert error.status_code == 404
    assert error.headers["content-type"].startswith("text/html")
    assert "there is no job 999999" in error.text


def test_health(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "alive"}
    ready = http.get("/readyz")
    assert ready.status_code == 200
    assert set(ready.json()["checks"]) == {"planner", "scheduler", "analyzer"}
    metrics = http.get("/metrics").text
    assert "penstock_http_seconds" in metrics
    for of_the_scheduler in ("penstock_commit", "penstock_redis_rebuilds"):
        assert of_the_scheduler not in metrics


def test_only_this_machine_and_no_foreign_page_may_write(http: httpx.Client) -> None:
    assert http.get("/api/batch/jobs", headers={"host": "penstock.example.org"}).status_code == 403
    assert http.post("/api/batch/upload", headers={"origin": "http://evil.example"}).status_code == 403
    assert http.get("/api/batch/jobs", headers={"origin": "http://evil.example"}).status_code == 200


def test_the_schema_is_true(http: httpx.Client, job: dict[str, Any]) -> None:
    schema = http.get("/openapi.json").json()
    assert "422" not in json.dumps([route["responses"] for path in schema["paths"].values() for route in path.values()])
    form = schema["paths"]["/api/batch/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) >= {"files", "zip_file", "granularity"}
    for path, method in (("runs", "post"), ("plans", "post"), ("items", "get"), ("events", "get")):
        assert "404" in schema["paths"][f"/api/v1/{path}"][method]["responses"], path
    problem = schema["components"]["schemas"]["Problem"]["required"]
    assert set(http.get("/api/v1/runs/none").json()) == set(problem)
    answers = {
        "JobStatus": http.get(f"/api/batch/{job['job_id']}/status").json(),
        "Results": http.get(f"/api/batch/{job['job_id']}/results").json(),
        "DocumentView": http.get(f"/api/batch/{job['job_id']}/documents/1").json(),
        "RunView": http.get(f"/api/v1/runs/{job['run_id']}").json(),
        "CollectionView": http.get(f"/api/v1/collections/{job['run_id']}").json(),
        "CollectionDocumentPage": http.get(f"/api/v1/collections/{job['run_id']}/documents").json(),
        "Endpoints": http.get("/api/v1/endpoints").json(),
    }
    for name, answer in answers.items():
        assert set(schema["components"]["schemas"][name]["properties"]) == set(answer), name
