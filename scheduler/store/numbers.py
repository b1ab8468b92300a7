"""Numbers of runs by their ids: never changed once given, so this process remembers them for each database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from penstock.v1 import scheduler_pb2 as pb
from scheduler.store.effects import StageKey
from scheduler.store.schema import runs

__all__ = ["numbers_of", "runs_of"]

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


def runs_of(
    batches: Iterable[pb.OutcomeBatch | pb.HeldBatch], stages: Iterable[StageKey] = ()
) -> Callable[[sa.Connection], Iterable[int]]:
    """The numbers of the runs that a call is about, once there is a connection to ask."""
    names, numbers = {batch.run_id for batch in batches}, {run for run, _ in stages}
    return lambda connection: numbers.union(numbers_of(connection, names).values())
