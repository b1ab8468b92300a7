"""The scheduler's tables. `migrations/` makes them; a test compares the two.

Times are milliseconds since the epoch. An item has a row from its first lease on; no row means what its stage says.
`was` is the state before the latest grant, so that one upsert tells what the counters lose.
"""

from __future__ import annotations

import sqlalchemy as sa

__all__ = ["attempts", "events", "items", "metadata", "requests", "runs", "sessions", "stages", "workers"]

metadata = sa.MetaData()

_Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("number", _Big, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.Text, nullable=False, unique=True),
    sa.Column("plan_id", sa.Text, nullable=False),
    sa.Column("source_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("granularity", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False, default=0),
    sa.Column("event_number", _Big, nullable=False, default=0),
    sa.Column("settle_number", _Big, nullable=False, default=0),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Column("create_ms", _Big, nullable=False),
    sa.Column("start_ms", _Big),
    sa.Column("end_ms", _Big),
    sa.Index("runs_state", "state"),
    sqlite_autoincrement=True,
)

stages = sa.Table(
    "stages",
    metadata,
    sa.Column("run", _Big, primary_key=True),
    sa.Column("stage", sa.Integer, primary_key=True),
    sa.Column("processor", sa.Text, nullable=False),
    sa.Column("processor_version", sa.Text, nullable=False),
    sa.Column("parameters", sa.LargeBinary, nullable=False),
    sa.Column("concurrency", sa.Integer, nullable=False),
    sa.Column("max_tries", sa.Integer, nullable=False),
    sa.Column("max_run_seconds", sa.Integer, nullable=False),
    sa.Column("worker_class", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("total", _Big, nullable=False),
    sa.Column("running", _Big, nullable=False, default=0),
    sa.Column("retry", _Big, nullable=False, default=0),
    sa.Column("completed", _Big, nullable=False, default=0),
    sa.Column("failed", _Big, nullable=False, default=0),
    sa.Column("skipped", _Big, nullable=False, default=0),
    sa.Column("stopped", _Big, nullable=False, default=0),
    # Every seq below has been leased at least once, but for the gaps that a restart looks for.
    sa.Column("cursor", _Big, nullable=False, default=0),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Column("start_ms", _Big),
    sa.Column("end_ms", _Big),
)

items = sa.Table(
    "items",
    metadata,
    sa.Column("run", _Big, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", _Big, primary_key=True, autoincrement=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("grp", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("was", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("suspect", sa.Integer, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("grant_number", _Big, nullable=False),
    sa.Column("start_ms", _Big),
    sa.Column("end_ms", _Big),
    sa.Column("due_ms", _Big),
    sa.Column("settle_number", _Big),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("error_kind", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("result", sa.LargeBinary),
    sa.Column("result_blob", sa.Text),
    sa.Column("result_size", _Big),
    sqlite_with_rowid=False,
)
# Queries that want these say `settle_number IS NULL` (or IS NOT NULL): that both databases can prove, bound values
# they can't.
sa.Index(
    "items_open",
    items.c.run,
    items.c.stage,
    items.c.state,
    items.c.seq,
    sqlite_where=items.c.settle_number.is_(None),
    postgresql_where=items.c.settle_number.is_(None),
)
sa.Index(
    "items_settled",
    items.c.run,
    items.c.stage,
    items.c.settle_number,
    sqlite_where=items.c.settle_number.is_not(None),
    postgresql_where=items.c.settle_number.is_not(None),
)

# Ended attempts that a later one may follow; the latest ended attempt of a settled item is in its row.
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("run", _Big, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", _Big, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("ended", sa.Text, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("start_ms", _Big),
    sa.Column("end_ms", _Big, nullable=False),
    # Of the report that ended it; none: it was lost or stopped.
    sa.Column("digest", sa.LargeBinary),
    # Of the first late report that was refused, so that its repetition is no second event.
    sa.Column("refused_digest", sa.LargeBinary),
    sa.Column("error_kind", sa.Text),
    sa.Column("error", sa.Text),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("run", _Big, primary_key=True, autoincrement=False),
    sa.Column("number", _Big, primary_key=True, autoincrement=False),
    sa.Column("time_ms", _Big, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("old_state", sa.Text, nullable=False),
    sa.Column("new_state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("changed", sa.Boolean, nullable=False),
    sa.Column("create_ms", _Big, nullable=False),
    sa.Index("requests_create", "create_ms"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("session", sa.Text, primary_key=True),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("worker_class", sa.Text, nullable=False),
    sa.Column("granted", _Big, nullable=False),
    sa.Column("was_granted", _Big),
    sa.Column("ended", sa.Integer, nullable=False, default=0),
    sa.Column("seen_ms", _Big, nullable=False),
)

# Processes that the process backend started, recorded before they can take a lease.
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("session", sa.Text, primary_key=True),
    sa.Column("worker_class", sa.Text, nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("pid", sa.Integer),
    sa.Column("pid_start", _Big),
    sa.Column("create_ms", _Big, nullable=False),
)
