"""API tokens and sessions as the database has them, remembered for a moment.

A page of results asks a dozen times a second: what was found is believed for FRESH_SECONDS, so that a token that is
revoked at one gateway ends within that at the others (at the one that revokes it, at once). What was not found is
never remembered. A token's last use is written at most once a minute; a database that takes no writes costs the note,
not the call.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Generic, TypeVar

from gateway.auth.secrets import same
from gateway.store.sessions import SessionRow, Sessions
from gateway.store.tokens import TokenRow, Tokens
from penstock.runtime.clock import Clock
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger

__all__ = ["FRESH_SECONDS", "Known"]

FRESH_SECONDS = 2.0
USE_MS = 60_000
REMEMBERED = 2_000
NEVER = float("-inf")

T = TypeVar("T")

log = get_logger("auth")


class _Remembered(Generic[T]):
    """Rows by hash, the most recently asked for last; bounded."""

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, tuple[T, float]] = OrderedDict()

    def get(self, key: bytes, *, after: float) -> T | None:
        row, at = self._rows.get(key, (None, NEVER))
        return row if at > after else None

    def put(self, key: bytes, row: T | None, at: float) -> None:
        self._rows.pop(key, None)
        if row is not None:
            self._rows[key] = (row, at)
            while len(self._rows) > REMEMBERED:
                self._rows.popitem(last=False)

    def stale(self) -> None:
        """All are asked for again; that they were good is still known."""
        for key, (row, _) in self._rows.items():
            self._rows[key] = (row, NEVER)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows


class Known:
    def __init__(self, tokens: Tokens, sessions: Sessions, clock: Clock) -> None:
        self.tokens = tokens
        self.sessions = sessions
        self._clock = clock
        self._of_tokens: _Remembered[TokenRow] = _Remembered()
        self._of_sessions: _Remembered[SessionRow] = _Remembered()
        self._of_issuer: _Remembered[bool] = _Remembered()
        self._forgotten = 0

    def had(self, sha256: bytes) -> bool:
        """Whether it was somebody's when it was last looked up."""
        return sha256 in self._of_tokens or sha256 in self._of_sessions or sha256 in self._of_issuer

    def was_good(self, sha256: bytes) -> None:
        """A token of the issuer, of which nothing else is remembered."""
        self._of_issuer.put(sha256, True, NEVER)

    def forget(self) -> None:
        """What was revoked or signed out here ends at once."""
        self._forgotten += 1
        self._of_tokens.stale()
        self._of_sessions.stale()

    async def token(self, sha256: bytes) -> TokenRow | None:
        """Revoked and expired ones too. Raises Unavailable while the database is away."""
        now = self._clock.monotonic()
        row = self._of_tokens.get(sha256, after=now - FRESH_SECONDS)
        if row is None:
            before = self._forgotten
            row = await asyncio.to_thread(self._found, sha256)
            # What was read before a revocation must not be believed after it.
            self._of_tokens.put(sha256, row, now if before == self._forgotten else NEVER)
        return row

    def _found(self, sha256: bytes) -> TokenRow | None:
        found = self.tokens.find(sha256)
        if found is None or not same(found[1], sha256):
            return None
        row = found[0]
        now_ms = self._clock.now_ms()
        live = row.revoke_ms is None and (row.expire_ms is None or row.expire_ms > now_ms)
        if live and (row.last_use_ms is None or row.last_use_ms <= now_ms - USE_MS):
            try:
                self.tokens.used(row.token_id, now_ms=now_ms, at_least_ms=USE_MS)
            except PenstockError as error:
                log.warning("the last use of a token was not noted", token=row.name, error=error.message)
        return row

    async def session(self, sha256: bytes) -> SessionRow | None:
        """Ended ones too. Raises Unavailable while the database is away."""
        now = self._clock.monotonic()
        row = self._of_sessions.get(sha256, after=now - FRESH_SECONDS)
        if row is None:
            before = self._forgotten
            row = await asyncio.to_thread(self.sessions.find, sha256)
            self._of_sessions.put(sha256, row, now if before == self._forgotten else NEVER)
        return row
