"""The `noop` processor: its pause ends with its leases, and its items do what their payload says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from penstock.processor import Context, Deferred, Failure, Mode, Outcome, Result, Throttled, WorkItem
from penstock.runtime.blobs import BlobStore
from worker.processors.noop import NoopParameters, NoopProcessor

ITEMS = [WorkItem("run-1", 0, seq, str(seq), "", {}) for seq in range(3)]


@pytest.mark.parametrize(("seconds", "revoked"), [(0.0, False), (0.01, False), (3600.0, True)])
async def test_every_item_completes(tmp_path: Path, seconds: float, revoked: bool) -> None:
    context = Context(NoopParameters(sleep_seconds=seconds), BlobStore(tmp_path), deadline=0.0)
    call = asyncio.create_task(NoopProcessor().process_batch(ITEMS, context))
    if revoked:
        context.cancelled.set()
    assert await asyncio.wait_for(call, 5.0) == [Result()] * 3


KEYS = ["provider:x", "domain:y"]


@pytest.mark.parametrize(
    ("payload", "attempt", "mode", "outcome"),
    [
        ({"i": 1, "limits": KEYS}, 1, "work", Result()),
        ({"cost_micros": 7, "used": {"tokens": 2}}, 1, "work", Result(None, None, 7, {"tokens": 2})),
        ({"result": {"a": 1}, "cost_micros": 7}, 1, "work", Result({"a": 1}, cost_micros=7)),
        ({"fail": "provider"}, 9, "work", Failure("told to fail: provider", "provider")),
        ({"fail": "item", "permanent": True}, 1, "work", Failure("told to fail: item", permanent=True)),
        ({"fail": "item", "fail_attempts": 2}, 2, "work", Failure("told to fail: item")),
        ({"fail": "item", "fail_attempts": 2}, 3, "work", Result()),
        ({"fail": "throttled", "limits": KEYS, "wait_seconds": 2}, 1, "work", Throttled("provider:x", 2, "told to")),
        ({"fail": "throttled", "limits": KEYS}, 2, "work", Result()),
        ({"fail": "throttled"}, 1, "work", Failure("told to fail: throttled", "throttled")),
        ({"fail": "deferred"}, 1, "work", Deferred(None, 1.0, {"attempt": 1, "saved": None})),
        ({"fail": "deferred"}, 2, "work", Result()),
        ({"fail": "item"}, 1, "heal", Result()),
        ({"fail": "item", "heals": False}, 1, "heal", Failure("it could not be healed")),
        ({"fail": "item"}, 1, "confirm", Result()),
        ({"confirms": False}, 1, "confirm", Failure("the second witness disagrees", "unconfirmed")),
    ],
)
async def test_an_item_does_what_its_payload_says(
    tmp_path: Path, payload: dict[str, Any], attempt: int, mode: Mode, outcome: Outcome
) -> None:
    item = WorkItem("run-1", 0, 0, "k", "", payload, attempt=attempt, mode=mode)
    context = Context(NoopParameters(), BlobStore(tmp_path), deadline=0.0)
    assert await NoopProcessor().process_batch([item], context) == [outcome]


async def test_a_payload_of_the_wrong_type_fails_its_item_for_good(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"cost_micros": -1},
        {"cost_micros": True},
        {"used": [1]},
        {"sleep_seconds": "1"},
        {"fail": 1},
        {"fail_attempts": 1.5},
    ]
    items = [WorkItem("run-1", 0, seq, "k", "", payload) for seq, payload in enumerate(wrong)]
    context = Context(NoopParameters(), BlobStore(tmp_path), deadline=0.0)
    for answer, payload in zip(await NoopProcessor().process_batch(items, context), wrong, strict=True):
        assert isinstance(answer, Failure)
        assert answer.permanent
        assert next(iter(payload)) in answer.message


def test_parameters_that_are_not_set_do_not_show() -> None:
    assert NoopParameters().model_dump(mode="json") == {"sleep_seconds": 0.0}
    paid = NoopParameters(paid=True, repeatable=False)
    assert paid.model_dump() == {"sleep_seconds": 0.0, "paid": True, "repeatable": False}
    assert (NoopProcessor.is_paid(paid), NoopProcessor.is_repeatable(paid)) == (True, False)
    assert NoopProcessor.limit_keys({"limits": KEYS}, paid) == KEYS
    assert NoopProcessor.limit_keys({"limits": "a:b"}, paid) == ["a:b"]
    assert not NoopProcessor.limit_keys({}, paid)
    assert NoopProcessor.limit_fields(paid) == ["limits"]
