"""Tables that belong to no one run: requests, sessions, workers, limits, exclusive keys, prices, switches, leaders.

A part of `store.schema`, from where all tables are imported; rows of these outlive any run.
"""

from __future__ import annotations

import sqlalchemy as sa

from scheduler.store.columns import Big, blob, metadata, text

__all__ = [
    "class_troubles",
    "costs",
    "exclusive_keys",
    "leaders",
    "limit_events",
    "limits",
    "prices",
    "requests",
    "sessions",
    "switches",
    "workers",
]

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("changed", sa.Boolean, nullable=False),
    sa.Column("create_ms", Big, nullable=False),
    blob("answer"),
    sa.Index("requests_create", "create_ms"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("session", sa.Text, primary_key=True),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("worker_class", sa.Text, nullable=False),
    sa.Column("granted", Big, nullable=False),
    sa.Column("was_granted", Big),
    sa.Column("ended", sa.Integer, nullable=False, default=0),
    sa.Column("seen_ms", Big, nullable=False),
    # When it last renewed leases, or until when it does though Redis may not know; 0: never.
    sa.Column("renew_ms", Big, nullable=False, default=0, server_default="0"),
    # Since when it is told to drain: nothing is granted to it after this was committed.
    sa.Column("drain_ms", Big),
)

# Workers that a backend starts, recorded before they can take a lease; kept for a while when they have ended. pid: of a
# process; kind, reason: how it ended (no kind: as it should); log_blob: hash of its last lines.
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("session", sa.Text, primary_key=True),
    sa.Column("worker_class", sa.Text, nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("pid", sa.Integer),
    sa.Column("pid_start", Big),
    sa.Column("create_ms", Big, nullable=False),
    sa.Column("end_ms", Big),
    text("kind"),
    text("reason"),
    text("log_blob"),
    sa.Index("workers_slot", "worker_class", "slot", "generation"),
)

# Why a class has not the workers that it wants, as its backend knows it.
class_troubles = sa.Table(
    "class_troubles",
    metadata,
    sa.Column("worker_class", sa.Text, primary_key=True),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("advice", sa.Text, nullable=False),
    sa.Column("since_ms", Big, nullable=False),
)

# Limits that an operator declared, and keys that a valve has closed. `valve` is the JSON of domain.valve.Valve.
limits = sa.Table(
    "limits",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("concurrency", sa.Integer),
    sa.Column("rates", sa.LargeBinary, nullable=False),
    sa.Column("adaptive", sa.Boolean, nullable=False),
    sa.Column("cooldown_ms", Big, nullable=False),
    sa.Column("declared", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("closed_until_ms", Big),
    # Whether what becomes of items may change its valve.
    sa.Column("cautious", sa.Boolean, nullable=False),
    sa.Column("valve", sa.LargeBinary, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("change_ms", Big, nullable=False),
    # + 1 with every change: the number of its latest event.
    sa.Column("version", Big, nullable=False),
    sa.Index("limits_declared", "key", sqlite_where=sa.text("declared"), postgresql_where=sa.text("declared")),
    sa.Index("limits_cautious", "key", sqlite_where=sa.text("cautious"), postgresql_where=sa.text("cautious")),
)

limit_events = sa.Table(
    "limit_events",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("number", Big, primary_key=True, autoincrement=False),
    sa.Column("time_ms", Big, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("old_state", sa.Text, nullable=False),
    sa.Column("new_state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Index("limit_events_time", "time_ms"),
)

# Keys of which one live run has each: at most one row of a key is held. Kept with `held` false after the run's end, so
# that a reopened run takes them again.
exclusive_keys = sa.Table(
    "exclusive_keys",
    metadata,
    sa.Column("run", Big, primary_key=True, autoincrement=False),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Index("exclusive_held", "key", unique=True, sqlite_where=sa.text("held"), postgresql_where=sa.text("held")),
)

# What an operator says an item of a processor costs.
prices = sa.Table(
    "prices",
    metadata,
    sa.Column("processor", sa.Text, primary_key=True),
    sa.Column("micros", Big, nullable=False),
    sa.Column("change_ms", Big, nullable=False),
)

# What items of a processor version did cost, from stages that have ended.
costs = sa.Table(
    "costs",
    metadata,
    sa.Column("processor", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("histogram", sa.LargeBinary, nullable=False),
)

switches = sa.Table(
    "switches",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("change_ms", Big, nullable=False),
)

# What one scheduler at a time does: `sweeps`; and `redis`, whose value is the generation of what Redis holds.
leaders = sa.Table(
    "leaders",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("until_ms", Big, nullable=False),
)
