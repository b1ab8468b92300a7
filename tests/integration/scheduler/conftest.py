"""A world for each test, on SQLite and on PostgreSQL; its invariants are checked when the test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.scheduler.world import World


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[World]:
    one = await World.start(tmp_path, redis_url, database_url)
    try:
        yield one
        one.check()
    finally:
        await one.stop()
