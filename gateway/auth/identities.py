"""Who a credential is: a token of ours, the admin token of the file, a session of a browser, a JWT of the issuer.

The states of a credential and what its bearer hears:

    good                      a Principal
    unknown                   401 token_unknown; counts as a failure of its address
    an unknown session        401 session_unknown; the same
    past its time, revoked    401 token_expired, token_revoked, session_ended: told only to who has the secret itself
    good, without a role      403 no_role (OIDC alone)
    can't be told just now    503: the database or the issuer is away

Sessions are made from a credential and never outlive it: each look-up asks what the token behind it is now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from gateway.auth.failures import Failures
from gateway.auth.file_token import ACTOR as FILE_ACTOR
from gateway.auth.file_token import FileToken
from gateway.auth.known import Known
from gateway.auth.oidc import OidcTokens
from gateway.auth.roles import Principal, Role
from gateway.auth.secrets import SESSION, TOKEN, digest, looks_like, new_secret
from gateway.store.sessions import SessionRow
from gateway.store.tokens import TokenRow
from penstock.runtime.clock import Clock, IdSource, random_id
from penstock.runtime.errors import Conflict, Overloaded, PermissionDenied, Unauthenticated, Unavailable
from penstock.runtime.logs import get_logger

__all__ = ["Credential", "Identities"]

HOUR_MS = 3_600_000

log = get_logger("auth")

_FAILURES = frozenset({"token_unknown", "session_unknown"})


@dataclass(frozen=True)
class Credential:
    """secret: as it was sent; cookie: by a browser on its own, so that a foreign page could have asked for it."""

    secret: str
    cookie: bool


class Identities:
    def __init__(
        self,
        *,
        known: Known,
        clock: Clock,
        failures: Failures,
        file_token: FileToken | None = None,
        oidc: OidcTokens | None = None,
        session_hours: float = 12.0,
        make_id: IdSource = random_id,
    ) -> None:
        self._known = known
        self._clock = clock
        self._failures = failures
        self._file = file_token
        self._oidc = oidc
        self._session_ms = int(session_hours * HOUR_MS)
        self._make_id = make_id
        self._waits_for: str | None = None

    def wait(self, problem: str | None) -> None:
        """What the gateway's database lacks; None once it can be used."""
        self._waits_for = problem

    async def check(self) -> None:
        """For readiness. Raises Unavailable."""
        self._wait_no_longer()
        await asyncio.to_thread(self._known.tokens.page, before=None, size=1, live_at_ms=None)

    def _wait_no_longer(self) -> None:
        if self._waits_for is not None:
            raise Unavailable(f"who asks can't be told yet: {self._waits_for}", code="sql_unavailable")

    # --- who it is ------------------------------------------------------------------------------------------------

    async def principal(self, credential: Credential, address: str) -> Principal:
        """Raises Unauthenticated, PermissionDenied, Overloaded, Unavailable."""
        sha256 = digest(credential.secret)
        if not credential.cookie and self._file is not None and self._file.is_it(sha256):
            return Principal(FILE_ACTOR, Role.ADMIN, "file", file_sha256=sha256)
        wait_seconds = self._failures.wait_seconds(address)
        if wait_seconds and not self._known.had(sha256):
            raise Overloaded(
                f"too many wrong tokens came from {address}: try again in {wait_seconds} s", code="too_many_failures"
            )
        try:
            return await self._way(credential)(credential.secret, sha256)
        except Unauthenticated as error:
            if error.code in _FAILURES:
                self._failures.note(address)
                log.warning("a wrong token was refused", address=address, error=error.message)
            raise

    def _way(self, credential: Credential) -> Callable[[str, bytes], Awaitable[Principal]]:
        if credential.cookie:
            return self._of_session
        if looks_like(credential.secret, TOKEN):
            return self._of_token
        if self._oidc is not None and self._oidc.looks_like(credential.secret):
            return self._of_issuer
        return self._of_nobody

    async def _of_nobody(self, secret: str, sha256: bytes) -> Principal:
        raise Unauthenticated(
            "what was sent is no token of this Penstock: one begins with pst_, and an admin makes it with "
            "`penstock tokens create`",
            code="token_unknown",
        )

    async def _of_token(self, secret: str, sha256: bytes) -> Principal:
        self._wait_no_longer()
        row = await self._known.token(sha256)
        if row is None:
            raise Unauthenticated("nobody here knows this token", code="token_unknown")
        if row.revoke_ms is not None:
            raise Unauthenticated(f"the token {row.name!r} was revoked by {row.revoke_actor}", code="token_revoked")
        if row.expire_ms is not None and row.expire_ms <= self._clock.now_ms():
            raise Unauthenticated(
                f"the token {row.name!r} has expired: an admin makes another with `penstock tokens create`",
                code="token_expired",
            )
        return Principal(row.name, Role.of(row.role), "token", row.expire_ms, token_id=row.token_id)

    async def _of_issuer(self, secret: str, sha256: bytes) -> Principal:
        assert self._oidc is not None
        principal = await self._oidc.principal(secret)
        self._known.was_good(sha256)
        return principal

    async def _of_session(self, secret: str, sha256: bytes) -> Principal:
        ended = Unauthenticated("your session has ended: sign in again", code="session_ended")
        if not looks_like(secret, SESSION):
            raise ended
        self._wait_no_longer()
        row = await self._known.session(sha256)
        if row is None:
            raise Unauthenticated(ended.message, code="session_unknown")
        if row.expire_ms <= self._clock.now_ms():
            raise ended
        if row.token_id is not None and row.token_name is None:
            raise ended  # its token was revoked
        if row.file_sha256 is not None and (self._file is None or not self._file.is_it(row.file_sha256)):
            raise ended
        kind: Literal["token", "file", "oidc"] = "oidc"
        if row.token_id is not None:
            kind = "token"
        elif row.file_sha256 is not None:
            kind = "file"
        return Principal(
            row.actor, Role.of(row.role), kind, row.expire_ms, token_id=row.token_id, file_sha256=row.file_sha256
        )

    # --- sessions -------------------------------------------------------------------------------------------------

    async def open_session(self, principal: Principal) -> tuple[str, int]:
        """A browser's secret for this principal, and when it ends."""
        self._wait_no_longer()
        now_ms = self._clock.now_ms()
        expire_ms = now_ms + self._session_ms
        if principal.expire_ms is not None:
            expire_ms = min(expire_ms, principal.expire_ms)
        secret = new_secret(SESSION)
        row = SessionRow(
            actor=principal.actor,
            role=principal.role.word,
            create_ms=now_ms,
            expire_ms=expire_ms,
            token_id=principal.token_id,
            file_sha256=principal.file_sha256,
        )
        await asyncio.to_thread(self._known.sessions.create, row, digest(secret))
        return secret, expire_ms

    async def close_session(self, secret: str) -> None:
        if looks_like(secret, SESSION):
            self._wait_no_longer()
            await asyncio.to_thread(self._known.sessions.delete, digest(secret))
            self._known.forget()

    # --- tokens ---------------------------------------------------------------------------------------------------

    async def create_token(self, *, name: str, role: Role, expire_ms: int | None, actor: str) -> tuple[TokenRow, str]:
        """The token and its secret, which nobody can tell again. Raises AlreadyExists."""
        self._wait_no_longer()
        secret = new_secret(TOKEN)
        row = TokenRow(
            token_id=self._make_id("tok"),
            name=name,
            role=role.word,
            create_actor=actor,
            create_ms=self._clock.now_ms(),
            expire_ms=expire_ms,
        )
        if name == FILE_ACTOR:
            raise Conflict(f"the name {FILE_ACTOR!r} is kept for the token of the file", code="token_exists")
        await asyncio.to_thread(self._known.tokens.create, row, digest(secret))
        log.info("a token was made", token=name, role=role.word, actor=actor, expire_ms=expire_ms)
        return row, secret

    async def tokens(self, *, before: int | None, size: int, ended: bool) -> list[TokenRow]:
        """The latest first; `ended`: with those that are revoked or expired."""
        self._wait_no_longer()
        live_at_ms = None if ended else self._clock.now_ms()
        return await asyncio.to_thread(self._known.tokens.page, before=before, size=size, live_at_ms=live_at_ms)

    async def revoke_token(self, reference: str, *, actor: str) -> tuple[TokenRow, bool]:
        """By name or id; with its sessions. Raises NotFound, PermissionDenied for the token of the file."""
        if reference == FILE_ACTOR:
            raise PermissionDenied(
                "the token of gateway.admin_token_file is revoked by changing that file", code="token_of_file"
            )
        self._wait_no_longer()
        now_ms = self._clock.now_ms()
        row, changed = await asyncio.to_thread(self._known.tokens.revoke, reference, actor=actor, now_ms=now_ms)
        self._known.forget()
        if changed:
            log.info("a token was revoked", token=row.name, actor=actor)
        return row, changed

    @property
    def has_file_token(self) -> bool:
        return self._file is not None

    @property
    def somebody_elsewhere(self) -> bool:
        """Whether people may come in without a row in the database."""
        return self._file is not None or self._oidc is not None

    def now_ms(self) -> int:
        return self._clock.now_ms()
