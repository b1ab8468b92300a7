"""What the work of each worker class could use now, as counters say it. May not write.

Counters change in the transactions of what they count, so this needs no item's row; only where workers run items alone
are leases looked through.
"""

from __future__ import annotations

import sqlalchemy as sa

from scheduler.domain.states import RunState, StageState
from scheduler.domain.workers import Demand, wanted_workers
from scheduler.store.held import running_alone
from scheduler.store.schema import runs, stages

__all__ = ["demands", "wanted_of"]

_STARTABLE = (
    stages.c.total
    - stages.c.running
    - stages.c.retry
    - stages.c.deferred
    - stages.c.completed
    - stages.c.failed
    - stages.c.skipped
    - stages.c.stopped
)
# Every open stage of a run whose leases count. One that waits for money, or fails, leases nothing new.
_OPEN = (
    sa.select(
        stages.c.worker_class, stages.c.running, stages.c.concurrency, _STARTABLE, runs.c.state, runs.c.waiting,
        stages.c.failing,
    )
    .join(runs, runs.c.number == stages.c.run)
    .where(
        stages.c.state == StageState.RUNNING,
        runs.c.state.in_([RunState.RUNNING, RunState.PAUSED, RunState.STOPPING, RunState.WAITING]),
    )
)  # fmt: skip


def demands(connection: sa.Connection) -> dict[str, list[Demand]]:
    """The open stages of each class that there are any of."""
    found: dict[str, list[Demand]] = {}
    for worker_class, leased, concurrency, startable, state, waiting, failing in connection.execute(_OPEN):
        leases = state == RunState.RUNNING and not waiting and not failing
        demand = Demand(leased, startable if leases else 0, concurrency)
        found.setdefault(worker_class, []).append(demand)
    return found


def wanted_of(
    connection: sa.Connection, worker_class: str, of_class: list[Demand], *, slots: int, most: int, warm: int = 0
) -> int:
    """Workers that these demands of a class can use, within its limit."""
    # Who runs items alone makes it more, if more there may be: only then are all leases looked through.
    wanted = wanted_workers(of_class, slots=slots, most=most, warm=warm)
    if not of_class or wanted >= most:
        return wanted
    alone = running_alone(connection, worker_class)
    return wanted_workers(of_class, slots=slots, most=most, warm=warm, alone=alone)
