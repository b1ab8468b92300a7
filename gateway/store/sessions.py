"""The SQL of sessions: what a browser holds in place of a token. Each ends at its time, or with its token.

Every statement is named by the method it stands in; all of a method is one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from gateway.store.schema import sessions, tokens
from penstock.runtime.sql import Database

__all__ = ["SessionRow", "Sessions"]

ENDED_ROWS = 1_000


@dataclass(frozen=True)
class SessionRow:
    """token_id, file_sha256: what it was made with, where that can be taken back; neither: an OIDC token. token_name:
    of the token that it was made with, None where that is revoked or gone."""

    actor: str
    role: str
    create_ms: int
    expire_ms: int
    token_id: str | None = None
    file_sha256: bytes | None = None
    token_name: str | None = None


class Sessions:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, session: SessionRow, secret_sha256: bytes) -> None:
        """Keeps it, and removes some that have ended."""
        ended = (
            sa.select(sessions.c.secret_sha256).where(sessions.c.expire_ms <= session.create_ms).limit(ENDED_ROWS)
        ).scalar_subquery()
        with self._database.write() as connection:
            connection.execute(sa.delete(sessions).where(sessions.c.secret_sha256.in_(ended)))
            connection.execute(
                sa.insert(sessions).values(
                    secret_sha256=secret_sha256,
                    token_id=session.token_id,
                    file_sha256=session.file_sha256,
                    actor=session.actor,
                    role=session.role,
                    create_ms=session.create_ms,
                    expire_ms=session.expire_ms,
                )
            )

    def find(self, secret_sha256: bytes) -> SessionRow | None:
        """The session of this hash, with what its token is now."""
        token = (tokens.c.token_id == sessions.c.token_id) & tokens.c.revoke_ms.is_(None)
        with self._database.read() as connection:
            found = connection.execute(
                sa.select(
                    sessions.c.actor,
                    sessions.c.role,
                    sessions.c.create_ms,
                    sessions.c.expire_ms,
                    sessions.c.token_id,
                    sessions.c.file_sha256,
                    tokens.c.name.label("token_name"),
                )
                .select_from(sessions.outerjoin(tokens, token))
                .where(sessions.c.secret_sha256 == secret_sha256)
            ).one_or_none()
        return SessionRow(**found._mapping) if found is not None else None

    def delete(self, secret_sha256: bytes) -> None:
        with self._database.write() as connection:
            connection.execute(sa.delete(sessions).where(sessions.c.secret_sha256 == secret_sha256))
