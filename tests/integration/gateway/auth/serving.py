"""The real application behind its door, over a real database; the services behind it are away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gateway.app import create_app
from gateway.auth.identities import Identities
from gateway.auth.opening import make_identities, open_database
from gateway.auth.roles import Role
from penstock.client import AsyncClient, Endpoints
from penstock.runtime.clock import SystemClock
from penstock.runtime.settings import Settings
from penstock.runtime.sql import Database
from tests.servers.schemas import laid

NOWHERE = "127.0.0.1:9"
AWAY = Endpoints(planner=NOWHERE, scheduler=NOWHERE, analyzer=NOWHERE)
ADMIN = "an-admin-token-of-more-than-32-characters"
BASE = "http://penstock.example"


class MovedClock:
    """The wall and the monotonic clock, which tests put forward."""

    def __init__(self) -> None:
        self._clock = SystemClock.start()
        self._stands: tuple[int, float] | None = None
        self.ahead_seconds = 0.0

    def stand(self) -> None:
        """From now on nothing but the test moves it, however long the machine takes."""
        self._stands = self._clock.now_ms(), self._clock.monotonic()

    def now_ms(self) -> int:
        now_ms = self._stands[0] if self._stands else self._clock.now_ms()
        return now_ms + int(self.ahead_seconds * 1000)

    def monotonic(self) -> float:
        now = self._stands[1] if self._stands else self._clock.monotonic()
        return now + self.ahead_seconds


@dataclass
class Gate:
    """`http` asks without a credential; `as_` with one."""

    http: httpx.AsyncClient
    identities: Identities
    database: Database
    clock: MovedClock
    settings: Settings
    admin_file: Path
    app: Any

    async def token(self, role: str, name: str = "", *, seconds: int | None = 3_600) -> str:
        expire_ms = None if seconds is None else self.clock.now_ms() + seconds * 1000
        _, secret = await self.identities.create_token(
            name=name or f"{role}-token", role=Role.of(role), expire_ms=expire_ms, actor="test"
        )
        return secret

    async def as_(self, token: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}", **more.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **more)


@asynccontextmanager
async def gate(folder: Path, database_url: str, **section: Any) -> AsyncIterator[Gate]:
    """The application as the gateway serves it with auth = tokens; `section`: more of its settings."""
    admin_file = folder / "admin"
    admin_file.write_text(f"{ADMIN}\n")
    settings = Settings.model_validate(
        {
            "gateway": {
                "auth": "tokens",
                "database_url": database_url,
                "admin_token_file": str(admin_file),
                **section,
            }
        }
    )
    laid(database_url, "gateway")
    clock = MovedClock()
    identities, database = make_identities(settings, clock)
    await open_database(identities, database, asyncio.Event(), settings.database)
    try:
        async with AsyncClient(endpoints=AWAY, retry_seconds=0.01) as client:
            app = create_app(settings, client, asyncio.Event(), identities)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
                yield Gate(http, identities, database, clock, settings, admin_file, app)
    finally:
        database.close()
