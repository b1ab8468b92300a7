"""SQL for the simulator: one SQLite in memory, its schema copied for each seed; every change of a row is told.

Triggers write down what each transaction did to items, attempts, runs and limits; `SqlWorld.committed` hands that to
whoever checks, after each commit. Faults: the database can't be used for a while; a transaction fails before its
commit; a commit succeeds and then raises.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.runtime.errors import Unavailable
from penstock.runtime.schema import migrate
from penstock.runtime.sql import Database, translated

__all__ = ["Change", "SimDatabase", "SqlWorld"]

Change = tuple[Any, ...]
"""A line of the log: (kind, run, stage, seq, old state, new state, old attempt, new attempt, detail …)."""

_ITEM = (
    "{n}.run, {n}.stage, {n}.seq, {old}, {n}.state, {old_attempt}, {n}.attempt, {n}.tries, {n}.session, {n}.rank, "
    "{n}.lane, {n}.reserved_micros, {n}.cost_micros, {n}.settle_number, {n}.due_ms, {n}.mode, {n}.error_kind"
)
_COLUMNS = (
    "kind, run, stage, seq, old, new, old_attempt, attempt, tries, session, rank, lane, reserved, cost, settled, due, "
    "mode, error_kind"
)


def _trigger(name: str, event: str, table: str, values: str, columns: str = _COLUMNS) -> str:
    return (
        f"CREATE TRIGGER sim_{name} AFTER {event} ON {table} BEGIN "
        f"INSERT INTO sim_log ({columns}) VALUES ({values}); END"
    )


_TRIGGERS = (
    f"CREATE TABLE sim_log (n INTEGER PRIMARY KEY, {_COLUMNS})",
    _trigger("item_new", "INSERT", "items", "'item', " + _ITEM.format(n="new", old="NULL", old_attempt="0")),
    _trigger(
        "item_changed",
        "UPDATE",
        "items",
        "'item', " + _ITEM.format(n="new", old="old.state", old_attempt="old.attempt"),
    ),
    _trigger("item_gone", "DELETE", "items", "'gone', old.run, old.stage, old.seq", "kind, run, stage, seq"),
    _trigger(
        "attempt_new",
        "INSERT",
        "attempts",
        "'attempt', new.run, new.stage, new.seq, new.ended, new.attempt, new.session",
        "kind, run, stage, seq, new, attempt, session",
    ),
    _trigger("run_new", "INSERT", "runs", "'run', new.number, new.state, new.epoch", "kind, run, new, attempt"),
    _trigger(
        "run_changed",
        "UPDATE",
        "runs",
        "'run', new.number, old.state, new.state, old.epoch, new.epoch",
        "kind, run, old, new, old_attempt, attempt",
    ),
)


class SqlWorld:
    """The one database of a simulation. `reset` begins a new seed."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            made = Database(f"sqlite:///{Path(folder) / 'template.db'}", "scheduler")
            migrate(made)
            made.close()
            source = sqlite3.connect(Path(folder) / "template.db")
            source.execute("PRAGMA journal_mode=DELETE")
            for statement in _TRIGGERS:
                source.execute(statement)
            source.commit()
            self._template = source.serialize()
            source.close()
        self.raw = self._copy()
        # One engine for all seeds: what it compiled stays.
        self.engine = sa.create_engine("sqlite://", creator=lambda: self.raw, poolclass=StaticPool)
        self.connection = self.engine.connect()
        """In one transaction that never ends, as far as SQLAlchemy knows: `raw` begins and ends the real ones."""
        self.reset()

    def _copy(self) -> sqlite3.Connection:
        raw = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        raw.deserialize(self._template)
        raw.execute("PRAGMA foreign_keys=ON")
        raw.create_function("simulated_now", 0, lambda: self.now_ms())
        return raw

    def reset(self) -> None:
        self.connection.close()
        self.engine.dispose()
        self.raw = self._copy()
        self.connection = self.engine.connect()
        self.now: Callable[[], float] = lambda: 0.0
        self.now_ms: Callable[[], float] = lambda: 0.0
        self.fired: Callable[[str], None] = lambda _: None
        self.committed: Callable[[list[Change]], None] = lambda _: None
        self.down_until = 0.0
        self.next_writes: deque[str] = deque()
        """What becomes of the next transactions that write: `fails`, or `raises` after its commit."""
        self.commits = 0

    def tell(self) -> None:
        changes = self.raw.execute(f"SELECT {_COLUMNS} FROM sim_log ORDER BY n").fetchall()
        if changes:
            self.raw.execute("DELETE FROM sim_log")
        self.commits += 1
        self.committed(changes)


class SimDatabase(Database):
    """What a scheduler of the simulation takes for its database. shared: for one that takes several schedulers."""

    def __init__(self, world: SqlWorld, *, shared: bool) -> None:
        self.service = "scheduler"
        self.is_sqlite = not shared
        self.engine = world.engine
        self._world = world

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        world = self._world
        self._up()
        fate = world.next_writes.popleft() if world.next_writes else ""
        raw = world.raw
        with translated(self.service):
            raw.execute("BEGIN IMMEDIATE")
            try:
                yield world.connection
                if fate == "fails":
                    world.fired("sql_fails")
                    raise Unavailable("the database is gone before the commit (simulated)", code="sql_unavailable")
            except BaseException:
                raw.execute("ROLLBACK")
                raise
            raw.execute("COMMIT")
        world.tell()
        if fate == "raises":
            world.fired("commit_raises")
            raise Unavailable("the connection broke while committing (simulated)", code="sql_unavailable")

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        self._up()
        raw = self._world.raw
        with translated(self.service):
            raw.execute("BEGIN")
            try:
                yield self._world.connection
            finally:
                raw.execute("ROLLBACK")

    def ping(self) -> None:
        self._up()

    def close(self) -> None:
        pass

    def _up(self) -> None:
        if self._world.now() < self._world.down_until:
            self._world.fired("sql_down")
            raise Unavailable("the database can't be reached (simulated)", code="sql_unavailable")
