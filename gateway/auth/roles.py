"""The three roles, each of which may do all that the one before it may."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from penstock.runtime.errors import PermissionDenied

__all__ = ["Principal", "Role", "needs"]


class Role(enum.IntEnum):
    """What a route needs at least, and what a caller has at most; nobody has ANYONE."""

    ANYONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """viewer, operator or admin."""
        return cls[word.upper()]


@dataclass(frozen=True)
class Principal:
    """Who asks. actor: as events tell it; kind: by what; expire_ms: when it ends by itself; token_id, file_sha256:
    what it stands on, for a session that is made from it."""

    actor: str
    role: Role
    kind: Literal["token", "file", "oidc"]
    expire_ms: int | None = None
    token_id: str | None = None
    file_sha256: bytes | None = None


def needs(asking: Principal | None, least: Role, *, what: str = "this") -> None:
    """Raises PermissionDenied (code `role_needed`) for a lower role; None, where nobody is asked, may do everything."""
    if asking is not None and asking.role < least:
        raise PermissionDenied(
            f"{what} needs the role {least.word}, and {asking.actor} has the role {asking.role.word}",
            code="role_needed",
            needed=least.word,
            role=asking.role.word,
        )
