"""What is read of limits: pages for people, what is nearby, and whether a look at valves has anything to do.

May not write or lock. Each read is bounded, by its page or by `LOOKED_AT` rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from scheduler.domain.limits import RESERVED
from scheduler.domain.valve import ValveState
from scheduler.store.limit_rows import LimitRow, read_rows, rows_of
from scheduler.store.schema import limits
from scheduler.store.statements import Statement, listed

__all__ = [
    "ANYTHING_CLOSED",
    "EventRow",
    "Place",
    "closures_due",
    "count_valves",
    "events_of",
    "nearby",
    "page_in_states",
    "page_of",
]

LOOKED_AT = 5_000
_KEY = limits.c.key
_BEGINS = sa.func.substr(_KEY, 1, sa.func.length(sa.bindparam("prefix"))) == sa.bindparam("prefix")
# Keys after one, in order, that begin so. (LIKE would not tell capitals apart on SQLite.)
_PAGE = (
    sa.select(_KEY)
    .where(sa.bindparam("after") < _KEY, sa.or_(sa.bindparam("prefix") == "", _BEGINS))
    .order_by(_KEY)
    .limit(sa.bindparam("most"))
)
# The same, and keys that are in use, as the database orders them.
_BEGINS_SO = "> :after AND (:prefix = '' OR substr({0}, 1, length(:prefix)) = :prefix)"
_WITH_USED = (
    "SELECT key FROM (SELECT key FROM (SELECT key FROM limits WHERE key " + _BEGINS_SO.format("key") + " ORDER BY key "
    "LIMIT :most) AS kept UNION SELECT used FROM ({0}) AS now_used WHERE used "
    + _BEGINS_SO.format("used")
    + ") AS listed "
    "ORDER BY key LIMIT :most"
)
_PAGE_WITH_USED = Statement(
    _WITH_USED.format("SELECT value AS used FROM json_each(:in_use)"),
    postgresql=_WITH_USED.format("SELECT unnest(CAST(:in_use AS text[])) AS used"),
)
_IN_STATES = _PAGE.where(limits.c.state.in_(sa.bindparam("states", expanding=True)))
# Whether a declared pattern is closed: the keys under it are, whatever their own rows say.
_PATTERN_CLOSED = (
    sa.select(sa.literal(1))
    .select_from(limits)
    .where(sa.text("declared"), _KEY.endswith("*"), limits.c.state == ValveState.CLOSED)
    .limit(1)
)
ANYTHING_CLOSED = Statement(
    "SELECT EXISTS (SELECT 1 FROM limits WHERE cautious AND state = 'closed') "
    "OR EXISTS (SELECT 1 FROM limits WHERE declared AND key LIKE '%*' AND state = 'closed')"
)
"""Whether any key or pattern lets nothing through."""
_EVENT_COLUMNS = "key, number, time_ms, type, actor, old_state, new_state, reason, data"
# What became of one key, the latest first.
_EVENTS_OF = Statement(
    f"SELECT {_EVENT_COLUMNS} FROM limit_events WHERE key = :key AND number < :number ORDER BY number DESC LIMIT :most"
)
# The same of all keys; the row before which a page begins is named whole, since events share times.
_EVENTS = Statement(
    f"SELECT {_EVENT_COLUMNS} FROM limit_events WHERE time_ms <= :time_ms AND (time_ms, key, number) < "
    "(:time_ms, :key, :number) ORDER BY time_ms DESC, key DESC, number DESC LIMIT :most"
)
_RESERVED = " OR ".join(f"key LIKE '{word}%'" for word in RESERVED)
# Whether a closure is over, of a key or of a pattern, or a stage or lane has a valve whose run may have ended.
_DUE = Statement(
    "SELECT EXISTS (SELECT 1 FROM limits WHERE cautious "
    f"AND ((state = 'closed' AND closed_until_ms <= :now) OR {_RESERVED})) "
    "OR EXISTS (SELECT 1 FROM limits WHERE declared AND key LIKE '%*' AND state = 'closed' "
    "AND closed_until_ms <= :now)"
)
# How many keys are in which state, of those that are not simply open.
_COUNTS = Statement("SELECT state, count(*) FROM limits WHERE cautious GROUP BY state")


def page_of(connection: sa.Connection, *, after: str, prefix: str, most: int, in_use: Iterable[str]) -> list[LimitRow]:
    """Rows in order of key; also of keys that are in use, whether or not they have one."""
    used = listed(connection, sorted(in_use), "text")
    values = {"after": after, "prefix": prefix, "most": most, "in_use": used}
    keys = [key for (key,) in _PAGE_WITH_USED.rows(connection, values)]
    rows = rows_of(connection, keys)
    return [rows[key] for key in keys]


def page_in_states(
    connection: sa.Connection, states: Sequence[str], *, after: str, prefix: str, most: int
) -> tuple[list[LimitRow], str]:
    """Rows that people see in one of these states, in order of key, and the key after which the next page begins ("":
    there is none). Looks at no more than LOOKED_AT rows: a page may be short."""
    found: list[LimitRow] = []
    by_row = ValveState.OPEN not in states and connection.execute(_PATTERN_CLOSED).scalar() is None
    query = _IN_STATES if by_row else _PAGE
    values = {"prefix": prefix, "most": LOOKED_AT, **({"states": list(states)} if by_row else {})}
    keys = list(connection.execute(query, {**values, "after": after}).scalars())
    rows = read_rows(connection, keys)
    for key in keys:
        if rows[key].seen_state in states:
            found.append(rows[key])
            if len(found) > most:
                return found[:most], found[most - 1].key
    return found, keys[-1] if len(keys) == LOOKED_AT else ""


@dataclass(frozen=True)
class EventRow:
    """A row of `limit_events`."""

    key: str
    number: int
    time_ms: int
    type: str
    actor: str
    old_state: str
    new_state: str
    reason: str
    data: bytes


Place = tuple[int, str, int]
"""(time_ms, key, number) of an event."""


def events_of(connection: sa.Connection, key: str, *, before: Place, most: int) -> list[EventRow]:
    """Events of a key, or of all ("") before a place, the latest first."""
    time_ms, before_key, number = before
    if key:
        rows = _EVENTS_OF.rows(connection, {"key": key, "number": number, "most": most})
    else:
        rows = _EVENTS.rows(connection, {"time_ms": time_ms, "key": before_key, "number": number, "most": most})
    return [EventRow(*row) for row in rows]


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
    return bool(_DUE.rows(connection, {"now": now_ms})[0][0])


def count_valves(connection: sa.Connection) -> dict[str, int]:
    return {row[0]: row[1] for row in _COUNTS.rows(connection, {})}
