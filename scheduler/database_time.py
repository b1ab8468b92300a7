"""The time of the database, which all schedulers share; measured at start, and again slowly.

On SQLite there is one scheduler, and its own machine's clock at start is as good. When the database can't be asked, the
clock goes on by itself.
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


async def started(database: Database) -> Clock:
    """A clock that tells the database's time. Raises Unavailable."""
    if database.is_sqlite:
        return SystemClock.start()
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


def _read(database: Database) -> float:
    with database.read() as connection:
        return float(connection.execute(_NOW).scalar_one())
