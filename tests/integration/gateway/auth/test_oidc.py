"""Bearer tokens of an issuer that is real: who is let in, as whom, and what each wrong token hears."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from penstock.runtime.errors import InvalidInput
from penstock.runtime.settings import load
from tests.integration.gateway.auth.issuing import AUDIENCE, TestIssuer
from tests.integration.gateway.auth.serving import ADMIN, BASE, Gate, gate

ROLES = {"staff": "viewer", "oncall": "operator", "sre": "admin"}


@pytest.fixture
def issuer() -> Iterator[TestIssuer]:
    one = TestIssuer()
    one.add_key("first")
    yield one
    one.stop()


@asynccontextmanager
async def at(folder: Path, database_url: str, issuer: TestIssuer, **more: object) -> AsyncIterator[Gate]:
    oidc = {"issuer": issuer.url, "audience": AUDIENCE, "roles": ROLES, **more}
    async with gate(folder, database_url, oidc=oidc) as it:
        yield it


async def who(it: Gate, token: str) -> httpx.Response:
    return await it.as_(token, "GET", "/api/v1/session")


async def refused(it: Gate, token: str, status: int = 401) -> str:
    answer = await who(it, token)
    assert answer.status_code == status, answer.text
    told: str = f"{answer.json()['code']}: {answer.json()['detail']}"
    return told


async def test_a_person_is_their_subject_with_the_highest_role_of_the_claim(
    tmp_path: Path, database_url: str, issuer: TestIssuer
) -> None:
    issuer.add_key("second", "RS256")
    async with at(tmp_path, database_url, issuer) as it:
        me = (await who(it, issuer.token("first"))).json()
        assert (me["actor"], me["role"], me["kind"]) == ("ada", "viewer", "oidc")
        me = (await who(it, issuer.token("second", "RS256", sub="bo@example.org", roles=["x", "sre", "staff"]))).json()
        assert (me["actor"], me["role"]) == ("bo@example.org", "admin")
        assert (await who(it, issuer.token("first", roles="oncall"))).json()["role"] == "operator"
        assert (await who(it, issuer.token("first", aud=["other", AUDIENCE]))).status_code == 200
        answer = await it.as_(issuer.token("first", roles=["oncall"]), "GET", "/api/v1/tokens")
        assert answer.json()["about"] == {"needed": "admin", "role": "operator"}
        made = await it.as_(
            issuer.token("first", roles=["sre"]), "POST", "/api/v1/tokens", json={"name": "ci", "role": "viewer"}
        )
        assert made.json()["token"]["create_actor"] == "ada"
        assert issuer.asked.count("/keys") == 1


async def test_each_wrong_token_is_told_what_is_wrong(tmp_path: Path, sqlite_url: str, issuer: TestIssuer) -> None:
    now = int(time.time())
    stranger = TestIssuer()
    stranger.add_key("first")
    try:
        async with at(tmp_path, sqlite_url, issuer) as it:

            async def told(**claims: object) -> str:
                it.clock.ahead_seconds += 2  # of one address failures are free once a second
                return await refused(it, issuer.signed("first", claims))

            assert (await who(it, issuer.token("first", exp=now - 50))).status_code == 200  # clocks are apart
            assert (await told(exp=now - 70)).startswith("token_expired")
            assert (await who(it, issuer.token("first", nbf=now + 50))).status_code == 200
            assert "not valid yet" in await told(nbf=now + 80)
            assert "audience" in await told(aud="other")
            assert "lacks a claim" in await told(aud=None)
            assert "lacks a claim" in await told(exp=None)
            assert "lacks a claim" in await told(sub=None)
            assert "another issuer" in await told(iss="https://evil.example")
            assert "no name" in await told(sub="a" * 300)
            assert "no name" in await told(sub="a\nb")
            it.clock.ahead_seconds += 2
            assert "signature" in await refused(it, stranger.token("first", iss=issuer.url))
            it.clock.ahead_seconds += 2
            assert (await refused(it, issuer.token("first", roles=["nobody"]), 403)).startswith("no_role")
            assert (await refused(it, issuer.token("first", roles=None), 403)).startswith("no_role")
            assert (await refused(it, issuer.token("first", roles={"sre": 1}), 403)).startswith("no_role")
    finally:
        stranger.stop()


async def test_signatures_that_prove_nothing_are_refused(tmp_path: Path, sqlite_url: str, issuer: TestIssuer) -> None:
    claims = issuer.claims(roles=["sre"])
    public = issuer.keys["first"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": "first"})
    by_public_key = _hmac(claims, pem)
    issuer.add_key("weak", "RS256", bits=1024)
    issuer.add_key("for-encryption", "ES256", use="enc")
    async with at(tmp_path, sqlite_url, issuer) as it:
        assert "'none'" in await refused(it, unsigned)
        assert "'HS256'" in await refused(it, by_public_key)
        assert "does not have" in await refused(it, issuer.token("weak", "RS256", roles=["sre"]))
        assert "does not have" in await refused(it, issuer.token("for-encryption", roles=["sre"]))
        good = issuer.token("first", roles=["sre"])
        head, body, signature = good.split(".")
        assert "signature" in await refused(it, f"{head}.{body}.{'A' * len(signature)}")
        it.clock.ahead_seconds += 10
        for odd in ("a.b.c", "..", f"{head}.{body}.", f"{head}..{signature}", "é.b.c"):
            it.clock.ahead_seconds += 2
            assert (await it.http.get("/", headers={b"authorization": f"Bearer {odd}".encode()})).status_code == 401


def _hmac(claims: dict[str, object], secret: bytes) -> str:
    """An HS256 token whose secret is the issuer's public key: libraries that trust the header take it for good."""
    import base64
    import hashlib
    import hmac
    import json

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    head = {"alg": "HS256", "kid": "first", "typ": "JWT"}
    signed = part(json.dumps(head).encode()) + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.new(secret, signed, hashlib.sha256).digest())).decode()


async def test_new_keys_are_found_and_unknown_ones_ask_once_a_minute(
    tmp_path: Path, sqlite_url: str, issuer: TestIssuer
) -> None:
    async with at(tmp_path, sqlite_url, issuer) as it:
        assert (await who(it, issuer.token("first"))).status_code == 200
        assert issuer.asked.count("/keys") == 1
        issuer.add_key("second")
        it.clock.ahead_seconds += 61
        assert (await who(it, issuer.token("second"))).status_code == 200
        assert issuer.asked.count("/keys") == 2
        issuer.add_key("third")
        for _ in range(5):
            it.clock.ahead_seconds += 2
            assert "does not have" in await refused(it, issuer.token("third"))
        assert issuer.asked.count("/keys") == 2
        it.clock.ahead_seconds += 60
        assert (await who(it, issuer.token("third"))).status_code == 200
        issuer.drop_key("second")
        it.clock.ahead_seconds += 3_601  # what is dropped ends when the keys are read again
        assert (await who(it, issuer.token("first", exp=int(time.time()) + 9_999))).status_code == 200
        assert {one["kid"] for one in issuer.public} == {"first", "third"}


async def test_an_issuer_that_is_away_keeps_nobody_out_whose_key_is_known(
    tmp_path: Path, sqlite_url: str, issuer: TestIssuer
) -> None:
    async with at(tmp_path, sqlite_url, issuer) as it:
        issuer.away = True
        it.clock.stand()
        assert (await refused(it, issuer.token("first"), 503)).startswith("issuer_unavailable")
        assert (await it.as_(ADMIN, "GET", "/openapi.json")).status_code == 200
        issuer.away = False
        assert (await refused(it, issuer.token("first"), 503)).startswith("issuer_unavailable")  # asked a moment ago
        it.clock.ahead_seconds += 6
        assert (await who(it, issuer.token("first"))).status_code == 200
        issuer.away = True
        it.clock.ahead_seconds += 4_000
        assert (await who(it, issuer.token("first"))).status_code == 200


async def test_a_person_does_not_wait_for_the_wrong_tokens_of_others(
    tmp_path: Path, sqlite_url: str, issuer: TestIssuer
) -> None:
    async with at(tmp_path, sqlite_url, issuer) as it:
        good = issuer.token("first")
        assert (await who(it, good)).status_code == 200
        it.clock.stand()
        codes = [(await who(it, issuer.token("first", aud="other"))).status_code for _ in range(13)]
        assert (codes[0], codes[-1]) == (401, 429)
        assert (await who(it, good)).status_code == 200


async def test_an_issuer_of_another_name_is_none(tmp_path: Path, sqlite_url: str, issuer: TestIssuer) -> None:
    issuer.calls_itself = "https://evil.example"
    async with at(tmp_path, sqlite_url, issuer) as it:
        assert "calls itself" in await refused(it, issuer.token("first"), 503)


async def test_a_claim_may_lie_deep_and_a_name_with_dots_is_a_name(
    tmp_path: Path, sqlite_url: str, issuer: TestIssuer
) -> None:
    async with at(tmp_path, sqlite_url, issuer, role_claim="realm.roles") as it:
        assert (await who(it, issuer.token("first", realm={"roles": ["sre"]}))).json()["role"] == "admin"
        assert (await who(it, issuer.signed("first", {"realm.roles": "oncall", "roles": None}))).json()[
            "role"
        ] == "operator"
        assert (await refused(it, issuer.token("first"), 403)).startswith("no_role")


async def test_a_browser_signs_in_with_a_jwt_no_longer_than_it_lasts(
    tmp_path: Path, sqlite_url: str, issuer: TestIssuer
) -> None:
    async with at(tmp_path, sqlite_url, issuer) as it:
        token = issuer.token("first", exp=int(time.time()) + 300)
        answer = await it.http.post("/api/v1/session", json={"token": token}, headers={"origin": BASE})
        assert answer.json()["actor"] == "ada"
        assert (await it.http.get("/api/v1/session")).json()["kind"] == "oidc"
        it.clock.ahead_seconds += 300 + 60 + 5
        assert (await it.http.get("/api/v1/session")).status_code == 401


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ISSUER": "https://id.example"}, "needs audience and roles"),
        ({"ISSUER": "https://id.example", "AUDIENCE": "p"}, "needs audience and roles"),
        ({"ISSUER": "http://id.example", "AUDIENCE": "p", "ROLES": '{"a": "admin"}'}, "begins with https://"),
        ({"ISSUER": "id.example", "AUDIENCE": "p", "ROLES": '{"a": "admin"}'}, "begins with https://"),
        ({"ISSUER": "https://id.example", "AUDIENCE": "p", "ROLES": '{"a": "root"}'}, "gateway.oidc.roles.a"),
        ({"ISSUER": "https://id.example", "AUDIENCE": "p", "ROLES": "admin"}, "JSON object"),
        ({"ISUER": "https://id.example"}, "did you mean gateway.oidc.issuer"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        load({f"PENSTOCK_GATEWAY__OIDC__{name}": value for name, value in settings.items()})
