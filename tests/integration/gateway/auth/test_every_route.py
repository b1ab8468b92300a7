"""Every route × every role × no, wrong, expired and revoked credentials, against the real application.

The services behind it are away: who is let in hears of that (503), or of what is wrong with the request (400, 404).
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

import httpx

from gateway.app import ROUTERS
from gateway.auth.door import COOKIE
from gateway.auth.roles import Role
from gateway.auth.rules import _TABLE, RULES, Rules
from gateway.auth.secrets import SESSION, TOKEN, new_secret
from tests.integration.gateway.auth.serving import ADMIN, BASE, Gate, gate

ROUTES = Rules(route for router in ROUTERS for route in router.router.routes).lines()
WORDS = ("viewer", "operator", "admin")
REFUSED = (401, 403, 429)


def address(line: str) -> tuple[str, str]:
    """A request that the route answers, with numbers where it wants them."""
    method, path = line.split(" ", 1)
    return method, re.sub(r"\{[^}]+\}", "1", path)


def test_every_route_stands_in_the_table_once_and_nothing_else_does() -> None:
    assert sorted(ROUTES) == sorted(RULES)
    twice = [
        line for line, number in Counter(line for lines in _TABLE.values() for line in lines).items() if number > 1
    ]
    assert not twice


def test_nobody_but_admins_changes_what_all_share_and_nobody_acts_without_a_role() -> None:
    for line, role in RULES.items():
        method, path = line.split(" ", 1)
        if method != "GET" and path != "/api/v1/session":
            assert role >= Role.OPERATOR, line
        if path.startswith("/api/v1/tokens"):
            assert role is Role.ADMIN, line


async def test_every_route_by_every_role_and_every_bad_credential(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        tokens = {word: await it.token(word) for word in WORDS}
        expired = await it.token("admin", "expired", seconds=10)
        it.clock.ahead_seconds += 11
        revoked = await it.token("admin", "revoked")
        await it.identities.revoke_token("revoked", actor="test")
        asked = 0
        for line in ROUTES:
            method, path = address(line)
            if line == "DELETE /api/v1/tokens/{token}":
                path = "/api/v1/tokens/no-such"
            least = RULES[line]
            answers = await asyncio.gather(*(it.as_(tokens[word], method, path) for word in WORDS))
            for word, answer in zip(WORDS, answers, strict=True):
                asked += 1
                if Role.of(word) >= least:
                    assert answer.status_code not in REFUSED or line.endswith("/session"), (line, word, answer.text)
                    assert answer.status_code < 500 or answer.status_code == 503, (line, word, answer.text)
                else:
                    assert answer.status_code == 403, (line, word, answer.text)
                    told = answer.json()
                    assert told["code"] == "role_needed"
                    assert told["about"] == {"needed": least.word, "role": word}
                    assert f"needs the role {least.word}" in told["detail"]
            bad: dict[str, dict[str, str]] = {
                "token_missing": {},
                "token_unknown": {"authorization": f"Bearer {new_secret(TOKEN)}"},
                "token_expired": {"authorization": f"Bearer {expired}"},
                "token_revoked": {"authorization": f"Bearer {revoked}"},
                "session_unknown": {"cookie": f"{COOKIE}={new_secret(SESSION)}", "origin": BASE},
            }
            for code, headers in bad.items():
                it.clock.ahead_seconds += 2  # so that the failures of this address are not too many
                answer = await it.http.request(method, path, headers=headers)
                asked += 1
                if least is Role.ANYONE:
                    assert answer.status_code not in REFUSED, (line, code, answer.text)
                    continue
                assert (answer.status_code, answer.json()["code"]) == (401, code), (line, answer.text)
                assert answer.headers["www-authenticate"].startswith("Bearer")
        assert asked == len(ROUTES) * (len(WORDS) + len(bad))


async def test_what_is_no_route_is_told_to_nobody_who_may_not_look(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        assert (await it.http.get("/api/v1/nothing")).status_code == 401
        assert (await it.http.put("/healthz")).status_code == 401
        viewer = await it.token("viewer")
        assert (await it.as_(viewer, "GET", "/api/v1/nothing")).status_code == 404
        assert (await it.as_(viewer, "PUT", "/healthz")).status_code == 405
        assert (await it.http.get("/docs")).status_code == 401


async def test_a_route_without_a_rule_is_open_to_nobody(tmp_path: Path, sqlite_url: str) -> None:
    from starlette.responses import PlainTextResponse

    async def forgotten() -> PlainTextResponse:
        return PlainTextResponse("here")

    router = ROUTERS[0].router
    router.add_api_route("/forgotten", forgotten, methods=["GET"])
    try:
        assert Rules(router.routes).unruled() == ["GET /forgotten"]
        async with gate(tmp_path, sqlite_url) as it:
            assert (await it.http.get("/forgotten")).status_code == 401
            answer = await it.as_(ADMIN, "GET", "/forgotten")
            assert (answer.status_code, answer.json()["code"]) == (403, "no_rule")
    finally:
        router.routes.pop()


async def budget(it: Gate, token: str, body: dict[str, object]) -> httpx.Response:
    return await it.as_(token, "PATCH", "/api/v1/runs/1", json=body)


async def test_budgets_of_a_run_that_is_under_way_are_an_admins(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        operator = await it.token("operator")
        bodies: list[dict[str, object]] = [
            {"budget_micros": 5},
            {"stages": [{"stage": 0, "budget_micros": 5}]},
            {"stages": [{"stage": 0, "concurrency": 2}, {"stage": 1, "item_budget_micros": -1}]},
        ]
        for body in bodies:
            answer = await budget(it, operator, body)
            assert (answer.status_code, answer.json()["code"]) == (403, "role_needed"), answer.text
            assert (await budget(it, ADMIN, body)).status_code == 503
        assert (await budget(it, operator, {"priority": 3, "stages": [{"concurrency": 2}]})).status_code == 503
