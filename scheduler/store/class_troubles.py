"""Why worker classes have not the workers that they want: a row each, and an event in every run that waits for them.

A change of the code is told once; the same again is not. The row goes when nothing is wrong any more.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from scheduler.domain.pods import Trouble
from scheduler.domain.states import RunState, StageState
from scheduler.store.effects import Effects
from scheduler.store.locking import lock
from scheduler.store.schema import class_troubles, runs, stages

__all__ = ["TroubleNow", "set_trouble", "tell_runs", "trouble_of", "troubles"]

MOST_RUNS = 50
"""So many runs hear of it in their events, the newest first; `penstock classes` says it to everybody."""


@dataclass(frozen=True)
class TroubleNow:
    trouble: Trouble
    since_ms: int


_COLUMNS = (
    class_troubles.c.worker_class,
    class_troubles.c.code,
    class_troubles.c.text,
    class_troubles.c.advice,
    class_troubles.c.since_ms,
)


def troubles(connection: sa.Connection) -> dict[str, TroubleNow]:
    found = connection.execute(sa.select(*_COLUMNS))
    return {row[0]: TroubleNow(Trouble(row[1], row[2], row[3]), row[4]) for row in found}


def trouble_of(connection: sa.Connection, worker_class: str) -> TroubleNow | None:
    query = sa.select(*_COLUMNS).where(class_troubles.c.worker_class == worker_class)
    row = connection.execute(query).one_or_none()
    return None if row is None else TroubleNow(Trouble(row[1], row[2], row[3]), row[4])


def set_trouble(
    connection: sa.Connection, effects: Effects, worker_class: str, trouble: Trouble | None, now_ms: int
) -> bool:
    """Whether that is another one than before."""
    before = trouble_of(connection, worker_class)
    if (before.trouble.code if before else "") == (trouble.code if trouble else ""):
        return False
    # Runs are locked before any other row, as in every call.
    if trouble is not None:
        reason = f"class {worker_class} lacks workers: {trouble.text}; {trouble.advice}"
        tell_runs(connection, effects, worker_class, "workers.short", reason, now_ms, code=trouble.code)
    elif before is not None:
        reason = f"class {worker_class} gets workers again"
        tell_runs(connection, effects, worker_class, "workers.back", reason, now_ms, code=before.trouble.code)
    connection.execute(sa.delete(class_troubles).where(class_troubles.c.worker_class == worker_class))
    if trouble is not None:
        connection.execute(
            sa.insert(class_troubles).values(
                worker_class=worker_class,
                code=trouble.code,
                text=trouble.text,
                advice=trouble.advice,
                since_ms=now_ms,
            )
        )
    return True


def tell_runs(
    connection: sa.Connection,
    effects: Effects,
    worker_class: str,
    type_: str,
    reason: str,
    now_ms: int,
    **data: object,
) -> None:
    """An event in each run that has an open stage of this class."""
    query = (
        sa.select(runs.c.number)
        .join(stages, stages.c.run == runs.c.number)
        .where(
            stages.c.worker_class == worker_class,
            stages.c.state == StageState.RUNNING,
            runs.c.state.in_([RunState.RUNNING, RunState.PAUSED, RunState.STOPPING, RunState.WAITING]),
        )
        .distinct()
        .order_by(runs.c.number.desc())
        .limit(MOST_RUNS)
    )
    for number in sorted(connection.execute(query).scalars()):
        unit = lock(connection, number, now_ms)
        if unit is not None:
            unit.emit(type_, subject=f"class:{worker_class}", reason=reason, data={"class": worker_class, **data})
            unit.flush(effects)
            effects.changed.add(number)
