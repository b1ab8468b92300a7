"""The time of the database, which all schedulers share; measured at start, and again slowly.

On SQLite there is one scheduler, and its own machine's clock at start is as good. A clock that was set back, that of a
machine while nothing ran or that of the database between the starts of two replicas, is not followed back: what was to
be due in a moment would be due in an hour, and the leases that one replica grants would be over for the other. So time
goes on from what the rows know, and replicas agree. When the database can't be asked, the clock goes on by itself.
"""

from __future__ import annotations

import asyncio
import time

import sqlalchemy as sa

from penstock.runtime.clock import BACK_MS, Clock, SharedClock, SystemClock
from penstock.runtime.errors import Unavailable
from penstock.runtime.sql import Database

__all__ = ["follow", "started"]

EVERY_SECONDS = 10.0

# What time it is.
_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp()) * 1000")

_OF_CALLS = "SELECT max(seen_ms) AS known FROM sessions UNION ALL SELECT max(create_ms) FROM requests"
_OF_STARTS = "SELECT max(until_ms) FROM leaders WHERE name = 'scheduler'"
# The latest time at which a scheduler heard of a worker or an operator; no time that lies ahead.
_HEARD = sa.text(f"SELECT max(known) FROM ({_OF_CALLS}) AS found")
# The latest time that the rows tell of: of a start, a call, an order.
_LATEST = sa.text(f"SELECT max(known) FROM ({_OF_CALLS} UNION ALL {_OF_STARTS}) AS found")


async def started(database: Database) -> Clock:
    """A clock that tells the database's time. Raises Unavailable."""
    if database.is_sqlite:
        return SystemClock.start(not_before_ms=await asyncio.to_thread(_latest, database, _LATEST))
    told_ms, heard_ms = await asyncio.to_thread(_read, database), await asyncio.to_thread(_latest, database, _HEARD)
    return SharedClock(heard_ms if told_ms < heard_ms < told_ms + BACK_MS else told_ms)


async def follow(clock: SharedClock, database: Database) -> None:
    """Measures again now and then; runs until cancelled."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        asked = time.monotonic()
        try:
            clock.measured(await asyncio.to_thread(_read, database), asked=asked)
        except Unavailable:
            continue


def _latest(database: Database, query: sa.TextClause) -> int:
    with database.read() as connection:
        return int(connection.execute(query).scalar() or 0)


def _read(database: Database) -> float:
    with database.read() as connection:
        return float(connection.execute(_NOW).scalar_one())
