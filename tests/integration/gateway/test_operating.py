"""What operators do over HTTP: each route is one call, problems come as problems, and the schema tells of them all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from penstock.client import AsyncClient
from penstock.runtime.errors import Conflict, InvalidInput
from penstock.runtime.settings import Settings
from penstock.v1 import scheduler_pb2 as s
from tests.integration.client.services import Services, documents_run, serving


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with serving(tmp_path) as one:
        one.state.runs.append(documents_run(1, state=s.RUN_STATE_RUNNING, total=9, completed=3))
        yield one


@pytest.fixture
async def http(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncClient(endpoints=services.endpoints, retry_seconds=1.0, actor="http") as client:
        transport = httpx.ASGITransport(create_app(Settings(), client, asyncio.Event()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420") as asking:
            yield asking


async def test_a_run_is_started_with_owner_budget_and_keys(services: Services, http: httpx.AsyncClient) -> None:
    body = {"plan_id": "plan-1", "owner": "ada", "priority": -3, "budget_micros": 0, "exclusive_keys": ["project:x"]}
    assert (await http.post("/api/v1/runs", json=body)).status_code == 200
    asked = services.state.named("StartRun")[-1]
    assert (asked.owner, asked.priority, asked.budget_micros, list(asked.exclusive_keys)) == (
        "ada",
        -3,
        0,
        ["project:x"],
    )
    services.state.fail["StartRun"] = [
        Conflict("project:x is held by run 7 (run-7)", code="exclusive_key_held", run_id="run-7")
    ]
    answer = await http.post("/api/v1/runs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "exclusive_key_held")
    assert "run 7" in answer.json()["detail"]
    assert answer.json()["about"] == {"run_id": "run-7"}


async def test_a_plan_carries_rules(services: Services, http: httpx.AsyncClient) -> None:
    rules = {"retry": [{"kinds": ["timeout"], "max_tries": 2}], "tolerance": {"failures": 0}, "run_when": "all"}
    body = {"source_id": "src-1", "stages": [{"processor": "noop", "rules": rules}]}
    assert (await http.post("/api/v1/plans", json=body)).status_code == 200
    sent = services.state.named("CreatePlan")[-1].stages[0].rules
    assert (sent.retry[0].max_tries, sent.tolerance.failures, sent.run_when) == (2, 0, 2)
    body["stages"] = [{"processor": "noop", "rules": {"retry": [{"tries": 1}], "run_when": "later"}}]
    answer = await http.post("/api/v1/plans", json=body)
    assert answer.status_code == 400
    assert "tries" in answer.json()["detail"]
    assert "run_when" in answer.json()["detail"]


async def test_a_live_run_is_changed(services: Services, http: httpx.AsyncClient) -> None:
    change = {"budget_micros": 5, "stages": [{"stage": 1, "concurrency": 3, "budget_micros": -1}], "reason": "why not"}
    answer = await http.patch("/api/v1/runs/1", json=change)
    assert answer.status_code == 200, answer.text
    assert answer.json()["changed"]
    assert answer.json()["run"]["money"]["budget_micros"] == 5
    asked = services.state.named("UpdateRun")[-1]
    assert (asked.HasField("priority"), asked.reason, asked.actor) == (False, "why not", "http")
    assert asked.stages[0].budget_micros == -1
    problems = "priority 5000 is more than 1000; concurrency -1 is negative"
    services.state.fail["UpdateRun"] = [InvalidInput(problems, code="bad_settings")]
    answer = await http.patch("/api/v1/runs/1", json={"priority": 5000, "stages": [{"concurrency": -1}]})
    assert (answer.status_code, answer.json()["detail"]) == (400, problems)


async def test_summary_explanation_ledger_and_clone(services: Services, http: httpx.AsyncClient) -> None:
    services.state.operated.ledger = [s.LedgerEntry(number=number, micros=3) for number in (1, 2, 3)]
    summary = (await http.get("/api/v1/runs/1/summary")).json()
    assert (summary["run"]["number"], summary["eta"]["known"]) == (1, False)
    assert (await http.get("/api/v1/runs/1/explain")).json() == {"state": "running", "reasons": [], "ahead": None}
    assert (await http.get("/api/v1/runs/1/items/0/4/explain")).json()["ahead"] == 4
    for path, there in (("0/99", "its items are 0 to 8"), (f"0/{10**30}", "0 to 8"), ("7/0", "its stages are 0 to 1")):
        missing = await http.get(f"/api/v1/runs/1/items/{path}/explain")
        assert (missing.status_code, there in missing.json()["detail"]) == (404, True), missing.text
    page = (await http.get("/api/v1/runs/1/ledger", params={"page_size": 2})).json()
    assert ([entry["number"] for entry in page["entries"]], page["next_page_token"]) == ([1, 2], "2")
    page = (await http.get("/api/v1/runs/1/ledger", params={"page_token": "2"})).json()
    assert ([entry["number"] for entry in page["entries"]], page["next_page_token"]) == ([3], None)
    clone = (await http.post("/api/v1/runs/1/clone", json={"failed": True, "name": "again"})).json()
    assert (clone["cloned_from"], clone["name"]) == ("run-1", "again")


async def test_a_parameter_that_nobody_knows_is_no_filter_left_out(services: Services, http: httpx.AsyncClient) -> None:
    for path, there in (
        ("/api/v1/runs?stat=failed", "GET /api/v1/runs has no parameter stat; it takes page_size, "),
        ("/api/v1/limits?page_size=5&states=open", "has no parameter states; it takes "),
        ("/api/v1/runs/1/summary?fresh=1", "has no parameter fresh; it takes none"),
        ("/api/v1/runs/1/events/stream?form=now", "has no parameter form; it takes after, from"),
    ):
        answer = await http.get(path)
        assert (answer.status_code, there in answer.json()["detail"]) == (400, True), answer.text


async def routes(http: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """By path, with `1` for what it names: by method the parameters of its query."""
    told = (await http.get("/openapi.json")).json()["paths"]
    return {
        re.sub(r"{[^}]*}", "1", path): {
            method.upper(): [one for one in route.get("parameters", []) if one["in"] == "query"]
            for method, route in methods.items()
        }
        for path, methods in told.items()
    }


async def test_every_true_or_false_of_a_query_is_said_in_the_same_words(http: httpx.AsyncClient) -> None:
    flags = [
        (method, path, one["name"], {other["name"]: "1" for other in parameters if other.get("required")})
        for path, methods in (await routes(http)).items()
        for method, parameters in methods.items()
        for one in parameters
        if one["schema"].get("type") == "boolean"
    ]
    assert {name for _, _, name, _ in flags} >= {"force", "validate_only", "groups", "with_payload", "without_source"}
    for method, path, name, others in flags:
        for word in ("true", "1", "True", "false", "0"):
            answer = await http.request(method, path, params={**others, name: word})
            assert answer.status_code != 400, (method, path, word, answer.text)
        for word in ("", "yes", "2"):
            answer = await http.request(method, path, params={**others, name: word})
            assert answer.status_code == 400, (method, path, word)
            assert answer.json()["detail"] == f"{name}: {word!r} is neither true (or 1) nor false (or 0)"


async def test_a_method_that_a_path_has_not_is_told_all_that_it_has(http: httpx.AsyncClient) -> None:
    known = await routes(http)
    assert len(known) > 40
    for path, methods in known.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - set(methods):
            answer = await http.request(method, path)
            if answer.status_code != 405:  # another route has such a path, as /sources/add is that of a source
                continue
            allowed = answer.headers["allow"].split(", ")
            assert set(methods) <= set(allowed), (method, path, allowed)
            assert method not in allowed
            assert answer.json()["detail"].endswith(f"it takes {answer.headers['allow']}")
    answer = await http.put("/api/v1/plans/1")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PATCH, DELETE")


async def test_gates(services: Services, http: httpx.AsyncClient) -> None:
    services.state.operated.gates.append(s.Gate(run_id="run-1", stage=1, name="to the shop"))
    assert [gate["name"] for gate in (await http.get("/api/v1/gates")).json()["gates"]] == ["to the shop"]
    assert len((await http.get("/api/v1/runs/1/gates")).json()["gates"]) == 1
    answer = await http.post("/api/v1/runs/1/gates/to%20the%20shop/approve", json={"reason": "fine"})
    assert answer.json()["run"]["state"] == "running"
    answer = await http.post("/api/v1/runs/1/gates/to%20the%20shop/reject")
    assert (answer.status_code, answer.json()["code"]) == (409, "gate_not_waiting")


async def test_actions_on_items(services: Services, http: httpx.AsyncClient) -> None:
    body = {"verb": "retry", "filter": 'state = failed AND group = "Razer"', "validate_only": True}
    preview = (await http.post("/api/v1/runs/1/actions", json=body)).json()
    assert (preview["action_id"], preview["matched"], preview["changed"]) == (None, 7, 7)
    services.state.operated.actions["act-1"] = [s.ItemAction(action_id="act-1", done=True, changed=7)]
    started = (await http.post("/api/v1/runs/1/actions", json={**body, "validate_only": False})).json()
    assert not started["done"]
    assert (await http.get(f"/api/v1/actions/{started['action_id']}")).json()["changed"] == 7
    assert (await http.get("/api/v1/actions/nope")).status_code == 404
    assert (await http.post("/api/v1/runs/1/actions", json={"verb": "undo"})).status_code == 400
    await http.get("/api/v1/runs/1/items", params={"filter": "tries > 2", "state": "deferred"})
    assert services.state.named("ListItems")[-1].filter == "tries > 2"
    await http.get("/api/v1/runs/1/events", params={"subject": "item:0/4"})
    assert services.state.named("ListEvents")[-1].subject == "item:0/4"


async def test_limits_by_any_key(services: Services, http: httpx.AsyncClient) -> None:
    for key in ("provider:anthropic", "domain:*", "path:a/b"):
        body = {"concurrency": 2, "rates": [{"dimension": "requests", "per_minute": 60}]}
        answer = await http.put(f"/api/v1/limits/{key}", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["key"] == key
        assert (await http.get(f"/api/v1/limits/{key}")).json()["concurrency"] == 2
    closed = await http.post("/api/v1/limits/path:a/b/close", json={"until_time": "2027-01-01T00:00:00Z"})
    assert (closed.json()["state"], closed.json()["closed_until_time"]) == ("closed", "2027-01-01T00:00:00.000Z")
    assert (await http.post("/api/v1/limits/path:a/b/close")).status_code == 200
    assert not services.state.named("CloseLimit")[-1].HasField("until_time")
    naive = await http.post("/api/v1/limits/path:a/b/close", json={"until_time": "2027-01-01T00:00:00"})
    assert naive.status_code == 400
    assert (await http.post("/api/v1/limits/path:a/b/open")).json()["state"] == "open"
    page = (await http.get("/api/v1/limits", params={"page_size": 2})).json()
    assert [limit["key"] for limit in page["limits"]] == ["domain:*", "path:a/b"]
    page = (await http.get("/api/v1/limits", params={"page_token": page["next_page_token"]})).json()
    assert [limit["key"] for limit in page["limits"]] == ["provider:anthropic"]
    assert (await http.delete("/api/v1/limits/path:a/b", params={"reason": "gone"})).json() == {"changed": True}
    assert (await http.delete("/api/v1/limits/path:a/b")).json() == {"changed": False}
    missing = await http.get("/api/v1/limits/path:a/b")
    assert missing.status_code == 404
    assert "domain:*" in missing.json()["detail"]


async def test_prices_and_retries(http: httpx.AsyncClient) -> None:
    assert (await http.put("/api/v1/prices/summarise", json={"micros": 12_000})).json()["micros"] == 12_000
    assert (await http.put("/api/v1/prices/summarise", json={"micros": -2})).status_code == 400
    assert (await http.put("/api/v1/prices/summarise", json={"micros": -1})).json()["micros"] is None
    assert len((await http.get("/api/v1/prices")).json()["prices"]) == 1
    assert (await http.get("/api/v1/retries")).json()["allowed"]
    stopped = (await http.put("/api/v1/retries", json={"allowed": False, "reason": "incident"})).json()
    assert (stopped["allowed"], stopped["actor"], stopped["reason"]) == (False, "http", "incident")


async def test_a_foreign_page_changes_nothing(http: httpx.AsyncClient) -> None:
    headers = {"origin": "https://evil.example"}
    for method, path in (("PATCH", "/api/v1/runs/1"), ("PUT", "/api/v1/retries"), ("DELETE", "/api/v1/limits/a:b")):
        assert (await http.request(method, path, headers=headers)).status_code == 403


async def test_the_schema_tells_of_every_route(http: httpx.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    routes = {(method, path) for path, methods in schema["paths"].items() for method in methods}
    assert routes >= {
        ("patch", "/api/v1/runs/{run_id}"),
        ("get", "/api/v1/runs/{run_id}/summary"),
        ("get", "/api/v1/runs/{run_id}/explain"),
        ("get", "/api/v1/runs/{run_id}/ledger"),
        ("post", "/api/v1/runs/{run_id}/clone"),
        ("post", "/api/v1/runs/{run_id}/actions"),
        ("get", "/api/v1/actions/{action_id}"),
        ("post", "/api/v1/runs/{run_id}/gates/{gate}/approve"),
        ("get", "/api/v1/gates"),
        ("put", "/api/v1/limits/{key}"),
        ("post", "/api/v1/limits/{key}/close"),
        ("put", "/api/v1/prices/{processor}"),
        ("put", "/api/v1/retries"),
    }
    for method, path in routes:
        route = schema["paths"][path][method]
        if path.startswith("/api/v1/"):
            assert route.get("description") or route.get("summary"), (method, path)
        if method in ("put", "patch", "delete", "post") and "{" in path:
            assert "409" in route["responses"], (method, path)
