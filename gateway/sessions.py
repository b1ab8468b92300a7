"""`/api/v1/session`: a browser signs in with a token, once, and holds a session in its place.

The session is a cookie that no script reads (HttpOnly) and that no foreign page sends (SameSite=Strict). It ends after
`gateway.session_hours`, with its token, or when its bearer signs out.
"""

from __future__ import annotations

from fastapi import Request, Response
from pydantic import Field

from gateway.bodies import Body, resource_router
from gateway.tokens import time_of
from gateway.wiring import Asking, Wired
from penstock.client.token_views import SessionView
from penstock.runtime.errors import Conflict

__all__ = ["router"]

router = resource_router()


class SessionBody(Body):
    token: str = Field(min_length=1, max_length=8_192, description="An API token, or a JWT of the OIDC issuer.")


@router.post("/session", tags=["session"])
async def open_session(body: SessionBody, request: Request, response: Response, parts: Wired) -> SessionView:
    """Signs in; the answer sets the cookie. 401 for a token that nobody knows."""
    from gateway.auth.door import COOKIE
    from gateway.auth.failures import address_of
    from gateway.auth.identities import Credential

    if parts.identities is None:
        raise Conflict("nobody needs to sign in here: the setting gateway.auth is none", code="auth_is_off")
    address = address_of(request.scope, request.headers, parts.settings.gateway.proxies())
    principal = await parts.identities.principal(Credential(body.token.strip(), cookie=False), address)
    secret, expire_ms = await parts.identities.open_session(principal)
    # Where TLS ends at a proxy before us, the browser's own word tells its scheme.
    tls = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    response.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=tls, path="/")
    return {
        "auth": "tokens",
        "actor": principal.actor,
        "role": principal.role.word,  # type: ignore[typeddict-item]
        "kind": principal.kind,
        "expire_time": time_of(expire_ms),
    }


@router.get("/session", tags=["session"])
async def get_session(asking: Asking) -> SessionView:
    """Who asks, and what that may be."""
    if asking is None:
        return {"auth": "none", "actor": None, "role": "admin", "kind": None, "expire_time": None}
    return {
        "auth": "tokens",
        "actor": asking.actor,
        "role": asking.role.word,  # type: ignore[typeddict-item]
        "kind": asking.kind,
        "expire_time": time_of(asking.expire_ms),
    }


@router.delete("/session", tags=["session"], status_code=204)
async def close_session(request: Request, response: Response, parts: Wired) -> None:
    """Signs out; nothing happens where nobody was signed in."""
    from gateway.auth.door import COOKIE, cookie_of

    if parts.identities is not None:
        await parts.identities.close_session(cookie_of(request.headers))
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
