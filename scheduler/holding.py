"""A database that takes one scheduler only (SQLite): who has it, and why a second one is refused.

The holder stands in `leaders` with its process id and that process's start: no term must run out after a kill, and an
id that was given to another process misleads nobody.
"""

from __future__ import annotations

import os

from penstock.runtime.errors import Conflict
from penstock.runtime.sql import Database
from scheduler.backends.process import start_time
from scheduler.store import leaders

__all__ = ["hold"]


def hold(database: Database, now_ms: int) -> None:
    """Takes the database. Raises Conflict that names the living scheduler which has it."""
    mine = f"process {os.getpid()} since {start_time(os.getpid())}"
    with database.write() as connection:
        found = leaders.leader(connection, leaders.SCHEDULER)
        if found is not None and found.holder != mine and _alive(found.holder):
            raise Conflict(
                f"another scheduler ({found.holder.split(' since ')[0]}) has this SQLite database; end it first, or "
                "give the schedulers a PostgreSQL, which takes several",
                code="second_scheduler",
            )
        leaders.take(connection, leaders.SCHEDULER, mine, now_ms=now_ms, until_ms=now_ms, force=True)


def _alive(holder: str) -> bool:
    words = holder.split()
    return len(words) == 4 and str(start_time(int(words[1]))) == words[3]
