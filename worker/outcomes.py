"""What a processor answered, as the scheduler records it.

Every answer becomes exactly one outcome of its lease: what can't be recorded (no JSON, too large, no answer at all)
becomes a failure, kind `invalid_result`, and its money counts all the same. Nothing here raises.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.timestamp_pb2 import Timestamp

from penstock.processor import INLINE_BYTES, Deferred, Failure, Outcome, Result, Spending, Throttled
from penstock.runtime.blobs import is_blob_hash
from penstock.v1 import common_pb2
from penstock.v1 import scheduler_pb2 as pb
from penstock.words import MAX_AMOUNT, MAX_DIMENSIONS, limit_key_problem
from worker.held import HeldLease

__all__ = [
    "INVALID",
    "MAX_WORDS_CHARACTERS",
    "Crash",
    "Ended",
    "Kept",
    "checked",
    "failed",
    "large",
    "outcome",
    "plain",
    "put",
    "size_of",
    "tells_cost",
    "words",
]

MAX_ERROR_CHARACTERS = 4_000
MAX_RESULT_BYTES = 256 << 20
"""Of a result, kept as a blob by itself; what is larger goes through `context.blobs`, in pieces."""

MAX_KIND_CHARACTERS = 40
MAX_WORDS_CHARACTERS = 100
"""Of a fingerprint, of a dimension and of a phase."""

MAX_WAIT_SECONDS = 366 * 86_400.0
"""A deferral or a closure may last so long; a longer one is nonsense."""

INVALID = "invalid_result"
_OUTCOMES = (Result, Failure, Throttled, Deferred)
_PLAIN_BYTES = 100
_COMPLETED, _FAILED = pb.OUTCOME_KIND_COMPLETED, pb.OUTCOME_KIND_FAILED


Ended = tuple[HeldLease, pb.Outcome | Result]
"""A lease and its outcome. A plain result becomes a message only where it is sent: copying one costs as much as
making it."""


@dataclass(frozen=True)
class Kept:
    """A result as it is recorded: JSON, and a blob or None."""

    data: bytes
    blob: common_pb2.BlobRef | None = None


@dataclass(frozen=True)
class Crash(Failure):
    """A failure in the place of an answer: the processor hung, raised what it should not, or answered nonsense. What
    it cost beside what `context.spent` was told nobody knows.
    """


def checked(answer: Any) -> Kept | Outcome:
    """The answer if it can be recorded, else the failure that stands for it."""
    if isinstance(answer, Result):
        return _result(answer)
    if isinstance(answer, Failure):
        return answer
    if isinstance(answer, Throttled):
        if problem := limit_key_problem(answer.key):
            return _invalid(f"it was throttled, but {problem}")
        return _waits(answer.retry_after_seconds, "retry_after_seconds") or answer
    if isinstance(answer, Deferred):
        return _deferred(answer)
    return Crash(
        f"the processor answered a {type(answer).__name__}, not a Result or a Failure", kind=INVALID, permanent=True
    )


def large(kept: Kept | Outcome) -> bool:
    """Whether a result is to be kept as a blob of its own."""
    return isinstance(kept, Kept) and kept.blob is None and len(kept.data) > INLINE_BYTES


def plain(answer: Any) -> bool:
    """Whether it is a result without value and blob, as most are where there are many, that can be recorded."""
    if answer.__class__ is not Result or answer.value is not None or answer.blob is not None:
        return False
    cost, used = answer.cost_micros, answer.used
    if cost.__class__ is not int or not 0 <= cost <= MAX_AMOUNT:
        return False
    return not used or (used.__class__ is dict and _uses(used))


def put(batches: RepeatedCompositeFieldContainer[pb.OutcomeBatch], ended: Sequence[Ended]) -> None:
    """Writes outcomes into a request, by stage. Equal outcomes make equal bytes: a report may be sent again."""
    by_stage: dict[tuple[str, int], Any] = {}
    for held, told in ended:
        stage = held.run_id, held.stage
        into = by_stage.get(stage)
        if into is None:
            into = by_stage[stage] = batches.add(run_id=held.run_id, stage=held.stage).outcomes
        if isinstance(told, Result):
            _, _, seq, attempt = held.key
            made = into.add(seq=seq, attempt=attempt, kind=_COMPLETED, cost_micros=told.cost_micros)
            if told.used:
                used = made.used
                for dimension, amount in told.used.items():
                    used[dimension] = amount
        else:
            into.append(told)


def tells_cost(told: pb.Outcome | Result, *, budgeted: bool) -> bool:
    """Whether the scheduler learns from it what an attempt has cost, though it counts for nothing else."""
    if isinstance(told, pb.Outcome) and told.cost_unknown:
        return False
    return budgeted or told.cost_micros > 0


def size_of(told: pb.Outcome | Result) -> int:
    """Bytes in a request, about."""
    return _PLAIN_BYTES if isinstance(told, Result) else told.ByteSize()


def outcome(held: HeldLease, answer: Any, kept: Kept | Outcome, spent: Spending | None, *, paid: bool) -> pb.Outcome:
    """The outcome of a lease: `kept` is what `checked` made of `answer`, `spent` what `context.spent` was told.

    paid: the processor costs money, so that of a crash the cost is unknown.
    """
    seq, attempt = held.lease.seq, held.lease.attempt
    if isinstance(kept, Kept):
        made = completed(seq, attempt, kept)
    elif isinstance(kept, Failure):
        made = failed(held, kept)
    elif isinstance(kept, Throttled):
        made = pb.Outcome(
            seq=seq,
            attempt=attempt,
            kind=pb.OUTCOME_KIND_THROTTLED,
            limit_key=kept.key,
            retry_after_seconds=kept.retry_after_seconds,
            error=words(kept.message, MAX_ERROR_CHARACTERS),
        )
    else:
        assert isinstance(kept, Deferred), kept
        made = pb.Outcome(
            seq=seq,
            attempt=attempt,
            kind=pb.OUTCOME_KIND_DEFERRED,
            retry_after_seconds=kept.after_seconds,
            saved=b"" if kept.saved is None else orjson.dumps(kept.saved),
        )
        if kept.until is not None:
            made.until_time.FromDatetime(kept.until)
    told = answer if isinstance(answer, _OUTCOMES) else None
    if spent is not None or (told is not None and (told.cost_micros or told.used)):
        _count(made, told, spent or Spending())
    unknown = isinstance(kept, Crash) or (isinstance(kept, Failure) and kept.cost_unknown)
    made.cost_unknown = made.cost_unknown or (paid and unknown)
    return made


def completed(seq: int, attempt: int, kept: Kept) -> pb.Outcome:
    if kept.blob is None:
        return pb.Outcome(seq=seq, attempt=attempt, kind=_COMPLETED, result=kept.data)
    return pb.Outcome(seq=seq, attempt=attempt, kind=_COMPLETED, result=kept.data, result_blob=kept.blob)


def failed(held: HeldLease, failure: Failure) -> pb.Outcome:
    """The outcome of a lease that ended so."""
    return pb.Outcome(
        seq=held.lease.seq,
        attempt=held.lease.attempt,
        kind=_FAILED,
        error_kind=words(failure.kind, MAX_KIND_CHARACTERS),
        error=words(failure.message, MAX_ERROR_CHARACTERS),
        no_try=bool(failure.no_try),
        permanent=bool(failure.permanent),
        fingerprint=words(failure.fingerprint, MAX_WORDS_CHARACTERS),
    )


def words(text: object, most: int) -> str:
    """What a processor said, so that a message takes it: names of files may hold half a surrogate pair."""
    return str(text)[:most].encode("utf-8", "replace").decode()


def _result(answer: Result) -> Kept | Failure:
    try:
        data = b"" if answer.value is None else orjson.dumps(answer.value)
    except TypeError as error:
        return _invalid(f"its result is no JSON: {error}")
    blob = answer.blob
    if len(data) > MAX_RESULT_BYTES:
        return _invalid(
            f"its result has {len(data):,} bytes; {MAX_RESULT_BYTES:,} are possible, more as blobs of its own"
        )
    if blob is None:
        return Kept(data)
    if not (isinstance(blob, common_pb2.BlobRef) and is_blob_hash(blob.sha256) and blob.size_bytes >= 0):
        return _invalid("its blob is no answer of context.blobs.put")
    if len(data) > INLINE_BYTES:
        return _invalid(f"its result has {len(data)} bytes beside a blob; {INLINE_BYTES} are possible")
    return Kept(data, blob)


def _deferred(answer: Deferred) -> Deferred | Failure:
    if (answer.until is None) == (not answer.after_seconds):
        return _invalid("a Deferred names either `until` or `after_seconds`")
    if answer.until is not None and not (isinstance(answer.until, dt.datetime) and answer.until.tzinfo):
        return _invalid(f"a Deferred waits until {answer.until!r}, which is no time with a time zone")
    if answer.until is not None:
        try:
            Timestamp().FromDatetime(answer.until)
        except (ValueError, OverflowError) as error:
            return _invalid(f"a Deferred waits until {answer.until!r}: {error}")
    try:
        saved = 0 if answer.saved is None else len(orjson.dumps(answer.saved))
    except TypeError as error:
        return _invalid(f"what it saved is no JSON: {error}")
    if saved > INLINE_BYTES:
        return _invalid(f"it saved {saved} bytes; {INLINE_BYTES} are possible, more as a blob")
    return _waits(answer.after_seconds, "after_seconds") or answer


def _waits(seconds: Any, name: str) -> Failure | None:
    right = isinstance(seconds, int | float) and math.isfinite(seconds) and 0 <= seconds <= MAX_WAIT_SECONDS
    return None if right else _invalid(f"its {name} is {seconds!r}, it may be 0-{MAX_WAIT_SECONDS:g}")


def _count(made: pb.Outcome, told: Outcome | None, spent: Spending) -> None:
    """Adds what the attempt cost. An amount that is none makes the outcome a failure, its cost unknown."""
    micros: Any = spent.micros
    used: dict[Any, Any] = dict(spent.used)
    if told is not None:
        micros = _sum(micros, told.cost_micros)
        told_used = told.used or {}
        for dimension, amount in (told_used if isinstance(told_used, Mapping) else {"": None}).items():
            used[dimension] = _sum(used.get(dimension, 0), amount)
    if _amount(micros) and _uses(used):
        made.cost_micros = micros
        made.used.update(used)
        return
    refusal = _invalid(
        f"its cost is {told and told.cost_micros!r} micro-dollars and it used {told and told.used!r}"[:400]
        + f"; whole numbers from 0 are possible, of at most {MAX_DIMENSIONS} dimensions"
    )
    seq, attempt = made.seq, made.attempt
    made.Clear()
    made.seq, made.attempt, made.kind, made.cost_unknown = seq, attempt, _FAILED, True
    made.error_kind, made.error, made.permanent = refusal.kind, words(refusal.message, MAX_ERROR_CHARACTERS), True


def _uses(used: dict[Any, Any]) -> bool:
    """Whether these are {dimension: amount}."""
    for name, amount in used.items():
        if name.__class__ is not str or not 0 < len(name) <= MAX_WORDS_CHARACTERS or not name.isprintable():
            return False
        if amount.__class__ is not int or not 0 <= amount <= MAX_AMOUNT:
            return False
    return len(used) <= MAX_DIMENSIONS


def _sum(one: Any, other: Any) -> Any:
    return one + other if _amount(one) and _amount(other) else None


def _amount(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_AMOUNT


def _invalid(message: str) -> Failure:
    return Failure(message, kind=INVALID, permanent=True)
