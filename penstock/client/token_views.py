"""What the gateway tells of API tokens and of who asks, field by field as HTTP answers it and `--json` prints it."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

__all__ = ["RoleWord", "SessionView", "TokenMadeView", "TokenPageView", "TokenRevokedView", "TokenView"]

RoleWord = Literal["viewer", "operator", "admin"]


class TokenView(TypedDict):
    """Times are ISO 8601 in UTC; expire_time null: never; last_use_time is up to a minute old."""

    token_id: str
    name: str
    role: RoleWord
    state: Literal["live", "expired", "revoked"]
    create_actor: str
    create_time: str
    expire_time: str | None
    last_use_time: str | None
    revoke_actor: str | None
    revoke_time: str | None


class TokenMadeView(TypedDict):
    """secret: told here and never again."""

    token: TokenView
    secret: str


class TokenPageView(TypedDict):
    """The latest first. file_token: whether the token of gateway.admin_token_file is one more."""

    tokens: list[TokenView]
    file_token: bool
    next_page_token: str | None


class TokenRevokedView(TypedDict):
    """changed: false where it was revoked already."""

    token: TokenView
    changed: bool


class SessionView(TypedDict):
    """Who asks. auth: none where nobody is asked who they are, and may do everything; kind: by what."""

    auth: Literal["none", "tokens"]
    actor: str | None
    role: RoleWord
    kind: Literal["token", "file", "oidc"] | None
    expire_time: str | None
