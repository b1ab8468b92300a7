"""Rows of workers: what a backend starts, noted before it can take a lease, and how it ended; who is told to drain.

May not start or end anything. A row without an end is no proof that its worker lives: only the backend knows.

Failure story: a scheduler that dies between row and worker leaves a row of which there is no worker; its backend ends
it when it has asked the machine, or the API server, after the row was written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from scheduler.store.schema import sessions, workers

__all__ = [
    "SessionNow",
    "WorkerRow",
    "drain",
    "forget",
    "generations",
    "note_end",
    "note_log",
    "note_start",
    "open_rows",
    "row_of",
    "sessions_now",
    "workers_of",
]

KEPT_ENDED = 200
"""Ended workers of a class that are remembered, with their last lines."""


@dataclass(frozen=True, kw_only=True)
class WorkerRow:
    """end_ms None: nobody has said that it ended."""

    session: str
    worker_class: str
    slot: int
    generation: int
    create_ms: int
    pid: int | None = None
    pid_start: int | None = None
    end_ms: int | None = None
    kind: str = ""
    reason: str = ""
    log_blob: str = ""


@dataclass(frozen=True, kw_only=True)
class SessionNow:
    """What is known of a session by its calls."""

    session: str
    worker: str
    worker_class: str
    seen_ms: int
    drain_ms: int | None
    ended: bool


_COLUMNS = tuple(workers.c[name] for name in WorkerRow.__dataclass_fields__)


# A worker's row, unless another has noted just that one.
_START = sa.text("""
INSERT INTO workers (session, worker_class, slot, generation, create_ms)
VALUES (:session, :worker_class, :slot, :generation, :create_ms)
ON CONFLICT (session) DO NOTHING RETURNING session
""")


def note_start(connection: sa.Connection, rows: Iterable[WorkerRow]) -> set[str]:
    """Before they are started; the sessions that nobody else has noted."""
    noted = set()
    for row in sorted(rows, key=lambda one: one.session):
        values = {name: getattr(row, name) for name in ("session", "worker_class", "slot", "generation", "create_ms")}
        if connection.execute(_START, values).one_or_none() is not None:
            noted.add(row.session)
    return noted


def generations(connection: sa.Connection, worker_class: str, slots: Collection[int]) -> dict[int, int]:
    """The latest generation of each slot, for the next one's name; a slot that never was is left out."""
    query = (
        sa.select(workers.c.slot, sa.func.max(workers.c.generation))
        .where(workers.c.worker_class == worker_class, workers.c.slot.in_(sorted(slots)))
        .group_by(workers.c.slot)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def note_end(connection: sa.Connection, session: str, *, now_ms: int, kind: str, reason: str) -> bool:
    """How it ended, as who saw it first says; false when that is noted."""
    found = connection.execute(
        sa.update(workers)
        .where(workers.c.session == session, workers.c.end_ms.is_(None))
        .values(end_ms=now_ms, kind=kind, reason=reason[:2000])
    )
    return found.rowcount > 0


def note_log(connection: sa.Connection, session: str, sha256: str) -> None:
    connection.execute(sa.update(workers).where(workers.c.session == session).values(log_blob=sha256))


def open_rows(connection: sa.Connection) -> list[WorkerRow]:
    """Those of which nobody has said that they ended."""
    return _rows(connection, workers.c.end_ms.is_(None))


def workers_of(connection: sa.Connection, worker_class: str = "") -> list[WorkerRow]:
    """Every row, of a class or of all, in order of class and slot, the latest generation first."""
    return _rows(connection, workers.c.worker_class == worker_class if worker_class else sa.true())


def row_of(connection: sa.Connection, session: str) -> WorkerRow | None:
    return next(iter(_rows(connection, workers.c.session == session)), None)


def _rows(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[WorkerRow]:
    order = (workers.c.worker_class, workers.c.slot, workers.c.generation.desc())
    found = connection.execute(sa.select(*_COLUMNS).where(where).order_by(*order))
    return [WorkerRow(**row._mapping) for row in found]


def forget(connection: sa.Connection, worker_class: str) -> int:
    """Forgets the oldest of the ended; of each slot the latest generation stays: the next one is named after it."""
    later = workers.alias()
    newer = sa.exists().where(
        later.c.worker_class == workers.c.worker_class,
        later.c.slot == workers.c.slot,
        later.c.generation > workers.c.generation,
    )
    kept = (
        sa.select(workers.c.session)
        .where(workers.c.worker_class == worker_class, workers.c.end_ms.is_not(None))
        .order_by(workers.c.end_ms.desc())
        .limit(KEPT_ENDED)
    )
    where = (
        workers.c.worker_class == worker_class,
        workers.c.end_ms.is_not(None),
        workers.c.session.not_in(kept.scalar_subquery()),
        newer,
    )
    return connection.execute(sa.delete(workers).where(*where)).rowcount


def sessions_now(connection: sa.Connection, names: Collection[str] | None = None) -> dict[str, SessionNow]:
    """Sessions that have not ended, or these whatever they are."""
    columns = (
        sessions.c.session,
        sessions.c.worker,
        sessions.c.worker_class,
        sessions.c.seen_ms,
        sessions.c.drain_ms,
        sessions.c.ended,
    )
    where = sessions.c.ended == 0 if names is None else sessions.c.session.in_(sorted(names))
    return {
        row.session: SessionNow(**{**row._mapping, "ended": bool(row.ended)})
        for row in connection.execute(sa.select(*columns).where(where))
    }


# Tell a session to drain, also one that has not called yet; one that drains, or has ended, stays as it is.
_DRAIN = sa.text("""
INSERT INTO sessions (session, worker, worker_class, granted, ended, seen_ms, drain_ms)
VALUES (:session, '', :worker_class, 0, 0, :now, :now)
ON CONFLICT (session) DO UPDATE SET drain_ms = excluded.drain_ms
WHERE sessions.drain_ms IS NULL AND sessions.ended = 0
RETURNING session
""")


def drain(connection: sa.Connection, named: Sequence[tuple[str, str]], now_ms: int) -> list[str]:
    """Tells these (session, class) to drain; answers which had not been told. From this commit on nothing is granted
    to them: a grant notes a sign of its session first, in this very row."""
    told = []
    for session, worker_class in sorted(named):  # in one order, whoever else does it
        values = {"session": session, "worker_class": worker_class, "now": now_ms}
        if connection.execute(_DRAIN, values).one_or_none() is not None:
            told.append(session)
    return told
