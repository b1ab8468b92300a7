"""The time of the database, which all schedulers share; measured at start, and again slowly.

On SQLite there is one scheduler, and its own machine's clock at start is as good: unless it was set back while nothing
ran. Then what was to be due in a moment would be due in an hour; so time goes on from what the rows know. When the
database can't be asked, the clock goes on by itself.
"""

from __future__ import annotations

import asyncio
import time

import sqlalchemy as sa

from penstock.runtime.clock import Clock, SharedClock, SystemClock
from penstock.runtime.errors import Unavailable
from penstock.runtime.sql import Database

__all__ = ["follow", "started"]

EVERY_SECONDS = 10.0

# What time it is.
_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp()) * 1000")


# The latest time that the rows tell of: of a start, a call, an order.
_LATEST = sa.text("""
SELECT max(known) FROM (
  SELECT max(until_ms) AS known FROM leaders WHERE name = 'scheduler'
  UNION ALL SELECT max(seen_ms) FROM sessions UNION ALL SELECT max(create_ms) FROM requests
) AS found
""")


async def started(database: Database) -> Clock:
    """A clock that tells the database's time. Raises Unavailable."""
    if database.is_sqlite:
        latest = await asyncio.to_thread(_latest, database)
        return SystemClock.start(not_before_ms=latest)
    return SharedClock(await asyncio.to_thread(_read, database))


async def follow(clock: SharedClock, database: Database) -> None:
    """Measures again now and then; runs until cancelled."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        asked = time.monotonic()
        try:
            clock.measured(await asyncio.to_thread(_read, database), asked=asked)
        except Unavailable:
            continue


def _latest(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(_LATEST).scalar() or 0)


def _read(database: Database) -> float:
    with database.read() as connection:
        return float(connection.execute(_NOW).scalar_one())
