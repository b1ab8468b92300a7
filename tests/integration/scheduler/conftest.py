"""A world for each test, on SQLite and on PostgreSQL; its invariants are checked when the test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.scheduler.world import HASTY_SECONDS, World


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with _checked(await World.start(tmp_path, redis_url, database_url)) as one:
        yield one


@pytest.fixture
async def hasty(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[World]:
    """Of leases that end soon: for what waits for that."""
    world = await World.start(tmp_path, redis_url, database_url, lease_term_seconds=HASTY_SECONDS)
    async with _checked(world) as one:
        yield one


@asynccontextmanager
async def _checked(world: World) -> AsyncIterator[World]:
    try:
        yield world
        world.check()
    finally:
        await world.stop()
