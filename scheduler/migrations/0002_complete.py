"""Owners, money, rules, lanes, limits, gates, failures, actions, archives, several schedulers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _number(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, Big, nullable=False, server_default=str(default))


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def upgrade() -> None:
    column: sa.Column[Any]
    for column in (
        _text("owner"),
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        _text("waiting"),
        sa.Column("budget_micros", Big, nullable=True),
        _number("spent_micros"),
        _number("reserved_micros"),
        _number("overrun_micros"),
        _number("unknown_micros"),
        _number("ledger_number"),
        _text("cloned_from"),
        sa.Column("archive", sa.Text, nullable=True),
        sa.Column("archive_ms", Big, nullable=True),
        sa.Column("needs_micros", Big, nullable=True),
    ):
        op.add_column("runs", column)
    for column in (
        sa.Column("rules", sa.LargeBinary, nullable=False, server_default=""),
        sa.Column("paid", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("repeatable", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("budget_micros", Big, nullable=True),
        sa.Column("item_budget_micros", Big, nullable=True),
        _number("spent_micros"),
        _number("reserved_micros"),
        _number("overrun_micros"),
        _number("unknown_micros"),
        _number("heal_micros"),
        _number("deferred"),
        _number("healed"),
        sa.Column("costs", sa.LargeBinary, nullable=False, server_default=""),
        sa.Column("uses", sa.LargeBinary, nullable=False, server_default=""),
        _text("failing"),
        sa.Column("gate_ms", Big, nullable=True),
        sa.Column("gate_due_ms", Big, nullable=True),
        _number("first_rank"),
    ):
        op.add_column("stages", column)
    for column in (
        sa.Column("rank", Big, nullable=True),
        sa.Column("lane", sa.Text, nullable=True),
        sa.Column("mode", sa.Integer, nullable=False, server_default="1"),
        sa.Column("heals", sa.Integer, nullable=False, server_default="0"),
        sa.Column("healed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("fingerprint", sa.Text, nullable=True),
        _number("reserved_micros"),
        _number("cost_micros"),
        sa.Column("uses", sa.Text, nullable=True),
        sa.Column("context", sa.LargeBinary, nullable=True),
        sa.Column("saved", sa.LargeBinary, nullable=True),
        _number("promised_micros"),
    ):
        op.add_column("items", column)
    failed = sa.text("fingerprint IS NOT NULL")
    op.create_index(
        "items_failed",
        "items",
        ["run", "stage", "fingerprint", "seq"],
        sqlite_where=failed,
        postgresql_where=failed,
    )
    not_completed = sa.text("settle_number IS NOT NULL AND state <> 'completed'")
    op.create_index(
        "items_not_completed",
        "items",
        ["run", "stage", "state", "seq"],
        sqlite_where=not_completed,
        postgresql_where=not_completed,
    )
    unarchived = sa.text("archive IS NULL AND end_ms IS NOT NULL")
    op.create_index("runs_unarchived", "runs", ["end_ms"], sqlite_where=unarchived, postgresql_where=unarchived)
    due = sa.text("due_ms IS NOT NULL")
    op.create_index("items_due", "items", ["due_ms"], sqlite_where=due, postgresql_where=due)
    for column in (
        sa.Column("mode", sa.Integer, nullable=False, server_default="1"),
        sa.Column("fingerprint", sa.Text, nullable=True),
        _number("reserved_micros"),
        sa.Column("cost_micros", Big, nullable=True, server_default="0"),
    ):
        op.add_column("attempts", column)
    op.add_column("requests", sa.Column("answer", sa.LargeBinary, nullable=False, server_default=""))
    op.create_table(
        "ledger",
        sa.Column("run", Big, primary_key=True, autoincrement=False),
        sa.Column("number", Big, primary_key=True, autoincrement=False),
        sa.Column("time_ms", Big, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("micros", Big, nullable=False),
        sa.Column("entries", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "limits",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("concurrency", sa.Integer, nullable=True),
        sa.Column("rates", sa.LargeBinary, nullable=False),
        sa.Column("adaptive", sa.Boolean, nullable=False),
        sa.Column("cooldown_ms", Big, nullable=False),
        sa.Column("declared", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("closed_until_ms", Big, nullable=True),
        sa.Column("cautious", sa.Boolean, nullable=False),
        sa.Column("valve", sa.LargeBinary, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("change_ms", Big, nullable=False),
        sa.Column("version", Big, nullable=False),
    )
    for name in ("declared", "cautious"):
        where = sa.text(name)
        op.create_index(f"limits_{name}", "limits", ["key"], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "limit_events",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("number", Big, primary_key=True, autoincrement=False),
        sa.Column("time_ms", Big, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("old_state", sa.Text, nullable=False),
        sa.Column("new_state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_index("limit_events_time", "limit_events", ["time_ms"])
    op.create_table(
        "exclusive_keys",
        sa.Column("run", Big, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("held", sa.Boolean, nullable=False),
    )
    held = sa.text("held")
    op.create_index("exclusive_held", "exclusive_keys", ["key"], unique=True, sqlite_where=held, postgresql_where=held)
    op.create_table(
        "failures",
        sa.Column("run", Big, primary_key=True, autoincrement=False),
        sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("count", Big, nullable=False),
        sa.Column("seq", Big, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("first_ms", Big, nullable=False),
        sa.Column("last_ms", Big, nullable=False),
    )
    op.create_index("events_type", "events", ["run", "type", "number"])
    op.create_index("events_subject", "events", ["run", "subject", "number"])
    op.create_index("failures_largest", "failures", ["run", "count", "last_ms"])
    op.create_table(
        "throughput",
        sa.Column("run", Big, primary_key=True, autoincrement=False),
        sa.Column("minute", Big, primary_key=True, autoincrement=False),
        sa.Column("settled", Big, nullable=False),
    )
    op.create_table(
        "actions",
        sa.Column("action_id", sa.Text, primary_key=True),
        sa.Column("run", Big, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("verb", sa.Text, nullable=False),
        sa.Column("seqs", sa.LargeBinary, nullable=False),
        sa.Column("filter", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("cursor", Big, nullable=False),
        sa.Column("matched", Big, nullable=False),
        sa.Column("changed", Big, nullable=False),
        sa.Column("already", Big, nullable=False),
        sa.Column("refused", Big, nullable=False),
        sa.Column("example", sa.Text, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("create_ms", Big, nullable=False),
        _number("rank"),
    )
    op.create_index("actions_open", "actions", ["done"])
    op.create_table(
        "lane_cursors",
        sa.Column("run", Big, primary_key=True, autoincrement=False),
        sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("lane", sa.Text, primary_key=True),
        sa.Column("cursor", Big, nullable=False),
    )
    op.create_table(
        "prices",
        sa.Column("processor", sa.Text, primary_key=True),
        sa.Column("micros", Big, nullable=False),
        sa.Column("change_ms", Big, nullable=False),
    )
    op.create_table(
        "costs",
        sa.Column("processor", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("histogram", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "switches",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("change_ms", Big, nullable=False),
    )
    op.create_table(
        "leaders",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("until_ms", Big, nullable=False),
    )
