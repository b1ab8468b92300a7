"""The door before every route: which role does it need, who asks, may they?

It answers before a byte of the body is read. A credential is the header `Authorization: Bearer …`, else the session
cookie of a browser; a cookie comes along by itself, so a change that it asks for must say its Origin (which the guard
compares with the Host). The actor of a call is who the credential is, and nobody else: `Penstock-Actor` is refused
where it says another. A stream is looked at again while it runs: it ends with the credential that opened it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.types import Scope

from gateway.auth.failures import Network, address_of
from gateway.auth.identities import Credential, Identities
from gateway.auth.roles import Principal, Role, needs
from gateway.auth.rules import Rules
from penstock.runtime.errors import InvalidInput, PenstockError, PermissionDenied, Unauthenticated

__all__ = ["COOKIE", "Door", "Visit", "cookie_of", "credential_of"]

COOKIE = "penstock_session"
READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Visit:
    """One request that was let in, and by what."""

    principal: Principal
    credential: Credential
    address: str


def cookie_of(headers: Headers) -> str:
    """The session's secret; "" where there is none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def credential_of(headers: Headers) -> Credential | None:
    """Raises Unauthenticated for an Authorization of another kind."""
    given = headers.get("authorization", "")
    if given:
        kind, _, secret = given.partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Unauthenticated("Authorization must be `Bearer` and a token", code="token_unknown")
        return Credential(secret.strip(), cookie=False)
    session = cookie_of(headers)
    return Credential(session, cookie=True) if session else None


class Door:
    def __init__(self, identities: Identities, rules: Rules, trusted_proxies: Sequence[Network] = ()) -> None:
        self.identities = identities
        self._rules = rules
        self._trusted = trusted_proxies

    async def let_in(self, scope: Scope, headers: Headers, *, actor: str) -> Visit | None:
        """Who it is; None on routes that ask nobody. Raises Unauthenticated, PermissionDenied, Overloaded,
        Unavailable, and InvalidInput where `actor`, which the request named, is another."""
        rule = self._rules.of(scope)
        if rule.least is Role.ANYONE:
            return None
        credential = credential_of(headers)
        if credential is None:
            raise Unauthenticated(
                "this Penstock asks who you are: send `Authorization: Bearer TOKEN`, or sign in at its page",
                code="token_missing",
            )
        address = self.address(scope, headers)
        principal = await self.identities.principal(credential, address)
        if credential.cookie and scope["method"] not in READING and "origin" not in headers:
            raise PermissionDenied(
                "a change that a browser's session asks for must say its Origin; programs send a token",
                code="origin_missing",
            )
        if rule.least is None:
            raise PermissionDenied(f"{scope['method']} {rule.path} is open to nobody: it has no rule", code="no_rule")
        needs(principal, rule.least)
        if actor not in ("", principal.actor):
            raise InvalidInput(
                f"the header Penstock-Actor can't say who asks: that is {principal.actor}, by the token. Leave it out",
                code="actor_refused",
            )
        return Visit(principal, credential, address)

    def address(self, scope: Scope, headers: Headers) -> str:
        """Whose failures count together."""
        return address_of(scope, headers, self._trusted)

    async def still_good(self, visit: Visit) -> bool:
        """Whether the credential would be let in again; while that can't be told, it is."""
        try:
            principal = await self.identities.principal(visit.credential, visit.address)
        except (Unauthenticated, PermissionDenied):
            return False
        except PenstockError:
            return True
        return principal.role >= visit.principal.role
