"""A world for each test, on SQLite and on PostgreSQL; its invariants are checked when the test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.scheduler.world import World


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with _checked(await World.start(tmp_path, redis_url, database_url)) as one:
        yield one


@pytest.fixture
async def patient(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[World]:
    """Of leases that no test outlives: for what holds them and renews nothing."""
    async with _checked(await World.start(tmp_path, redis_url, database_url, lease_term_seconds=60.0)) as one:
        yield one


@asynccontextmanager
async def _checked(world: World) -> AsyncIterator[World]:
    try:
        yield world
        world.check()
    finally:
        await world.stop()
