"""Who may ask: this machine by loopback, no foreign origin that writes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from gateway.guard import Guard, names_loopback


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8420", True),
        ("127.0.0.1", True),
        ("127.9.9.9:1", True),
        ("localhost:8420", True),
        ("LOCALHOST", True),
        ("[::1]:8420", True),
        ("[::1]", True),
        ("example.org", False),
        ("localhost.example.org:8420", False),
        ("127.0.0.1.example.org", False),
        ("192.168.1.4:8420", False),
        ("0.0.0.0", False),
        ("", False),
        ("[::1]x.evil.example", False),
        ("[::1]:8420.evil.example", False),
        ("[127.0.0.1", False),
        ("[127.0.0.1]", False),
        ("::1", False),
        ("127.0.0.1:evil", False),
        ("localhost@evil.example", False),
    ],
)
def test_loopback_hosts(host: str, expected: bool) -> None:
    assert names_loopback(host) is expected


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/defect":
        raise RuntimeError("secret of the core")
    await PlainTextResponse(f"{Request(scope).method}")(scope, receive, send)


async def ask(method: str, path: str = "/", *, host: str = "127.0.0.1:8420", **headers: str) -> httpx.Response:
    app = Guard(_app, ("http://allowed.example:5173",))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8420") as client:
        return await client.request(method, path, headers={"host": host, **headers})


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_a_foreign_host_is_refused(method: str) -> None:
    answer = await ask(method, host="penstock.example.org")
    assert answer.status_code == 403
    assert "loopback" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "origin", "status"),
    [
        ("POST", "http://evil.example", 403),
        ("DELETE", "null", 403),
        ("OPTIONS", "http://evil.example", 403),
        ("POST", "http://localhost:5173", 403),
        ("POST", "http://127.0.0.1:8420", 200),
        ("POST", "http://allowed.example:5173", 200),
        ("GET", "http://evil.example", 200),
    ],
)
async def test_foreign_origins_may_only_get(method: str, origin: str, status: int) -> None:
    answer = await ask(method, origin=origin)
    assert answer.status_code == status
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (origin if origin == "http://allowed.example:5173" else None)


async def test_a_preflight_of_an_allowed_origin_is_answered() -> None:
    headers = {"origin": "http://allowed.example:5173", "access-control-request-method": "POST"}
    answer = await ask("OPTIONS", **headers)
    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]


async def test_a_large_body_is_only_for_uploads() -> None:
    large = str(100 << 20)
    assert (await ask("POST", "/api/v1/plans", **{"content-length": large})).status_code == 413
    assert (await ask("POST", "/api/batch/upload", **{"content-length": large})).status_code == 200


async def test_a_body_in_chunks_is_counted_but_for_uploads() -> None:
    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = PlainTextResponse(str(len(await Request(scope, receive).body())))
        except HTTPException as error:
            answer = PlainTextResponse(error.detail, error.status_code)
        await answer(scope, receive, send)

    async def chunks(number: int) -> AsyncIterator[bytes]:
        for _ in range(number):
            yield b"x" * (1 << 20)

    transport = httpx.ASGITransport(Guard(reading, ()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420") as client:
        assert (await client.post("/api/v1/runs", content=chunks(4))).text == str(4 << 20)
        answer = await client.post("/api/v1/runs", content=chunks(5))
        assert (answer.status_code, answer.text) == (413, "the body is larger than 4 MiB; only uploads may be")
        assert (await client.post("/api/v1/sources", content=chunks(5))).text == str(5 << 20)
        assert (await client.post("/api/v1/plans", content=chunks(32))).text == str(32 << 20)
        assert (await client.post("/api/v1/plans", content=chunks(33))).status_code == 413


async def test_a_defect_is_told_without_its_text() -> None:
    answer = await ask("GET", "/defect")
    assert answer.status_code == 500
    body = answer.json()
    assert body["code"] == "internal"
    assert "secret" not in str(body)


async def test_every_answer_carries_policy_and_trace() -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    answer = await ask("GET", traceparent=trace)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["traceparent"].split("-")[1] == "a" * 32


async def test_a_browser_gets_a_page_for_an_error() -> None:
    answer = await ask("GET", host="evil.example", accept="text/html,application/xhtml+xml")
    assert answer.headers["content-type"].startswith("text/html")
    assert "evil.example" in answer.text
