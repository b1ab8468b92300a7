"""A whole `penstock up` with auth = tokens: people with tokens act by HTTP, by the command line and from Python."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock import Client
from penstock.runtime.errors import AlreadyExists, PermissionDenied, Unauthenticated
from tests.integration.cli.conftest import Answer, carried_out
from tests.servers.stack import Stack


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    one = Stack(tmp_path_factory.mktemp("guarded") / "data", environment={"PENSTOCK_GATEWAY__AUTH": "tokens"})
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="module")
def operator(guarded: Stack) -> str:
    made = carried_out("tokens", "create", "ada", "--role", "operator", "--json", data=guarded.data)
    assert made.code == 0, made.err
    secret: str = made.json()["secret"]
    return secret


def asking(stack: Stack, token: str) -> httpx.Client:
    return httpx.Client(base_url=stack.url, timeout=60, trust_env=False, headers={"authorization": f"Bearer {token}"})


def test_what_a_token_did_stands_in_the_events_and_a_stream_tells_it(guarded: Stack, operator: str) -> None:
    with asking(guarded, operator) as http:
        items = "\n".join(json.dumps({"key": str(number)}) for number in range(20))
        source = http.post("/api/v1/sources", data={"kind": "items"}, files={"items": ("i.jsonl", items)}).json()
        plan = http.post(
            "/api/v1/plans", json={"source_id": source["source_id"], "stages": [{"processor": "noop"}]}
        ).json()
        run = http.post("/api/v1/runs", json={"plan_id": plan["plan_id"], "confirm": True}).json()
        names: list[str] = []
        with http.stream("GET", f"/api/v1/runs/{run['run_id']}/events/stream") as stream:
            assert stream.status_code == 200
            names = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]
        assert (names[0], names[-1]) == ("run", "end")
        events: list[dict[str, Any]] = http.get(f"/api/v1/runs/{run['run_id']}/events").json()["events"]
        assert events[0]["actor"] == "ada"
        assert {event["actor"] for event in events} <= {"ada", "scheduler", ""}
        assert http.get(f"/api/v1/runs/{run['run_id']}/events/stream", headers={"authorization": ""}).status_code == 401
        held = http.put("/api/v1/limits/provider:x", json={"concurrency": 1})
        assert (held.status_code, held.json()["code"]) == (403, "role_needed")
        closed = http.post("/api/v1/limits/provider:x/close", json={"reason": "an incident"})
        assert closed.status_code == 200, closed.text
        assert http.get("/api/v1/limits/provider:x/events").json()["events"][0]["actor"] == "ada"


def test_the_command_line_makes_lists_and_revokes(guarded: Stack, tmp_path: Path) -> None:
    made = carried_out("tokens", "create", "ci", "--role", "viewer", "--expires", "30d", data=guarded.data)
    assert made.code == 0, made.err
    (secret,) = made.out.split()
    assert secret.startswith("pst_")
    assert "shown this once" in made.err
    again = carried_out("tokens", "create", "ci", data=guarded.data)
    assert (again.code, "already" in again.err) == (1, True)
    for wrong in (("Ada",), ("x", "--expires", "soon"), ("x", "--role", "root")):
        assert carried_out("tokens", "create", *wrong, data=guarded.data).code == 2, wrong
    listed = carried_out("tokens", "list", data=guarded.data)
    assert "ci" in listed.out
    assert secret not in listed.out

    # From afar: the URL and a token, by the environment or from a file.
    def far(*arguments: str | Path, token: str = "") -> Answer:
        environment = {"PENSTOCK_URL": guarded.url, **({"PENSTOCK_TOKEN": token} if token else {})}
        return carried_out(*arguments, data=None, **environment)

    asked = far("runs", "list")
    assert (asked.code, "PENSTOCK_TOKEN" in asked.err) == (1, True)
    assert far("runs", "list", token=secret).code == 0
    refused = far("tokens", "list", token=secret)
    assert (refused.code, "needs the role admin" in refused.err) == (1, True)
    file = tmp_path / "ci.token"
    file.write_text(f"{secret}\n")
    assert far("--token-file", file, "status", "--json").json()["ready"] is True
    assert far("--token-file", tmp_path / "none", "status").code == 2

    revoked = carried_out("tokens", "revoke", "ci", "--json", data=guarded.data)
    assert revoked.json() == {"token": "ci", "changed": True}
    assert carried_out("tokens", "revoke", "ci", data=guarded.data).out.strip() == "ci was revoked already"
    assert carried_out("tokens", "revoke", "nobody", data=guarded.data).code == 2
    ended = far("runs", "list", token=secret)
    assert (ended.code, "revoked by admin" in ended.err) == (1, True)


def test_the_python_client_says_who_it_is(guarded: Stack, operator: str) -> None:
    with Client(url=guarded.url, api_token=operator) as penstock:
        assert penstock.tokens.who()["actor"] == "ada"
        assert isinstance(penstock.runs.list(limit=1), list)
        with pytest.raises(PermissionDenied):
            penstock.tokens.create("x", role="viewer")
    with pytest.raises(Unauthenticated):
        Client(url=guarded.url)
    with pytest.raises(Unauthenticated):
        Client(url=guarded.url, api_token="pst_nobody")
    with Client(data=guarded.data) as penstock:
        made = penstock.tokens.create("sdk", role="viewer", expires_seconds=None)
        assert made["token"]["expire_time"] is None
        with pytest.raises(AlreadyExists):
            penstock.tokens.create("sdk", role="viewer")
        assert "sdk" in [token["name"] for token in penstock.tokens.list()]
        assert penstock.tokens.revoke("sdk") is True
    assert "api_token" not in repr(Client)
    assert operator not in repr(penstock.endpoints)


def test_where_nobody_is_asked_tokens_are_no_use(stack: Stack) -> None:
    made = carried_out("tokens", "create", "ci", data=stack.data)
    assert (made.code, "gateway.auth is none" in made.err) == (1, True)
    session = httpx.get(f"{stack.url}/api/v1/session", trust_env=False).json()
    assert (session["auth"], session["role"]) == ("none", "admin")


def test_many_callers_at_once_are_each_themselves(guarded: Stack, operator: str) -> None:
    with Client(data=guarded.data) as penstock:
        secrets = {f"w{number}": penstock.tokens.create(f"w{number}", role="viewer")["secret"] for number in range(6)}
    seen: dict[str, set[str]] = {}

    def ask(name: str, secret: str) -> None:
        with asking(guarded, secret) as http:
            seen[name] = {http.get("/api/v1/session").json()["actor"] for _ in range(20)}

    threads = [threading.Thread(target=ask, args=pair) for pair in secrets.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {name: {name} for name in secrets}
