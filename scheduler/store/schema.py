"""The scheduler's tables. `migrations/` makes them; a test compares the two.

Times are milliseconds since the epoch. An item has a row from its first lease on; no row means what its stage says.
`was` is the state before the latest grant, so that one upsert tells what the counters lose.
"""

from __future__ import annotations

import sqlalchemy as sa

from scheduler.store.columns import Big as _Big
from scheduler.store.columns import blob as _blob
from scheduler.store.columns import metadata
from scheduler.store.columns import number as _number
from scheduler.store.columns import text as _text
from scheduler.store.shared import (
    class_troubles,
    costs,
    exclusive_keys,
    leaders,
    limit_events,
    limits,
    prices,
    requests,
    sessions,
    switches,
    workers,
)

__all__ = [
    "actions",
    "attempts",
    "class_troubles",
    "costs",
    "events",
    "exclusive_keys",
    "failures",
    "items",
    "lane_cursors",
    "leaders",
    "ledger",
    "limit_events",
    "limits",
    "metadata",
    "plan_uses",
    "prices",
    "requests",
    "runs",
    "sessions",
    "stages",
    "switches",
    "throughput",
    "workers",
]

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
    # Whom its slots are counted for; higher priority first among the runs of one owner.
    _text("owner"),
    sa.Column("priority", sa.Integer, nullable=False, default=0, server_default="0"),
    # In state waiting: for what.
    _text("waiting"),
    # Money in micro-dollars. No budget: no cap. `unknown` and `overrun` are parts of spent.
    sa.Column("budget_micros", _Big),
    _number("spent_micros"),
    _number("reserved_micros"),
    _number("overrun_micros"),
    _number("unknown_micros"),
    _number("ledger_number"),
    _text("cloned_from"),
    # Blob of its archive (a JSON of blobs); rows are purged after that.
    sa.Column("archive", sa.Text),
    sa.Column("archive_ms", _Big),
    # What the next item needs, while it waits at a budget; none: nobody knows its price.
    sa.Column("needs_micros", _Big),
    # Its plan is gone: it is only read.
    sa.Column("plan_removed", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Index("runs_state", "state"),
    sa.Index("runs_plan", "plan_id", "number"),
    sa.Index(
        "runs_unarchived",
        "end_ms",
        sqlite_where=sa.text("archive IS NULL AND end_ms IS NOT NULL"),
        postgresql_where=sa.text("archive IS NULL AND end_ms IS NOT NULL"),
    ),
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
    # Low-water mark: every seq below has a row, but for those of lanes that have a cursor of their own.
    sa.Column("cursor", _Big, nullable=False, default=0),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Column("start_ms", _Big),
    sa.Column("end_ms", _Big),
    # penstock.v1.StageRules; the caps are columns, since they change while a run goes on.
    _blob("rules"),
    sa.Column("paid", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("repeatable", sa.Boolean, nullable=False, default=True, server_default=sa.true()),
    sa.Column("budget_micros", _Big),
    sa.Column("item_budget_micros", _Big),
    _number("spent_micros"),
    _number("reserved_micros"),
    _number("overrun_micros"),
    _number("unknown_micros"),
    _number("heal_micros"),
    _number("deferred"),
    _number("healed"),
    # Histogram of what its items cost (domain/prices.py), and mean use by dimension.
    _blob("costs"),
    _blob("uses"),
    # Why it will fail once nothing of it runs: nothing new of it starts.
    _text("failing"),
    sa.Column("gate_ms", _Big),
    sa.Column("gate_due_ms", _Big),
    # The lowest rank given to an item that was moved to the front.
    _number("first_rank"),
    # Failures that no longer count against its tolerance: somebody has taken it up again since.
    _number("forgiven"),
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
    # Where an operator moved it; none: its seq.
    sa.Column("rank", _Big),
    # Its limit keys, sorted, one space between; none: it has none.
    sa.Column("lane", sa.Text),
    # Of its lease, or of its next one: domain.states.Mode.
    sa.Column("mode", sa.Integer, nullable=False, default=1, server_default="1"),
    sa.Column("heals", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("healed", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    # Of its latest failure.
    sa.Column("fingerprint", sa.Text),
    # Of the attempt that runs; and what all its attempts cost, unknown ones at their reservation.
    _number("reserved_micros"),
    _number("cost_micros"),
    # What its lease reserved of rates: JSON, dimension -> amount.
    sa.Column("uses", sa.Text),
    # For its next lease: how it failed (heal), what was claimed (confirm); what a deferred attempt saved.
    sa.Column("context", sa.LargeBinary),
    sa.Column("saved", sa.LargeBinary),
    # Set aside for its healing when that was decided: a part of its stage's heal_micros.
    _number("promised_micros"),
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
# Few are: those that a person wants to see.
_ENDED_BADLY = sa.and_(items.c.settle_number.is_not(None), sa.text("state <> 'completed'"))
sa.Index(
    "items_not_completed",
    items.c.run,
    items.c.stage,
    items.c.state,
    items.c.seq,
    sqlite_where=_ENDED_BADLY,
    postgresql_where=_ENDED_BADLY,
)
sa.Index(
    "items_failed",
    items.c.run,
    items.c.stage,
    items.c.fingerprint,
    items.c.seq,
    sqlite_where=items.c.fingerprint.is_not(None),
    postgresql_where=items.c.fingerprint.is_not(None),
)
sa.Index(
    "items_due",
    items.c.due_ms,
    sqlite_where=items.c.due_ms.is_not(None),
    postgresql_where=items.c.due_ms.is_not(None),
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
    sa.Column("mode", sa.Integer, nullable=False, default=1, server_default="1"),
    sa.Column("fingerprint", sa.Text),
    _number("reserved_micros"),
    # None: nobody told yet; it stands in `spent` at its reservation.
    sa.Column("cost_micros", _Big, default=0, server_default="0"),
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
    sa.Index("events_type", "run", "type", "number"),
    sa.Index("events_subject", "run", "subject", "number"),
    sqlite_with_rowid=False,
)

# Money, batch by batch: `entries` is a JSON list of [kind, seq, attempt, micros, reserved]; `micros` is their sum.
ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("run", _Big, primary_key=True, autoincrement=False),
    sa.Column("number", _Big, primary_key=True, autoincrement=False),
    sa.Column("time_ms", _Big, nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("micros", _Big, nullable=False),
    sa.Column("entries", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# Failures of a stage by fingerprint, at most 1,000 a stage; the rest counts as fingerprint `other`.
failures = sa.Table(
    "failures",
    metadata,
    sa.Column("run", _Big, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("fingerprint", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("count", _Big, nullable=False),
    sa.Column("seq", _Big, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("first_ms", _Big, nullable=False),
    sa.Column("last_ms", _Big, nullable=False),
    sa.Index("failures_largest", "run", "count", "last_ms"),
)

# Items settled in each minute since the epoch; 70 are kept of a run.
throughput = sa.Table(
    "throughput",
    metadata,
    sa.Column("run", _Big, primary_key=True, autoincrement=False),
    sa.Column("minute", _Big, primary_key=True, autoincrement=False),
    sa.Column("settled", _Big, nullable=False),
)

# What operators do to items, as jobs that survive a restart: `cursor` is the last seq that was looked at.
actions = sa.Table(
    "actions",
    metadata,
    sa.Column("action_id", sa.Text, primary_key=True),
    sa.Column("run", _Big, nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("verb", sa.Text, nullable=False),
    sa.Column("seqs", sa.LargeBinary, nullable=False),
    sa.Column("filter", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("cursor", _Big, nullable=False),
    sa.Column("matched", _Big, nullable=False),
    sa.Column("changed", _Big, nullable=False),
    sa.Column("already", _Big, nullable=False),
    sa.Column("refused", _Big, nullable=False),
    sa.Column("example", sa.Text, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Column("create_ms", _Big, nullable=False),
    # Of verb front: an item's rank becomes this + its seq.
    _number("rank"),
    sa.Index("actions_open", "done"),
)

# Low-water marks of lanes that are read apart from the rest of their stage.
lane_cursors = sa.Table(
    "lane_cursors",
    metadata,
    sa.Column("run", _Big, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("lane", sa.Text, primary_key=True),
    sa.Column("cursor", _Big, nullable=False),
)

# Plans that runs were made of: the lock under which one is started or let go of. removed_uids: the makings
# that are gone, the latest first.
plan_uses = sa.Table(
    "plan_uses",
    metadata,
    sa.Column("plan_id", sa.Text, primary_key=True),
    _text("removed_uids"),
)
