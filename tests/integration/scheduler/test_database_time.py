"""The time that replicas share: a database's clock that is set ahead and back does not part them."""

from __future__ import annotations

import sqlalchemy as sa

from penstock.runtime.clock import BACK_MS
from penstock.runtime.sql import Database
from scheduler import database_time
from tests.integration.scheduler.world import World

MINUTE_MS = 60_000


async def test_a_replica_that_starts_after_the_clock_was_set_back_goes_on_from_what_the_other_knows(
    world: World, database_url: str
) -> None:
    await world.run(1)
    await world.worker().leases(1)
    database = Database(database_url, "scheduler")
    try:
        before_ms = (await database_time.started(database)).now_ms()
        heard(database, before_ms + 10 * MINUTE_MS)  # by one that followed the clock ahead
        after_ms = (await database_time.started(database)).now_ms()
        assert before_ms + 10 * MINUTE_MS <= after_ms < before_ms + 11 * MINUTE_MS
        heard(database, before_ms + BACK_MS + 2 * MINUTE_MS)  # by one whose clock was wrong altogether
        assert (await database_time.started(database)).now_ms() < before_ms + MINUTE_MS
    finally:
        database.close()


def heard(database: Database, seen_ms: int) -> None:
    with database.write() as connection:
        assert connection.execute(sa.text("UPDATE sessions SET seen_ms = :seen_ms"), {"seen_ms": seen_ms}).rowcount
