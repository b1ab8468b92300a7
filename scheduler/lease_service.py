"""gRPC of leases: validate, call, translate; nothing is decided here.

A report with what could not be read back later (a result that is no JSON, a blob without a hash, a time that is none)
is refused whole, and told which item it is about, before anything is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import orjson

from penstock.processor import INLINE_BYTES
from penstock.runtime.blobs import is_blob_hash
from penstock.runtime.clock import milliseconds_of
from penstock.runtime.errors import InvalidInput
from penstock.runtime.plain_text import plain_text
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from penstock.words import MAX_AMOUNT, MAX_DIMENSIONS, dollars, limit_key_problem
from scheduler.engine import Engine
from scheduler.store.leases import Session
from scheduler.top_ups import top_up
from scheduler.translate import refusal_message

__all__ = ["LeaseService"]

MAX_WAIT_SECONDS = 366 * 86_400.0
DIMENSION_CHARACTERS = 100

_TEXTS = ("error", "error_kind", "fingerprint")
_COMPLETED = pb.OUTCOME_KIND_COMPLETED
_RARE = (pb.OUTCOME_KIND_UNSPECIFIED, pb.OUTCOME_KIND_THROTTLED, pb.OUTCOME_KIND_DEFERRED)

Context = grpc.aio.ServicerContext[Any, Any]


class LeaseService(scheduler_pb2_grpc.LeaseServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Acquire(self, request: pb.AcquireRequest, context: Context) -> pb.AcquireResponse:
        _check(request.outcomes)
        return await self._engine.acquire(request)

    async def Report(self, request: pb.ReportRequest, context: Context) -> pb.ReportResponse:
        _check(request.outcomes)
        return pb.ReportResponse(refused=[refusal_message(r) for r in await self._engine.report(request)])

    async def Renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewResponse:
        return await self._engine.renew(request)

    async def TopUp(self, request: pb.TopUpRequest, context: Context) -> pb.TopUpResponse:
        return await top_up(self._engine, request)

    async def EndSession(self, request: pb.EndSessionRequest, context: Context) -> pb.EndSessionResponse:
        said = request.session
        name, worker = plain_text(said.session, "session"), plain_text(said.worker, "worker")
        session = Session(name, worker, plain_text(said.worker_class, "worker_class"))
        await self._engine.end_session(session, "its worker ended", handed_back=True)
        return pb.EndSessionResponse()


def _check(batches: Iterable[pb.OutcomeBatch]) -> None:
    """Raises InvalidInput for outcomes that could not be read back later. Texts are made fit for any database."""
    for batch in batches:
        for outcome in batch.outcomes:
            kind = outcome.kind
            # Most are done, and have no result.
            plain = kind == _COMPLETED and not outcome.result and not outcome.HasField("result_blob")
            if plain and 0 <= outcome.cost_micros <= MAX_AMOUNT and (not outcome.used or not _uses_problem(outcome)):
                continue
            problem = _problem(outcome)
            if problem:
                raise InvalidInput(f"the outcome of item {batch.stage}/{outcome.seq} {problem}", code="bad_outcome")
            if kind == pb.OUTCOME_KIND_FAILED:
                for field in _TEXTS:
                    text = getattr(outcome, field)
                    if "\0" in text:
                        setattr(outcome, field, text.replace("\0", "\ufffd"))


def _problem(outcome: pb.Outcome) -> str:
    if not 0 <= outcome.cost_micros <= MAX_AMOUNT:
        return f"cost {dollars(outcome.cost_micros)}; $0 to {dollars(MAX_AMOUNT)} are possible"
    if outcome.used and (problem := _uses_problem(outcome)):
        return problem
    if outcome.kind in _RARE:
        problem = _rare_problem(outcome)
        if problem:
            return problem
    if len(outcome.result) > INLINE_BYTES:
        return f"has a result of {len(outcome.result):,} bytes; above {INLINE_BYTES:,} it must be a blob"
    if outcome.result:
        try:
            orjson.loads(outcome.result)
        except ValueError as error:
            return f"has a result that is no JSON: {error}"
    blob = outcome.result_blob
    if outcome.HasField("result_blob") and (not is_blob_hash(blob.sha256) or blob.size_bytes < 0):
        return f"names no blob: {blob.sha256[:80]!r}, {blob.size_bytes} bytes"
    return ""


def _uses_problem(outcome: pb.Outcome) -> str:
    used = outcome.used
    if len(used) > MAX_DIMENSIONS:
        return f"used {len(used):,} dimensions; {MAX_DIMENSIONS} are possible"
    for name, amount in used.items():
        if not 0 <= amount <= MAX_AMOUNT or not 0 < len(name) <= DIMENSION_CHARACTERS or not name.isprintable():
            return f"used {amount:,} of {name[:80]!r}; 0 to {MAX_AMOUNT:,} of a word are possible"
    return ""


def _rare_problem(outcome: pb.Outcome) -> str:
    if outcome.kind == pb.OUTCOME_KIND_UNSPECIFIED:
        return "has no kind: completed, failed, released, throttled or deferred"
    if not 0 <= outcome.retry_after_seconds <= MAX_WAIT_SECONDS:  # neither is NaN
        return f"waits for {outcome.retry_after_seconds:g} s; 0-{MAX_WAIT_SECONDS:g} are possible"
    if outcome.kind == pb.OUTCOME_KIND_THROTTLED:
        return limit_key_problem(outcome.limit_key) if outcome.limit_key else "was throttled and names no limit_key"
    if outcome.HasField("until_time"):
        milliseconds_of(outcome.until_time, f"until_time of item {outcome.seq}")
    elif not outcome.retry_after_seconds:
        return "is deferred and does not say until when (until_time, or retry_after_seconds)"
    if len(outcome.saved) > INLINE_BYTES:
        return f"saves {len(outcome.saved):,} bytes; {INLINE_BYTES:,} are possible"
    return ""
