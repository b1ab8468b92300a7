"""What SQL says of work and sessions, for one turn, read in one transaction. May not write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from penstock.runtime.sql import Database
from scheduler.domain.pods import Sessions
from scheduler.domain.workers import Demand, wanted_workers
from scheduler.store.demand import demands
from scheduler.store.held import busy_sessions, running_alone
from scheduler.store.workers import WorkerRow, open_rows, sessions_now

__all__ = ["Facts", "read_facts"]

SILENT_TERMS = 2


@dataclass(frozen=True)
class Facts:
    """alone: by class, workers that run items one at a time; rows: of workers of which nobody has said that they
    ended."""

    demands: Mapping[str, list[Demand]]
    alone: Mapping[str, int]
    sessions: Sessions
    rows: Mapping[str, WorkerRow]

    def wanted(self, worker_class: str, *, slots: int, most: int) -> int:
        of_class = self.demands.get(worker_class, [])
        return wanted_workers(of_class, slots=slots, most=most, warm=0, alone=self.alone.get(worker_class, 0))


def read_facts(database: Database, pods: Collection[str], *, now_ms: int, term_ms: int) -> Facts:
    """pods: sessions of the pods that there are."""
    with database.read() as connection:
        rows = {row.session: row for row in open_rows(connection)}
        names = {*pods, *rows}
        known = sessions_now(connection, names) if names else {}
        # Who drains was told so before its leases are looked at: none come after that.
        busy = busy_sessions(connection)
        found = demands(connection)
        sessions = Sessions(
            seen=frozenset(name for name, one in known.items() if one.worker),
            busy=frozenset(busy),
            draining=frozenset(name for name, one in known.items() if one.drain_ms is not None or one.ended),
            silent=frozenset(names)
            - {name for name, one in known.items() if one.worker and now_ms - one.seen_ms < SILENT_TERMS * term_ms},
        )
        return Facts(found, {name: running_alone(connection, name) for name in found}, sessions, rows)
