"""Numbers of runs by their ids: never changed once given, so this process remembers them for each database."""

from __future__ import annotations

from collections.abc import Collection
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from scheduler.store.schema import runs

__all__ = ["numbers_of"]

MOST = 10_000
_KNOWN: WeakKeyDictionary[sa.Engine, dict[str, int]] = WeakKeyDictionary()
# Numbers of runs by id.
_NUMBERS = sa.select(runs.c.run_id, runs.c.number).where(runs.c.run_id.in_(sa.bindparam("ids", expanding=True)))


def numbers_of(connection: sa.Connection, run_ids: Collection[str]) -> dict[str, int]:
    """The numbers of those of these runs that there are."""
    known = _KNOWN.setdefault(connection.engine, {})
    missing = [run_id for run_id in run_ids if run_id not in known]
    found = {run_id: known[run_id] for run_id in run_ids if run_id in known}
    if missing:
        read = {row.run_id: row.number for row in connection.execute(_NUMBERS, {"ids": missing})}
        found |= read
        if len(known) + len(read) > MOST:
            known.clear()
        known.update(read)
    return found
