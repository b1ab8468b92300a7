"""Planner and scheduler that know each other, both on SQLite, or both on PostgreSQL (`asking.BOTH`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.planner.removals.asking import Files
from tests.integration.scheduler.world import World


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    kind = getattr(request, "param", "sqlite")
    url: str = request.getfixturevalue("sqlite_url" if kind == "sqlite" else "postgres_url")
    return url


@pytest.fixture
async def world(tmp_path: Path, redis_url: str, database: str) -> AsyncIterator[World]:
    planned = database if database.startswith("postgresql") else ""
    # Hand workers renew nothing: what they hold outlasts a machine that stands still for a moment.
    one = await World.start(
        tmp_path,
        redis_url,
        database,
        knows_scheduler=True,
        planner_database_url=planned,
        lease_term_seconds=10.0,
    )
    try:
        yield one
    finally:
        await one.stop()


@pytest.fixture
def files(world: World) -> Iterator[Files]:
    one = Files(world)
    yield one
    one.database.close()
