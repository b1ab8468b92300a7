"""The `noop` processor: its pause ends with its leases."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from penstock.processor import Context, Result, WorkItem
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
