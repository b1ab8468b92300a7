"""What is read of limits: pages for people, what is nearby, and whether a look at valves has anything to do."""

from __future__ import annotations

import sqlalchemy as sa

from scheduler.domain.limits import RESERVED
from scheduler.domain.valve import ValveState
from scheduler.store.limit_rows import LimitRow, read_rows
from scheduler.store.schema import limits

__all__ = ["closures_due", "count_valves", "nearby", "page_of"]

_KEY = limits.c.key
_BEGINS = sa.func.substr(_KEY, 1, sa.func.length(sa.bindparam("prefix"))) == sa.bindparam("prefix")
# Keys after one, in order, that begin so. (LIKE would not tell capitals apart on SQLite.)
_PAGE = (
    sa.select(_KEY)
    .where(sa.bindparam("after") < _KEY, sa.or_(sa.bindparam("prefix") == "", _BEGINS))
    .order_by(_KEY)
    .limit(sa.bindparam("most"))
)
# Whether a closure is over, or a stage or lane has a valve whose run may have ended.
_DUE = (
    sa.select(sa.literal(1))
    .select_from(limits)
    .where(
        sa.text("cautious"),
        sa.or_(
            sa.and_(limits.c.state == ValveState.CLOSED, limits.c.closed_until_ms <= sa.bindparam("now")),
            *(_KEY.startswith(word) for word in RESERVED),
        ),
    )
    .limit(1)
)
# Whether a pattern's closure is over.
_PATTERN_DUE = (
    sa.select(sa.literal(1))
    .select_from(limits)
    .where(
        sa.text("declared"),
        _KEY.endswith("*"),
        limits.c.state == ValveState.CLOSED,
        limits.c.closed_until_ms <= sa.bindparam("now"),
    )
    .limit(1)
)
# How many keys are in which state, of those that are not simply open.
_COUNTS = sa.select(limits.c.state, sa.func.count()).where(sa.text("cautious")).group_by(limits.c.state)


def page_of(connection: sa.Connection, *, after: str, prefix: str, most: int) -> list[LimitRow]:
    """Rows in order of key."""
    keys = list(connection.execute(_PAGE, {"after": after, "prefix": prefix, "most": most}).scalars())
    rows = read_rows(connection, keys)
    return [rows[key] for key in keys]


def nearby(connection: sa.Connection, key: str, most: int = 5) -> list[str]:
    """Keys of the same kind; else any."""
    kind = key.partition(":")[0] + ":"
    for prefix in (kind, ""):
        found = list(connection.execute(_PAGE, {"after": "", "prefix": prefix, "most": most}).scalars())
        if found:
            return found
    return []


def closures_due(connection: sa.Connection, now_ms: int) -> bool:
    """Whether `Valves.due` would have something to look at."""
    return any(connection.execute(query, {"now": now_ms}).scalar() for query in (_DUE, _PATTERN_DUE))


def count_valves(connection: sa.Connection) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(_COUNTS)}
