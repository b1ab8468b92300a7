"""Request ids: the same call again, within 24 h, gets the same answer and changes nothing.

An id is kept in the transaction of what it did, with the answer's bytes; a sweep forgets it after a day.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa

from penstock.runtime.errors import AlreadyExists
from scheduler.store.schema import requests

__all__ = ["digest_of", "known_answer", "remember_answer"]

# What was answered under this id, and to which request.
_KNOWN = sa.select(requests.c.method, requests.c.digest, requests.c.answer).where(
    requests.c.request_id == sa.bindparam("request_id")
)


def digest_of(method: str, request: bytes) -> bytes:
    """What makes two requests the same; `request` without its own id."""
    return hashlib.blake2b(method.encode() + b"\0" + request, digest_size=16).digest()


def known_answer(connection: sa.Connection, request_id: str, method: str, digest: bytes) -> bytes | None:
    """The answer that was given under this id; None when there is none. Raises AlreadyExists when the id was used for
    another request."""
    if not request_id:
        return None
    row = connection.execute(_KNOWN, {"request_id": request_id}).one_or_none()
    if row is None:
        return None
    if row.method != method or bytes(row.digest) != digest:
        raise AlreadyExists(
            f"request_id {request_id!r} was used for another request ({row.method}); take a new one",
            code="request_id_reused",
        )
    return bytes(row.answer)


def remember_answer(
    connection: sa.Connection, request_id: str, method: str, digest: bytes, answer: bytes, now_ms: int, run_id: str = ""
) -> None:
    """Keeps an answer, if the caller gave an id."""
    if request_id:
        connection.execute(
            sa.insert(requests).values(
                request_id=request_id,
                method=method,
                digest=digest,
                run_id=run_id,
                changed=True,
                create_ms=now_ms,
                answer=answer,
            )
        )
