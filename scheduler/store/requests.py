"""Requests by their id: the same one, sent again within a day, changes nothing and gets the same answer.

The note of a request is written in the transaction that carries it out, so both are there or neither is; the same id
for another request is refused. What a refusal answers is not kept: it may be right the next time. Of two schedulers
that carry out the same request in the same moment one comes second, and finds what it asked for done already: it looks
again, and answers what the first one did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message

from penstock.runtime.errors import AlreadyExists, PenstockError
from scheduler.store.effects import Effects
from scheduler.store.items import Stale
from scheduler.store.statements import Statement

__all__ = ["Request", "digest_of", "known", "once", "remember"]

T = TypeVar("T")

# What was answered to an id.
_KNOWN = Statement("SELECT method, digest, run_id, changed, answer FROM requests WHERE request_id = :id")
# Keeps the answer unless somebody has kept one meanwhile.
_REMEMBER = Statement(
    "INSERT INTO requests (request_id, method, digest, run_id, changed, create_ms, answer)"
    " VALUES (:id, :method, :digest, :run, :changed, :now, :answer)"
    " ON CONFLICT (request_id) DO NOTHING RETURNING request_id"
)


@dataclass(frozen=True)
class Request:
    """What was asked. No request_id: it is not kept, and every time is the first."""

    request_id: str
    method: str
    digest: bytes


@dataclass(frozen=True)
class Known:
    """What was answered: the run, whether it changed, and what else the method keeps."""

    run_id: str
    changed: bool
    answer: bytes


def digest_of(message: Message) -> bytes:
    """What makes two requests the same: every field but the id itself."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.ClearField("request_id")
    return hashlib.blake2b(copy.SerializeToString(deterministic=True), digest_size=16).digest()


def known(connection: sa.Connection, request: Request) -> Known | None:
    """The answer to the same request, sent before. Raises AlreadyExists when the id was another request's."""
    if not request.request_id:
        return None
    for method, digest, run_id, changed, answer in _KNOWN.rows(connection, {"id": request.request_id}):
        if method != request.method or digest != request.digest:
            raise AlreadyExists(
                f"request_id {request.request_id!r} was used for another request ({method}); take a new one",
                code="request_id_reused",
            )
        return Known(run_id, bool(changed), answer)
    return None


def remember(
    connection: sa.Connection, request: Request, *, run_id: str, changed: bool, now_ms: int, answer: bytes = b""
) -> None:
    """Keeps the answer, in the transaction of what it tells of. Raises Stale, and so undoes it, when another scheduler
    has carried out the same request meanwhile."""
    if request.request_id:
        values = {
            "id": request.request_id,
            "method": request.method,
            "digest": request.digest,
            "run": run_id,
            "changed": changed,
            "now": now_ms,
            "answer": answer,
        }
        if not _REMEMBER.rows(connection, values):
            raise Stale


def once(request: Request, work: Callable[[sa.Connection, Effects], T]) -> Callable[[sa.Connection, Effects], T]:
    """The same work, of which nothing is refused for what the same request has done at another scheduler, while this
    one waited for its lock: raises Stale then."""

    def looking(connection: sa.Connection, effects: Effects) -> T:
        try:
            return work(connection, effects)
        except PenstockError as refusal:
            if known(connection, request) is not None:
                raise Stale from refusal
            raise

    return looking
