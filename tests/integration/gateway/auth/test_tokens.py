"""API tokens and sessions from their making to their end, on both databases."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from gateway.auth.door import COOKIE
from gateway.auth.secrets import TOKEN, new_secret
from gateway.store.tokens import TokenRow
from tests.integration.gateway.auth.serving import ADMIN, BASE, Gate, gate

RUNS = "/api/v1/runs"


async def made(it: Gate, name: str, role: str = "viewer", **more: object) -> str:
    answer = await it.as_(ADMIN, "POST", "/api/v1/tokens", json={"name": name, "role": role, **more})
    assert answer.status_code == 200, answer.text
    secret: str = answer.json()["secret"]
    return secret


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def test_a_token_lives_from_its_making_to_its_revocation(tmp_path: Path, database_url: str) -> None:
    async with gate(tmp_path, database_url) as it:
        answer = await it.as_(ADMIN, "POST", "/api/v1/tokens", json={"name": "ci", "role": "operator"})
        secret, token = answer.json()["secret"], answer.json()["token"]
        assert re.fullmatch(r"pst_[A-Za-z0-9_-]{43}", secret)
        assert (token["name"], token["role"], token["state"], token["create_actor"]) == (
            "ci",
            "operator",
            "live",
            "admin",
        )
        assert token["last_use_time"] is None
        me = (await it.as_(secret, "GET", "/api/v1/session")).json()
        assert (me["auth"], me["actor"], me["role"], me["kind"]) == ("tokens", "ci", "operator", "token")

        with it.database.read() as connection:  # the hash alone is kept
            rows = repr(connection.execute(sa.text("SELECT * FROM tokens")).all())
        assert secret not in rows
        assert secret.removeprefix(TOKEN) not in rows

        taken = await it.as_(ADMIN, "POST", "/api/v1/tokens", json={"name": "ci", "role": "viewer"})
        assert told(taken) == (409, "token_exists")
        listed = (await it.as_(ADMIN, "GET", "/api/v1/tokens")).json()
        assert [one["name"] for one in listed["tokens"]] == ["ci"]
        assert listed["file_token"] is True
        assert "secret" not in str(listed)

        gone = (await it.as_(ADMIN, "DELETE", "/api/v1/tokens/ci")).json()
        assert (gone["changed"], gone["token"]["state"], gone["token"]["revoke_actor"]) == (True, "revoked", "admin")
        assert told(await it.as_(secret, "GET", RUNS)) == (401, "token_revoked")
        again = (await it.as_(ADMIN, "DELETE", f"/api/v1/tokens/{token['token_id']}")).json()
        assert again["changed"] is False
        assert told(await it.as_(ADMIN, "DELETE", "/api/v1/tokens/nobody")) == (404, "no_token")
        assert (await it.as_(ADMIN, "GET", "/api/v1/tokens")).json()["tokens"] == []
        ended = (await it.as_(ADMIN, "GET", "/api/v1/tokens?ended=true")).json()["tokens"]
        assert [one["state"] for one in ended] == ["revoked"]
        assert await made(it, "ci") != secret  # the name is free again, the old token stays revoked
        assert told(await it.as_(secret, "GET", RUNS)) == (401, "token_revoked")


async def test_another_gateway_hears_of_a_revocation_within_two_seconds(tmp_path: Path, postgres_url: str) -> None:
    async with gate(tmp_path, postgres_url) as one, gate(tmp_path, postgres_url) as other:
        secret = await made(one, "ci")
        cookie = await signed_in(one, secret)
        assert (await other.as_(secret, "GET", "/openapi.json")).status_code == 200
        assert (await by_session(other, cookie)).status_code == 200
        await one.as_(ADMIN, "DELETE", "/api/v1/tokens/ci")
        other.clock.ahead_seconds += 2
        assert told(await other.as_(secret, "GET", RUNS)) == (401, "token_revoked")
        assert told(await by_session(other, cookie)) == (401, "session_ended")


async def test_what_was_read_before_a_revocation_is_not_believed_after_it(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        secret = await made(it, "ci")
        known = it.identities._known
        found, reading, revoked = known._found, threading.Event(), threading.Event()

        def slowly(sha256: bytes) -> TokenRow | None:
            row = found(sha256)
            reading.set()
            assert revoked.wait(30)
            return row

        known._found = slowly  # type: ignore[method-assign]
        early = asyncio.create_task(it.as_(secret, "GET", "/openapi.json"))
        await asyncio.to_thread(reading.wait, 30)
        await it.as_(ADMIN, "DELETE", "/api/v1/tokens/ci")
        revoked.set()
        assert (await early).status_code == 200  # it was asked before
        known._found = found  # type: ignore[method-assign]
        assert told(await it.as_(secret, "GET", RUNS)) == (401, "token_revoked")


async def test_the_last_use_is_written_once_a_minute(tmp_path: Path, database_url: str) -> None:
    async with gate(tmp_path, database_url) as it:
        secret = await made(it, "ci")

        async def last() -> str | None:
            await it.as_(secret, "GET", "/api/v1/session")
            listed = (await it.as_(ADMIN, "GET", "/api/v1/tokens")).json()["tokens"]
            found: str | None = listed[0]["last_use_time"]
            return found

        first = await last()
        assert first is not None
        it.clock.ahead_seconds += 50
        assert await last() == first
        it.clock.ahead_seconds += 11
        assert (await last() or "") > first


async def test_a_token_expires(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        secret = await made(it, "ci", expires_seconds=60)
        never = await made(it, "for-ever", expires_seconds=None)
        assert (await it.as_(secret, "GET", "/openapi.json")).status_code == 200
        it.clock.ahead_seconds += 61
        assert told(await it.as_(secret, "GET", "/openapi.json")) == (401, "token_expired")
        it.clock.ahead_seconds += 86_400 * 300
        assert (await it.as_(never, "GET", "/openapi.json")).status_code == 200
        ended = (await it.as_(ADMIN, "GET", "/api/v1/tokens?ended=true")).json()["tokens"]
        assert {one["name"]: one["state"] for one in ended} == {"ci": "expired", "for-ever": "live"}


async def test_tokens_are_listed_by_pages(tmp_path: Path, database_url: str) -> None:
    async with gate(tmp_path, database_url) as it:
        for number in range(5):
            await it.token("viewer", f"n{number}")
        names, token, pages = [], "", 0
        while pages < 10:
            page = (await it.as_(ADMIN, "GET", f"/api/v1/tokens?page_size=2&page_token={token}")).json()
            names += [one["name"] for one in page["tokens"]]
            pages += 1
            token = page["next_page_token"] or ""
            if not token:
                break
        assert (names, pages) == (["n4", "n3", "n2", "n1", "n0"], 3)
        assert told(await it.as_(ADMIN, "GET", "/api/v1/tokens?page_token=x")) == (400, "bad_page_token")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "a"},
        {"name": "a", "role": "root"},
        {"name": "Ada", "role": "viewer"},
        {"name": "", "role": "viewer"},
        {"name": "a" * 64, "role": "viewer"},
        {"name": "tok-1", "role": "viewer"},
        {"name": "a", "role": "viewer", "expires_seconds": 0},
        {"name": "a", "role": "viewer", "expires_seconds": 10**9},
        {"name": "a", "role": "viewer", "for": 3},
    ],
)
async def test_a_bad_token_is_refused_and_nothing_kept(tmp_path: Path, sqlite_url: str, body: object) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        assert (await it.as_(ADMIN, "POST", "/api/v1/tokens", json=body)).status_code == 400
        assert (await it.as_(ADMIN, "GET", "/api/v1/tokens?ended=true")).json()["tokens"] == []


async def test_the_token_of_the_file_follows_the_file(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        assert told(await it.as_(ADMIN, "DELETE", "/api/v1/tokens/admin")) == (403, "token_of_file")
        kept = await it.as_(ADMIN, "POST", "/api/v1/tokens", json={"name": "admin", "role": "viewer"})
        assert told(kept) == (409, "token_exists")
        new = "another-admin-token-of-many-characters"
        it.admin_file.write_text(new)
        it.clock.ahead_seconds += 6
        assert (await it.as_(new, "GET", "/api/v1/tokens")).status_code == 200
        assert told(await it.as_(ADMIN, "GET", "/api/v1/tokens")) == (401, "token_unknown")
        it.admin_file.write_text("short")  # what can't be one changes nothing
        it.clock.ahead_seconds += 6
        assert (await it.as_(new, "GET", "/api/v1/tokens")).status_code == 200


async def test_nobody_says_who_asks_but_the_token(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        secret = await made(it, "ci")
        answer = await it.as_(secret, "GET", "/api/v1/session", headers={"penstock-actor": "ada"})
        assert told(answer) == (400, "actor_refused")
        answer = await it.as_(secret, "GET", "/api/v1/session", headers={"penstock-actor": "ci"})
        assert answer.status_code == 200


# --- sessions -----------------------------------------------------------------------------------------------------


async def signed_in(it: Gate, token: str, origin: str = BASE) -> str:
    answer = await it.http.post("/api/v1/session", json={"token": token}, headers={"origin": origin})
    assert answer.status_code == 200, answer.text
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert ("Secure" in cookie) is origin.startswith("https")
    it.http.cookies.clear()
    secret = re.search(rf"{COOKIE}=([^;]+)", cookie)
    assert secret is not None
    assert token not in cookie
    return f"{COOKIE}={secret[1]}"


async def by_session(it: Gate, cookie: str, method: str = "GET", **headers: str) -> httpx.Response:
    path = "/api/v1/session" if method == "GET" else "/api/v1/retries"
    body = None if method == "GET" else {"allowed": True}
    return await it.http.request(method, path, headers={"cookie": cookie, **headers}, json=body)


async def test_a_session_is_who_signed_in_until_they_sign_out(tmp_path: Path, database_url: str) -> None:
    async with gate(tmp_path, database_url) as it:
        cookie = await signed_in(it, await made(it, "ada", "operator"))
        me = (await by_session(it, cookie)).json()
        assert (me["actor"], me["role"]) == ("ada", "operator")
        # A cookie comes along by itself: what it changes must come from our own page.
        assert told(await by_session(it, cookie, "PUT")) == (403, "origin_missing")
        assert told(await by_session(it, cookie, "PUT", origin="https://evil.example")) == (403, "forbidden")
        assert told(await by_session(it, cookie, "PUT", origin="null")) == (403, "forbidden")
        assert (await by_session(it, cookie, "PUT", origin=BASE)).status_code == 503  # let in; the scheduler is away
        out = await it.http.delete("/api/v1/session", headers={"cookie": cookie, "origin": BASE})
        assert out.status_code == 204
        assert told(await by_session(it, cookie)) == (401, "session_unknown")
        await signed_in(it, ADMIN, "https://penstock.example")


async def test_a_session_ends_with_its_token(tmp_path: Path, database_url: str) -> None:
    async with gate(tmp_path, database_url) as it:
        token = await made(it, "ada")
        short = await made(it, "short", expires_seconds=3_600)
        one, two, three = [await signed_in(it, each) for each in (token, short, ADMIN)]
        await it.as_(ADMIN, "DELETE", "/api/v1/tokens/ada")
        assert told(await by_session(it, one)) == (401, "session_ended")
        it.clock.ahead_seconds += 3_601
        assert told(await by_session(it, two)) == (401, "session_ended")
        assert (await by_session(it, three)).json()["actor"] == "admin"
        it.admin_file.write_text("another-admin-token-of-many-characters")
        it.clock.ahead_seconds += 6
        assert told(await by_session(it, three)) == (401, "session_ended")


async def test_a_session_ends_after_its_hours(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url, session_hours=2) as it:
        cookie = await signed_in(it, ADMIN)
        it.clock.ahead_seconds += 7_190
        assert (await by_session(it, cookie)).status_code == 200
        it.clock.ahead_seconds += 20
        assert told(await by_session(it, cookie)) == (401, "session_ended")


async def test_a_browser_is_shown_where_to_sign_in(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        browser = {"accept": "text/html,application/xhtml+xml"}
        answer = await it.http.get("/", headers=browser)
        assert answer.status_code == 401
        assert 'id="login"' in answer.text
        assert not re.search(r'(src|href)="(?!/)', answer.text)  # nothing from elsewhere
        for asset in re.findall(r'(?:src|href)="(/[^"]+)"', answer.text):
            assert (await it.http.get(asset)).status_code == 200, asset
        cookie = await signed_in(it, await made(it, "ada"))
        page = await it.http.get("/", headers={**browser, "cookie": cookie})
        assert page.status_code == 200
        assert "Documents in" in page.text
        refused = await it.http.get("/api/v1/tokens", headers={**browser, "cookie": cookie})
        assert refused.status_code == 403
        assert "needs the role admin" in refused.text
        ended = await it.http.get("/", headers={**browser, "cookie": f"{COOKIE}=nonsense"})
        assert "your session has ended" in ended.text


# --- too many, and away -------------------------------------------------------------------------------------------


async def test_wrong_tokens_wait_and_good_ones_do_not(tmp_path: Path, sqlite_url: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        good, fresh = await made(it, "ci"), await made(it, "fresh")
        assert (await it.as_(good, "GET", "/openapi.json")).status_code == 200
        it.clock.stand()
        codes = [(await it.as_(new_secret(TOKEN), "GET", RUNS)).status_code for _ in range(14)]
        assert codes[:10] == [401] * 10
        assert codes[-3:] == [429] * 3
        limited = await it.as_("nonsense", "GET", RUNS)
        assert told(limited) == (429, "too_many_failures")
        assert limited.headers["retry-after"]
        for token in (good, ADMIN):
            assert (await it.as_(token, "GET", "/openapi.json")).status_code == 200
        assert (await it.as_(fresh, "GET", "/openapi.json")).status_code in (200, 429)
        sign_in = await it.http.post("/api/v1/session", json={"token": "guess"}, headers={"origin": BASE})
        assert told(sign_in) == (429, "too_many_failures")
        it.clock.ahead_seconds += 1
        assert (await it.as_(fresh, "GET", "/openapi.json")).status_code == 200
        assert (await it.http.get(RUNS)).status_code == 401  # without a credential nothing failed


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YWRtaW46YWRtaW4=", "Bearer ä", "bearer  x y", "Bearer " + "a" * 9_000]
)
async def test_an_odd_header_is_refused(tmp_path: Path, sqlite_url: str, header: str) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        answer = await it.http.get(RUNS, headers={b"authorization": header.encode("latin-1")})
        assert answer.status_code == 401


async def test_while_the_database_is_away_nobody_comes_in_and_readiness_says_so(
    tmp_path: Path, sqlite_url: str
) -> None:
    async with gate(tmp_path, sqlite_url) as it:
        secret = await made(it, "ci")
        it.identities.wait("the gateway's database can't be used: nobody is there")
        assert told(await it.as_(secret, "GET", RUNS)) == (503, "sql_unavailable")
        checks = (await it.http.get("/readyz")).json()["checks"]
        assert checks["gateway"].startswith("the gateway can't use its SQL database")
        assert (await it.http.get("/healthz")).status_code == 200
        it.identities.wait(None)
        assert (await it.http.get("/readyz")).json()["checks"]["gateway"] == "ok"


async def test_a_database_that_breaks_is_no_way_in(tmp_path: Path, postgres_url: str) -> None:
    async with gate(tmp_path, postgres_url) as it:
        secret = await made(it, "ci")
        with it.database.write() as connection:
            connection.execute(sa.text("ALTER TABLE tokens RENAME TO gone"))
        it.clock.ahead_seconds += 3
        assert (await it.as_(secret, "GET", RUNS)).status_code == 500
        assert (await it.as_(new_secret(TOKEN), "GET", RUNS)).status_code == 500
