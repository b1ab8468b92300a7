"""API tokens for code without an event loop; see `penstock.client.tokens.Tokens`."""

from __future__ import annotations

import builtins

from penstock.client.asynchronous import AsyncClient
from penstock.client.blocking import Loop
from penstock.client.token_views import RoleWord, SessionView, TokenMadeView, TokenView
from penstock.client.tokens import DEFAULT_SECONDS

__all__ = ["Tokens"]


class Tokens:
    """See `penstock.client.tokens.Tokens`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.tokens

    def who(self) -> SessionView:
        return self._loop.run(self._it.who())

    def create(self, name: str, *, role: RoleWord, expires_seconds: int | None = DEFAULT_SECONDS) -> TokenMadeView:
        return self._loop.run(self._it.create(name, role=role, expires_seconds=expires_seconds))

    def list(self, *, ended: bool = False) -> builtins.list[TokenView]:
        return self._loop.run(self._it.list(ended=ended))

    def revoke(self, token: str) -> bool:
        return self._loop.run(self._it.revoke(token))
