"""Failures of an address, whose address it is, streams that end with their credential."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway import guard
from gateway.auth.door import Visit
from gateway.auth.failures import BURST, Failures, address_of
from gateway.auth.identities import Credential
from gateway.auth.roles import Principal, Role
from gateway.auth.secrets import SESSION, TOKEN, looks_like, new_secret
from gateway.guard import Guard


class Time:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_ten_failures_are_free_then_one_a_second() -> None:
    time = Time()
    failures = Failures(time)
    for _ in range(int(BURST)):
        assert failures.wait_seconds("a") == 0
        failures.note("a")
    assert failures.wait_seconds("a") == 1
    assert failures.wait_seconds("b") == 0
    time.now += 1
    assert failures.wait_seconds("a") == 0
    failures.note("a")
    assert failures.wait_seconds("a") == 1
    time.now += 100
    for _ in range(int(BURST)):
        assert failures.wait_seconds("a") == 0
        failures.note("a")
    assert failures.wait_seconds("a") == 1


def test_failures_of_many_addresses_are_bounded() -> None:
    failures = Failures(Time(), addresses=100)
    for number in range(1_000):
        failures.note(str(number))
    assert len(failures) == 100


PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),  # no proxy of ours: its word counts for nothing
        ("10.1.1.1", "198.51.100.7", "198.51.100.7"),
        ("10.1.1.1", "6.6.6.6, 198.51.100.7", "198.51.100.7"),  # the first was the caller's own invention
        ("10.1.1.1", "198.51.100.7, 10.2.2.2", "198.51.100.7"),
        ("10.1.1.1", "", "10.1.1.1"),
        ("10.1.1.1", "nonsense", "nonsense"),
        ("2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        ("fd00::1", "2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", "", ""),
    ],
)
def test_failures_count_by_the_address_that_can_be_trusted(peer: str, forwarded: str, expected: str) -> None:
    headers = Headers({"x-forwarded-for": forwarded} if forwarded else {})
    scope: Scope = {"type": "http", "client": (peer, 1) if peer else None}
    assert address_of(scope, headers, PROXIES) == expected
    assert address_of(scope, headers, ()) == (expected if not forwarded else address_of(scope, Headers(), ()))


def test_secrets_have_a_shape() -> None:
    assert looks_like(new_secret(TOKEN), TOKEN)
    assert looks_like(new_secret(SESSION), SESSION)
    assert not looks_like(new_secret(SESSION), TOKEN)
    assert not looks_like(f"{TOKEN}{'a' * 42}", TOKEN)
    assert not looks_like(f"{TOKEN}{'a' * 43}\n", TOKEN)
    assert len({new_secret(TOKEN) for _ in range(100)}) == 100


class Doorway:
    """Lets everybody in until told otherwise."""

    def __init__(self) -> None:
        self.good = True

    async def let_in(self, scope: Scope, headers: Headers, *, actor: str) -> Visit:
        return Visit(Principal("ada", Role.VIEWER, "token"), Credential("x", cookie=False), "192.0.2.1")

    async def still_good(self, visit: Visit) -> bool:
        return self.good


async def test_a_stream_ends_with_the_credential_that_opened_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.0)
    door = Doorway()
    closed = asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                for number in range(1_000):
                    if number == 3:
                        door.good = False
                    yield b"%d\n" % number
                    await asyncio.sleep(0.001)
            finally:
                closed.set()

        await StreamingResponse(pieces())(scope, receive, send)

    app = Guard(stream, (), door)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://penstock.example") as client:
        answer = await client.get("/")
    assert answer.text == "0\n1\n2\n"
    await asyncio.wait_for(closed.wait(), 5)
