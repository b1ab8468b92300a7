"""The SQL of API tokens: made, found by their hash, listed, used, revoked.

A row never goes back: revoked is revoked. Rows that ended a year ago are removed when another token is made.
Every statement is named by the method it stands in; all of a method is one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from gateway.store.schema import tokens
from penstock.runtime.errors import AlreadyExists, NotFound
from penstock.runtime.sql import Database

__all__ = ["KEPT_DAYS", "TokenRow", "Tokens"]

KEPT_DAYS = 365
"""A token that ended so long ago is listed no more."""
DAY_MS = 86_400_000


@dataclass(frozen=True)
class TokenRow:
    """role: viewer, operator or admin; expire_ms None: never; last_use_ms is up to a minute old."""

    token_id: str
    name: str
    role: str
    create_actor: str
    create_ms: int
    expire_ms: int | None
    last_use_ms: int | None = None
    revoke_actor: str | None = None
    revoke_ms: int | None = None
    number: int = 0


_COLUMNS = [column for column in tokens.c if column.name != "secret_sha256"]


def _row(found: sa.Row[Any]) -> TokenRow:
    return TokenRow(**found._mapping)


class Tokens:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, token: TokenRow, secret_sha256: bytes) -> TokenRow:
        """Keeps it. Raises AlreadyExists (code `token_exists`) while another of its name is not revoked."""
        ended = token.create_ms - KEPT_DAYS * DAY_MS
        try:
            with self._database.write() as connection:
                connection.execute(sa.delete(tokens).where((tokens.c.revoke_ms < ended) | (tokens.c.expire_ms < ended)))
                connection.execute(
                    sa.insert(tokens).values(
                        token_id=token.token_id,
                        name=token.name,
                        role=token.role,
                        secret_sha256=secret_sha256,
                        create_actor=token.create_actor,
                        create_ms=token.create_ms,
                        expire_ms=token.expire_ms,
                    )
                )
        except IntegrityError:
            raise AlreadyExists(
                f"there is a token {token.name!r} already: choose another name, or revoke that one first",
                code="token_exists",
            ) from None
        return token

    def find(self, secret_sha256: bytes) -> tuple[TokenRow, bytes] | None:
        """The token of this hash, revoked and expired ones too, with the hash as it is kept."""
        with self._database.read() as connection:
            found = connection.execute(
                sa.select(*_COLUMNS, tokens.c.secret_sha256).where(tokens.c.secret_sha256 == secret_sha256)
            ).one_or_none()
        if found is None:
            return None
        columns = dict(found._mapping)
        kept: bytes = columns.pop("secret_sha256")
        return TokenRow(**columns), bytes(kept)

    def page(self, *, before: int | None, size: int, live_at_ms: int | None) -> list[TokenRow]:
        """The latest first, those with a number below `before`; with `live_at_ms` only what may be used then."""
        statement = sa.select(*_COLUMNS).order_by(tokens.c.number.desc()).limit(size)
        if before is not None:
            statement = statement.where(tokens.c.number < before)
        if live_at_ms is not None:
            unexpired = tokens.c.expire_ms.is_(None) | (tokens.c.expire_ms > live_at_ms)
            statement = statement.where(tokens.c.revoke_ms.is_(None) & unexpired)
        with self._database.read() as connection:
            return [_row(found) for found in connection.execute(statement)]

    def revoke(self, reference: str, *, actor: str, now_ms: int) -> tuple[TokenRow, bool]:
        """By its name, or by its id: the token, and whether that changed it. Raises NotFound."""
        of_name = (tokens.c.name == reference) & tokens.c.revoke_ms.is_(None)
        with self._database.write() as connection:
            revoked = connection.execute(
                sa.update(tokens)
                .where(of_name | ((tokens.c.token_id == reference) & tokens.c.revoke_ms.is_(None)))
                .values(revoke_actor=actor, revoke_ms=now_ms)
                .returning(*_COLUMNS)
            ).first()
            if revoked is not None:
                return _row(revoked), True
            before = connection.execute(
                sa.select(*_COLUMNS)
                .where((tokens.c.token_id == reference) | (tokens.c.name == reference))
                .order_by(tokens.c.number.desc())
                .limit(1)
            ).first()
        if before is None:
            raise NotFound(f"there is no token {reference!r}: `penstock tokens list` names them", code="no_token")
        return _row(before), False

    def used(self, token_id: str, *, now_ms: int, at_least_ms: int) -> None:
        """Notes a use, unless one within `at_least_ms` is noted already: several gateways serve at once."""
        late = tokens.c.last_use_ms.is_(None) | (tokens.c.last_use_ms <= now_ms - at_least_ms)
        with self._database.write() as connection:
            connection.execute(
                sa.update(tokens).where((tokens.c.token_id == token_id) & late).values(last_use_ms=now_ms)
            )
