"""API tokens of the gateway: made, listed, revoked, by admins. The one part of the client that speaks HTTP alone."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from urllib.parse import quote, urlencode

from penstock.client.gateway_calls import GatewayCalls
from penstock.client.token_views import RoleWord, SessionView, TokenMadeView, TokenPageView, TokenView

__all__ = ["DEFAULT_SECONDS", "Tokens"]

DEFAULT_SECONDS = 90 * 86_400
PAGE_SIZE = 1_000


class Tokens:
    """Every call raises Conflict (code `auth_is_off`) where the gateway asks nobody for a token, PermissionDenied for
    who is no admin."""

    def __init__(self, gateway: Callable[[], GatewayCalls]) -> None:
        self._gateway = gateway

    async def _ask(self, method: str, path: str, body: object = None) -> builtins.dict[str, object]:
        return await asyncio.to_thread(self._gateway().ask, method, path, body)

    async def who(self) -> SessionView:
        """Who this client is for the gateway, and what that may be."""
        return await self._ask("GET", "/api/v1/session")  # type: ignore[return-value]

    async def create(
        self, name: str, *, role: RoleWord, expires_seconds: int | None = DEFAULT_SECONDS
    ) -> TokenMadeView:
        """`secret` is told this once. expires_seconds None: never. Raises AlreadyExists while another of its name is
        not revoked."""
        body = {"name": name, "role": role, "expires_seconds": expires_seconds}
        return await self._ask("POST", "/api/v1/tokens", body)  # type: ignore[return-value]

    async def list_page(self, *, ended: bool = False, page_size: int = 100, page_token: str = "") -> TokenPageView:
        """The latest first; ended: with those that are revoked or expired."""
        query = urlencode({"ended": str(ended).lower(), "page_size": page_size, "page_token": page_token})
        return await self._ask("GET", f"/api/v1/tokens?{query}")  # type: ignore[return-value]

    async def list(self, *, ended: bool = False) -> builtins.list[TokenView]:
        """All of them."""
        found: builtins.list[TokenView] = []
        token = ""
        while True:
            page = await self.list_page(ended=ended, page_size=PAGE_SIZE, page_token=token)
            found += page["tokens"]
            token = page["next_page_token"] or ""
            if not token:
                return found

    async def revoke(self, token: str) -> bool:
        """By name or id: whether that changed it. Raises NotFound."""
        answer = await self._ask("DELETE", f"/api/v1/tokens/{quote(token, safe='')}")
        return bool(answer["changed"])
