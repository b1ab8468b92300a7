"""The fields of items that filters name: as columns of rows, and as values in memory. Both say the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from penstock.filters import Field, Kind
from scheduler.domain.shown import WAITING_ITEMS, left_by, shown
from scheduler.domain.states import ItemState, StageState
from scheduler.store.schema import items

__all__ = ["FIELDS", "columns", "never_leased", "values"]

FIELDS: Mapping[str, Field] = {
    "seq": Field(Kind.NUMBER),
    "key": Field(Kind.TEXT),
    "group": Field(Kind.TEXT),
    "lane": Field(Kind.TEXT),
    "state": Field(Kind.TEXT, tuple(ItemState)),
    "kind": Field(Kind.TEXT),
    "fingerprint": Field(Kind.TEXT),
    "error": Field(Kind.TEXT),
    "attempt": Field(Kind.NUMBER),
    "tries": Field(Kind.NUMBER),
    "heals": Field(Kind.NUMBER),
    "healed": Field(Kind.BOOLEAN),
    "cost_micros": Field(Kind.NUMBER),
    "worker": Field(Kind.TEXT),
    "start_time": Field(Kind.TIME),
    "end_time": Field(Kind.TIME),
    "due_time": Field(Kind.TIME),
}
_PLAIN = {
    "seq": "seq",
    "key": "key",
    "group": "grp",
    "kind": "error_kind",
    "fingerprint": "fingerprint",
    "error": "error",
    "attempt": "attempt",
    "tries": "tries",
    "heals": "heals",
    "healed": "healed",
    "cost_micros": "cost_micros",
    "worker": "session",
    "start_time": "start_ms",
    "end_time": "end_ms",
    "due_time": "due_ms",
}


def columns(within: StageState) -> dict[str, sa.ColumnElement[Any]]:
    """Every field as a column, for rows of a stage that is in this state."""
    found: dict[str, sa.ColumnElement[Any]] = {name: items.c[column] for name, column in _PLAIN.items()}
    found["lane"] = sa.func.coalesce(items.c.lane, "")
    left = left_by(within)
    # A plain column where it can be: an index knows no expression.
    found["state"] = (
        items.c.state
        if left is ItemState.QUEUED
        else sa.case((items.c.state.in_(sorted(WAITING_ITEMS)), str(left)), else_=items.c.state)
    )
    return found


def values(row: Any, within: StageState, names: Collection[str] = FIELDS.keys()) -> dict[str, object]:
    """These fields of a row, which SQL or the archive gave."""
    found: dict[str, object] = {name: getattr(row, _PLAIN[name]) for name in names if name in _PLAIN}
    if "lane" in names:
        found["lane"] = row.lane or ""
    if "state" in names:
        found["state"] = shown(within, ItemState(row.state)).value
    return found


def never_leased(within: StageState) -> dict[str, object]:
    """The fields of an item without a row, but for those that only its plan knows: seq, key, group and lane."""
    found: dict[str, object] = dict.fromkeys(FIELDS)
    for name in ("seq", "key", "group", "lane"):
        del found[name]
    found |= {"state": left_by(within).value, "attempt": 0, "tries": 0, "heals": 0, "healed": False, "cost_micros": 0}
    found["worker"] = ""
    return found
