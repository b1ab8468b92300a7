"""`/api/v1/tokens`: API tokens are made, listed and revoked here, by admins.

A token's secret is in the answer that makes it and nowhere else: there is no asking again, so a create takes no
`request_id`; one that broke off is revoked by its name and made again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from gateway.auth.roles import Role
from gateway.bodies import Body, Flag, Token, Whole, resource_router
from gateway.wiring import Asking, Parts, Wired
from penstock.client.token_views import TokenMadeView, TokenPageView, TokenRevokedView, TokenView
from penstock.client.views import time_text
from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import Conflict
from penstock.runtime.paging import page_position
from penstock.runtime.plain_text import MAX_CHARACTERS

if TYPE_CHECKING:
    from gateway.auth.identities import Identities
    from gateway.store.tokens import TokenRow

__all__ = ["router"]

router = resource_router()

DAY_SECONDS = 86_400
DEFAULT_DAYS = 90
MOST_DAYS = 3_650


_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}", re.ASCII)


def _name(given: str) -> str:
    if _NAME.fullmatch(given) is None or given.startswith("tok-"):
        raise PydanticCustomError(
            "name",
            "{given} is no name: at most 63 small letters, digits and . _ @ - are one, which does not begin as an id "
            "does (tok-)",
            {"given": repr(given)[:80]},
        )
    return given


class TokenBody(Body):
    name: Annotated[str, AfterValidator(_name)] = Field(
        description="Who comes with it, as events tell it: at most 63 small letters, digits and . _ @ -"
    )
    role: Literal["viewer", "operator", "admin"]
    expires_seconds: Annotated[Whole, Field(ge=1, le=MOST_DAYS * DAY_SECONDS)] | None = Field(
        DEFAULT_DAYS * DAY_SECONDS, description="From now on; null: it never expires."
    )


def _identities(parts: Parts) -> Identities:
    """Raises Conflict where nobody is asked for a token."""
    if parts.identities is None:
        raise Conflict(
            "nobody is asked for a token here: the setting gateway.auth is none", code="auth_is_off", auth="none"
        )
    return parts.identities


def token_view(row: TokenRow, now_ms: int) -> TokenView:
    expired = row.expire_ms is not None and row.expire_ms <= now_ms
    return {
        "token_id": row.token_id,
        "name": row.name,
        "role": row.role,  # type: ignore[typeddict-item]  # as it was checked when it was made
        "state": "revoked" if row.revoke_ms is not None else "expired" if expired else "live",
        "create_actor": row.create_actor,
        "create_time": time_of(row.create_ms) or "",
        "expire_time": time_of(row.expire_ms),
        "last_use_time": time_of(row.last_use_ms),
        "revoke_actor": row.revoke_actor,
        "revoke_time": time_of(row.revoke_ms),
    }


def time_of(ms: int | None) -> str | None:
    """As objects have it."""
    stamp = to_timestamp(ms)
    return time_text(stamp) if stamp is not None else None


def _actor(asking: Asking) -> str:
    return asking.actor if asking is not None else ""


@router.post("/tokens", tags=["tokens"])
async def create_token(body: TokenBody, parts: Wired, asking: Asking) -> TokenMadeView:
    """Makes a token; `secret` is told now and never again. 409 while another of its name is not revoked."""
    identities = _identities(parts)
    now_ms = identities.now_ms()
    row, secret = await identities.create_token(
        name=body.name,
        role=Role.of(body.role),
        expire_ms=None if body.expires_seconds is None else now_ms + body.expires_seconds * 1000,
        actor=_actor(asking),
    )
    return {"token": token_view(row, now_ms), "secret": secret}


@router.get("/tokens", tags=["tokens"])
async def list_tokens(
    parts: Wired,
    ended: Annotated[Flag, Query(description="Also those that are revoked or expired, for a year.")] = False,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    page_token: Token = "",
) -> TokenPageView:
    """The tokens, the latest first."""
    identities = _identities(parts)
    rows = await identities.tokens(before=page_position(page_token), size=page_size, ended=ended)
    now_ms = identities.now_ms()
    return {
        "tokens": [token_view(row, now_ms) for row in rows],
        "file_token": identities.has_file_token,
        "next_page_token": str(rows[-1].number) if len(rows) == page_size else None,
    }


@router.delete("/tokens/{token}", tags=["tokens"])
async def revoke_token(
    token: Annotated[str, Path(max_length=MAX_CHARACTERS, description="Its name, or its id.")],
    parts: Wired,
    asking: Asking,
) -> TokenRevokedView:
    """Ends it and the sessions that were made with it: here at once, at other gateways within two seconds."""
    identities = _identities(parts)
    row, changed = await identities.revoke_token(token, actor=_actor(asking))
    return {"token": token_view(row, identities.now_ms()), "changed": changed}
