"""`noop`: completes every item at once, or does what its payload says; for trials, tests and measuring.

Payload fields, all optional: `limits` (its limit keys), `cost_micros`, `used` ({dimension: amount}), `sleep_seconds`
(the longest of a batch is the batch's), `result`, `fail` (a kind of failure; `throttled` closes the first of its
limits; `deferred` waits), `fail_attempts` (so many attempts end so, then it completes; default: all, of throttled and
deferred ones the first), `wait_seconds` (of a closure or a deferral), `permanent`, `heals` (false: healing fails too),
`confirms` (false: the second witness disagrees).
A field of the wrong type fails its item for good.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from penstock.processor import Context, Deferred, Failure, Outcome, Parameters, Processor, Result, Throttled, WorkItem

__all__ = ["NoopParameters", "NoopProcessor"]

_DONE = Result()


class NoopParameters(Parameters):
    sleep_seconds: float = Field(0.0, ge=0, le=3600, description="Pause before an item completes.")
    paid: bool = Field(False, description="Pretend to cost money: under a budget it starts only with a known price.")
    repeatable: bool = Field(True, description="False: an attempt whose end is unknown is not repeated.")

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Plans hash their parameters: what is as it always was must not make another plan of the same.
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name == "sleep_seconds" or value is (name == "paid")}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_FIELDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "cost_micros": ("a whole number from 0", _whole),
    "used": ("{dimension: whole number}", lambda v: isinstance(v, dict)),  # the worker looks at what is in it
    "sleep_seconds": ("0-86,400", _number),
    "wait_seconds": ("0-86,400", _number),
    "fail": ("a kind of failure", lambda v: isinstance(v, str)),
    "fail_attempts": ("a whole number from 0", _whole),
    "permanent": ("true or false", lambda v: isinstance(v, bool)),
    "heals": ("true or false", lambda v: isinstance(v, bool)),
    "confirms": ("true or false", lambda v: isinstance(v, bool)),
}
_PLAIN = frozenset({"cost_micros", "used"})
_CHANGES = frozenset(_FIELDS) - _PLAIN | {"result"}


class NoopProcessor(Processor[NoopParameters]):
    """Does nothing."""

    name = "noop"
    version = "1"
    parameters_type = NoopParameters
    batch_size = 1_000

    @classmethod
    def limit_keys(cls, payload: Mapping[str, Any], parameters: NoopParameters) -> Sequence[str]:
        keys = payload.get("limits", ())
        return keys if isinstance(keys, list | tuple) else [keys]

    @classmethod
    def limit_fields(cls, parameters: NoopParameters) -> Sequence[str] | None:
        return ["limits"]

    @classmethod
    def is_paid(cls, parameters: NoopParameters) -> bool:
        return parameters.paid

    @classmethod
    def is_repeatable(cls, parameters: NoopParameters) -> bool:
        return parameters.repeatable

    async def process_batch(self, items: Sequence[WorkItem], context: Context[NoopParameters]) -> Sequence[Outcome]:
        if context.parameters.sleep_seconds:
            await _pause(context, context.parameters.sleep_seconds)
        answers = [_answer(item) for item in items]
        pauses = [item.payload.get("sleep_seconds", 0) for item in items]
        if any(pauses):
            # Answered together, so the longest pause is the batch's.
            await _pause(context, max(filter(_number, pauses), default=0.0))
        return answers


def _answer(item: WorkItem) -> Outcome:
    payload = item.payload
    cost: int = payload.get("cost_micros", 0)
    used: Mapping[str, int] | None = payload.get("used")
    if _CHANGES.isdisjoint(payload) and _whole(cost) and (used is None or _FIELDS["used"][1](used)):
        return Result(None, None, cost, used) if cost or used else _DONE
    for name, value in payload.items():
        if name in _FIELDS and not _FIELDS[name][1](value):
            words = f"{name} of item {item.key!r} is {value!r}, for noop it is {_FIELDS[name][0]}"
            return Failure(words[:1_000], permanent=True)
    done = Result(payload.get("result"), cost_micros=cost, used=used)
    fail: str = payload.get("fail", "")
    if item.mode == "confirm":
        if payload.get("confirms", True):
            return done
        return Failure("the second witness disagrees", kind="unconfirmed", cost_micros=cost, used=used)
    if item.mode == "heal":
        if payload.get("heals", True):
            return done
        return Failure("it could not be healed", kind=fail or "item", cost_micros=cost, used=used)
    attempts: int | None = payload.get("fail_attempts", 1 if fail in ("throttled", "deferred") else None)
    if not fail or (attempts is not None and item.attempt > attempts):
        return done
    wait: float = payload.get("wait_seconds", 0.0)
    keys = NoopProcessor.limit_keys(payload, NoopParameters())
    if fail == "throttled" and keys:
        return Throttled(str(keys[0]), wait, "told to", cost_micros=cost, used=used)
    if fail == "deferred":
        saved = {"attempt": item.attempt, "saved": item.saved}
        return Deferred(after_seconds=wait or 1.0, saved=saved, cost_micros=cost, used=used)
    permanent: bool = payload.get("permanent", False)
    return Failure(f"told to fail: {fail}", fail, permanent, cost_micros=cost, used=used)


async def _pause(context: Context[NoopParameters], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await context.cancelled.wait()
