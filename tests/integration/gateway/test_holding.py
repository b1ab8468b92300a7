"""Holding runs and letting them go, over HTTP and all of Penstock; the same from Python with a run in the hand."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from penstock.client.resources import StageOptions
from penstock.client.runs import StageChange
from penstock.runtime.errors import Conflict, InvalidInput
from penstock.v1 import scheduler_pb2 as s
from tests.integration.gateway.test_api import run_ended
from tests.servers.stack import Stack, until


def planned(http: httpx.Client, tag: str, payloads: list[dict[str, Any]], **stage: Any) -> str:
    lines = "\n".join(json.dumps({"key": f"{tag}-{n}", "payload": one}) for n, one in enumerate(payloads))
    source = http.post("/api/v1/sources", files={"items": ("items.jsonl", lines)}).json()
    body = {"source_id": source["source_id"], "stages": [{"processor": "noop", **stage}], "name": tag}
    answer = http.post("/api/v1/plans", json=body)
    assert answer.status_code == 200, answer.text
    plan_id: str = answer.json()["plan_id"]
    return plan_id


def told_until(http: httpx.Client, path: str, state: str) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        run: dict[str, Any] = http.get(path).json()
        return run if run["state"] == state else None

    run: dict[str, Any] = until(f"{path} is {state}", there, seconds=40, pause=0.1)
    return run


def test_a_gate_over_http(http: httpx.Client) -> None:
    rules = {"gate": {"name": "go", "timeout_seconds": 3600, "default_answer": "approve"}}
    plan_id = planned(http, "http-gate", [{}] * 3, rules=rules)
    stage = http.get(f"/api/v1/plans/{plan_id}").json()["stages"][0]
    assert stage["rules"]["gate"] == {"name": "go", "timeout_seconds": 3600, "default_answer": "approve"}
    body = {"plan_id": plan_id, "owner": "ada", "priority": 3, "request_id": "req-http-gate"}
    run = http.post("/api/v1/runs", json=body).json()
    path = f"/api/v1/runs/{run['run_id']}"
    held = told_until(http, path, "waiting")
    assert (held["waiting"], held["owner"], held["priority"]) == ("gate go", "ada", 3)
    (gate,) = http.get(f"{path}/gates").json()["gates"]
    assert (gate["name"], gate["default_answer"]) == ("go", "approve")
    assert gate["due_time"] > gate["since_time"]
    assert http.get(f"{path}/explain").json()["reasons"][0]["code"] == "gate"
    answer = {"reason": "looks right", "request_id": "req-http-gate-answer"}
    approved = http.post(f"{path}/gates/go/approve", json=answer)
    assert approved.json()["changed"]
    assert http.post(f"{path}/gates/go/approve", json=answer).json()["changed"], "the same request, the same answer"
    assert http.post(f"{path}/gates/go/approve").status_code == 409
    assert http.post(f"{path}/gates/stop/approve").status_code == 404
    run_ended(http, run["run_id"])
    types = [event["type"] for event in http.get(f"{path}/events").json()["events"]]
    assert "gate.approved" in types
    summary = http.get(f"{path}/summary").json()
    assert (summary["run"]["counts"]["completed"], summary["failure_groups"]) == (3, 0)


def test_a_limit_over_http(http: httpx.Client) -> None:
    path = "/api/v1/limits/http-test:a%2Fb"
    body = {"concurrency": 2, "rates": [{"dimension": "requests", "per_minute": 6000}], "reason": "theirs"}
    made = http.put(path, json=body)
    assert made.status_code == 200, made.text
    limit = made.json()
    assert (limit["key"], limit["state"], limit["concurrency"]) == ("http-test:a/b", "open", 2)
    stale = http.put(path, json={**body, "concurrency": 3, "etag": "an older one"})
    assert stale.status_code == 409, stale.text
    assert http.put(path, json={**body, "concurrency": 3, "etag": limit["etag"]}).json()["concurrency"] == 3
    wrong = http.put(path, json={"concurrency": -1, "rates": [{"dimension": "Tokens", "per_minute": -5}]})
    assert wrong.status_code == 400
    assert all(word in wrong.json()["detail"] for word in ("concurrency", "Tokens", "per_minute"))

    assert http.post(f"{path}/close", json={"reason": "asked to"}).json()["state"] == "closed"
    plan_id = planned(http, "http-limit", [{"limits": ["http-test:a/b"]}, {}])
    run = http.post("/api/v1/runs", json={"plan_id": plan_id}).json()
    at = f"/api/v1/runs/{run['run_id']}"
    until("the other is done", lambda: http.get(at).json()["counts"]["completed"] == 1)
    reasons = http.get(f"{at}/items/0/0/explain").json()["reasons"]
    assert "http-test:a/b" in [reason["key"] for reason in reasons]
    assert http.post(f"{path}/open").json()["state"] == "open"
    assert run_ended(http, run["run_id"])["state"] == "completed"
    assert http.delete(path).json() == {"changed": True}
    assert http.get(path).status_code == 404
    told = http.get(f"{path}/events").json()["events"]
    assert [one["type"] for one in told] == ["limit.deleted", "limit.open", "limit.closed", "limit.set", "limit.set"]
    assert (told[2]["new_state"], told[2]["reason"]) == ("closed", "asked to")
    assert http.get("/api/v1/limits/events", params={"page_size": 1}).json()["next_page_token"]
    assert http.get("/api/v1/limits", params={"state": "ajar"}).status_code == 400


def test_actions_updates_and_clones_over_http(http: httpx.Client) -> None:
    payloads: list[dict[str, Any]] = [{"fail": "item", "permanent": True} if n < 2 else {} for n in range(6)]
    plan_id = planned(http, "http-act", payloads)
    run = http.post("/api/v1/runs", json={"plan_id": plan_id}).json()
    at = f"/api/v1/runs/{run['run_id']}"
    run_ended(http, run["run_id"])
    act = {"verb": "retry", "filter": "state = failed"}
    assert http.post(f"{at}/actions", json={**act, "validate_only": True}).json()["matched"] == 2
    done = http.post(f"{at}/actions", json={**act, "request_id": "req-http-act"}).json()
    same = http.post(f"{at}/actions", json={**act, "request_id": "req-http-act"}).json()
    assert same["action_id"] == done["action_id"]

    def finished() -> bool:
        told: dict[str, Any] = http.get(f"/api/v1/actions/{done['action_id']}").json()
        return bool(told["done"]) and told["changed"] == 2

    until("the action is done", finished)
    run_ended(http, run["run_id"])
    listed = http.get(f"{at}/items", params={"filter": "attempt = 2"}).json()["items"]
    assert [item["seq"] for item in listed] == [0, 1]
    clone = http.post(f"{at}/clone", json={"failed": True}).json()
    assert (clone["counts"]["total"], clone["cloned_from"]) == (2, run["run_id"])
    run_ended(http, clone["run_id"])
    ended = http.patch(at, json={"priority": 3})
    assert ended.status_code == 409, ended.text
    absurd = http.post("/api/v1/runs", json={"plan_id": plan_id, "priority": 5000, "budget_micros": -7})
    assert absurd.status_code == 400
    assert all(word in absurd.json()["detail"] for word in ("priority", "budget"))
    bad = http.get(f"{at}/items", params={"filter": "state = "})
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_filter")


def test_a_run_in_the_hand(stack: Stack) -> None:
    penstock = stack.client
    source = penstock.sources.items([{"key": f"hand-{n}", "payload": {"cost_micros": 10}} for n in range(6)])
    rules = {"gate": {"name": "go"}, "tolerance": {"failures": 0}}
    plan = penstock.plans.create(source.source_id, stages=[StageOptions(processor="noop", rules=rules)])
    run = penstock.run(penstock.runs.start(plan.plan_id, budget_micros=1_000_000, owner="hand"))
    until("it waits", lambda: run.refresh().state == s.RUN_STATE_WAITING)
    assert run.explain().reasons
    assert run.act("skip", seqs=[0], reason="not this one").changed == 1
    assert run.update(stages=[StageChange(concurrency=2)], budget_micros=2_000_000)
    assert run.latest.money.budget_micros == 2_000_000
    assert run.approve("go", reason="fine")
    assert run.wait().state == s.RUN_STATE_COMPLETED
    numbers = [event.number for event in run.events()]
    assert numbers == list(range(1, run.latest.event_number + 1))
    summary = run.summary()
    assert (summary.run.counts.completed, summary.run.counts.skipped) == (5, 1)
    assert summary.run.money.spent_micros == sum(entry.micros for entry in penstock.runs.ledger(run.run_id)) == 50
    with pytest.raises(Conflict):
        run.pause()
    with pytest.raises(InvalidInput, match="colour"):
        list(run.items(filter="colour = red"))
