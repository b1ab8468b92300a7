"""Results of many kB, thousands of them: copied and merged in the memory that the planner has for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from planner.results import copying
from tests.integration.planner.test_results import Copy
from tests.integration.scheduler.world import World, completed

ITEMS = 1_200


@pytest.fixture
async def world(tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    one = await World.start(tmp_path, redis_url, f"sqlite:///{tmp_path}/scheduler.db")
    try:
        yield one
    finally:
        await one.stop()


@pytest.fixture
async def copy(world: World) -> AsyncIterator[Copy]:
    one = Copy(world)
    yield one
    await one.close()


async def test_long_results_are_copied_a_share_at_a_time(
    world: World, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "MERGED", 2)
    run_id = await world.run(ITEMS)
    worker, left = world.worker(), ITEMS
    while left:
        leases = await worker.leases(50)
        assert not await worker.report(run_id, [completed(lease, f"{lease.seq:<60000}") for lease in leases])
        left -= len(leases)
    found = await copy.latest("seq, trim(result, '\" ')")
    assert sorted(found) == [(seq, str(seq)) for seq in range(ITEMS)]
    assert max(part.level for part in copy.rows.parts()) > 0
