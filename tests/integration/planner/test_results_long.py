"""Results of many kB, thousands of them: copied and merged in the memory that the planner has for it."""

from __future__ import annotations

import pytest

from planner.results import copying
from tests.integration.planner.copied import Copy
from tests.integration.scheduler.world import World, completed

ITEMS = 1_200


@pytest.fixture
def knows_scheduler() -> bool:
    """No: the planner copies nothing by itself."""
    return False


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
