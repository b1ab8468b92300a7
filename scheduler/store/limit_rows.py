"""Rows of limits: what operators declared, what valves remember, and what Redis is to be told of both.

A key has a row when an operator declared it, or while its valve remembers something. What a row that nobody declared
does not say (concurrency, rates, cooldown), the longest declared pattern that takes its key says. Every change of a
row is an event, numbered by the row's version; counts of a wave alone are none.

Rows are locked in order of key, after the run's row where there is one. Nothing here talks to Redis: `Effects.limits`
tells it after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import orjson
import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.errors import Unavailable
from scheduler.domain.limits import OPEN, LimitState, RateState, flow_of, pattern_of
from scheduler.domain.valve import Bounds, Valve, ValveState
from scheduler.store.effects import Effects
from scheduler.store.schema import limit_events, limits
from scheduler.store.statements import Statement, listed

__all__ = [
    "COOLDOWN_MS",
    "LimitRow",
    "Writes",
    "all_states",
    "forget_events",
    "locked",
    "patterns_of",
    "read_rows",
    "remove",
    "states_of",
    "states_under",
    "write",
]

NEW = Valve()
COOLDOWN_MS = 30_000
"""The first closure of a key whose limit says nothing else."""
LOOKS = 5
"""Another scheduler may remove a row between our making it and our locking it; this many times we try."""
LONGEST_CLOSURES = 32
LONGEST_MS = 3_600_000
"""Closures that nobody named a time for grow to 32 times the first, and at most to an hour."""


@dataclass(frozen=True, kw_only=True)
class LimitRow:
    """A row of `limits`. pattern: of a key that nobody declared, the pattern that speaks for it; stored: whether the
    row is there."""

    key: str
    concurrency: int | None = None
    rates: tuple[RateState, ...] = ()
    adaptive: bool = False
    cooldown_ms: int = COOLDOWN_MS
    declared: bool = False
    valve: Valve = NEW
    reason: str = ""
    change_ms: int = 0
    version: int = 0
    pattern: LimitRow | None = None
    stored: bool = True

    @property
    def settings(self) -> LimitRow:
        """The row whose settings count."""
        return self if self.declared or self.pattern is None else self.pattern

    @cached_property
    def bounds(self) -> Bounds:
        said = self.settings
        return Bounds(
            first_ms=said.cooldown_ms,
            max_ms=max(said.cooldown_ms, min(said.cooldown_ms * LONGEST_CLOSURES, LONGEST_MS)),
            concurrency=said.concurrency,
            adaptive=said.adaptive,
        )

    @property
    def cautious(self) -> bool:
        """A pattern's own valve sees no items."""
        return not self.is_pattern and self.valve.cautious(self.bounds)

    @property
    def is_pattern(self) -> bool:
        return self.key.endswith("*")

    @property
    def needed(self) -> bool:
        """Whether the row says something that its pattern does not."""
        return self.declared or self.cautious or (self.bounds.adaptive and self.valve.cap is not None)

    @property
    def told(self) -> bool:
        """Whether Redis has it: what it says is not what the key would be without it. A count of failures is not."""
        return self.declared or self.bounds.adaptive or self.state() != replace(self, valve=NEW).state()

    def state(self) -> LimitState:
        """What Redis holds of it. Whatever its own valve says, a key is closed while its pattern is."""
        bounds, closed = self.bounds, [self._closed_until()]
        if not self.declared and self.pattern is not None:
            closed.append(self.pattern._closed_until())
        bound = [n for n in (bounds.concurrency, self.valve.concurrency(bounds)) if n is not None]
        return LimitState(
            key=self.key,
            concurrency=min(bound, default=None),
            rates=tuple(flow_of(rate) for rate in self.settings.rates),
            closed_until_ms=None if None in closed else max(until for until in closed if until is not None),
        )

    @property
    def seen_state(self) -> str:
        """The state as people see it: closed, too, while its pattern is."""
        return ValveState.CLOSED if self.state().closed_until_ms != OPEN else self.valve.state

    def _closed_until(self) -> int | None:
        return self.valve.until_ms if self.valve.state is ValveState.CLOSED else OPEN


_COLUMNS = (
    "key",
    "concurrency",
    "rates",
    "adaptive",
    "cooldown_ms",
    "declared",
    "valve",
    "reason",
    "change_ms",
    "version",
)
_SELECT = sa.select(*(limits.c[name] for name in _COLUMNS))
_OF = f"SELECT {', '.join(_COLUMNS)} FROM limits"
_ROWS_SQLITE = f"{_OF} WHERE key IN (SELECT value FROM json_each(:keys)) ORDER BY key"
_ROWS_POSTGRESQL = f"{_OF} WHERE key = ANY(CAST(:keys AS text[])) ORDER BY key"
# Rows of these keys, in order.
_ROWS = Statement(_ROWS_SQLITE, postgresql=_ROWS_POSTGRESQL)
# The same, locked until the end of the transaction.
_LOCKED = Statement(_ROWS_SQLITE, postgresql=f"{_ROWS_POSTGRESQL} FOR UPDATE")
# All declared patterns: few, by the index of what was declared.
_PATTERNS = Statement(f"{_OF} WHERE declared AND key LIKE '%*'")
# Every row, for a Redis that knows none.
_ALL = Statement(f"{_OF} ORDER BY key")
# Rows that nobody declared under a pattern.
_UNDER = _SELECT.where(sa.not_(limits.c.declared)).order_by(limits.c.key)
# The latest event of a key, for one that has no row now.
_LATEST = Statement("SELECT coalesce(max(number), 0) FROM limit_events WHERE key = :key")
# A row to lock, for a key that has none: two schedulers may both want to make it.
_PLACE = Statement(
    "INSERT INTO limits (key, concurrency, rates, adaptive, cooldown_ms, declared, state, closed_until_ms, cautious,"
    " valve, reason, change_ms, version) VALUES (:key, NULL, :rates, false, :cooldown_ms, false, 'open', 0, false,"
    " :valve, '', :now_ms, :version) ON CONFLICT (key) DO NOTHING"
)
# Everything that a change may touch.
_WRITTEN = (*_COLUMNS[1:], "state", "closed_until_ms", "cautious")
_WRITE = Statement(f"UPDATE limits SET {', '.join(f'{name} = :{name}' for name in _WRITTEN)} WHERE key = :key")
# A row that has nothing more to say.
_DELETE = Statement("DELETE FROM limits WHERE key = :key")
# What became of a key.
_EVENT = Statement.of(sa.insert(limit_events))
# The oldest events.
_OLD = Statement("SELECT key, number FROM limit_events WHERE time_ms < :before LIMIT :most")
# One of them.
_FORGET_EVENT = Statement("DELETE FROM limit_events WHERE key = :key AND number = :number")


def read_rows(connection: sa.Connection, keys: Iterable[str]) -> dict[str, LimitRow]:
    """The rows of these keys that have one."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    patterns = patterns_of(connection)
    return {row[0]: _row(row, patterns) for row in _of(connection, _ROWS, wanted)}


def rows_of(connection: sa.Connection, keys: Iterable[str]) -> dict[str, LimitRow]:
    """A row of each key; of one that has none, what its pattern says, or nothing."""
    wanted = set(keys)
    rows, patterns = read_rows(connection, wanted), patterns_of(connection)
    for key in wanted - rows.keys():
        pattern = pattern_of(key, patterns)
        rows[key] = LimitRow(key=key, pattern=patterns[pattern] if pattern is not None else None, stored=False)
    return rows


def locked(connection: sa.Connection, keys: Iterable[str], now_ms: int) -> dict[str, LimitRow]:
    """A row of each key, under its lock; of a key that had none, an empty one that is there to be written. Keys that
    turn out to have nothing to remember must be written or removed by the caller."""
    missing = sorted(set(keys))
    patterns = patterns_of(connection)
    found = {row[0]: _row(row, patterns) for row in _of(connection, _LOCKED, missing)}
    for _ in range(LOOKS):
        missing = [key for key in missing if key not in found]
        if not missing:
            return found
        for key in missing:
            _place(connection, key, now_ms)
        for row in _of(connection, _LOCKED, missing):
            found[row[0]] = replace(_row(row, patterns), stored=False)
    raise Unavailable(f"limit {missing[0]} changes just now; try again", code="limit_busy")


def _of(connection: sa.Connection, statement: Statement, keys: list[str]) -> Sequence[tuple[Any, ...]]:
    return statement.rows(connection, {"keys": listed(connection, keys, "text")})


def _place(connection: sa.Connection, key: str, now_ms: int) -> None:
    values = {
        "key": key,
        "rates": b"[]",
        "cooldown_ms": COOLDOWN_MS,
        "valve": _valve_bytes(NEW),
        "now_ms": now_ms,
        "version": _LATEST.rows(connection, {"key": key})[0][0],
    }
    _PLACE.run(connection, values)


def patterns_of(connection: sa.Connection) -> dict[str, LimitRow]:
    """All declared patterns, by key."""
    return {row[0]: _row(row, {}) for row in _PATTERNS.rows(connection, {})}


def all_states(connection: sa.Connection) -> dict[str, LimitState]:
    """What Redis must know after it was lost."""
    patterns = patterns_of(connection)
    rows = [_row(row, patterns) for row in _ALL.rows(connection, {})]
    return {row.key: row.state() for row in rows if row.told}


def states_of(connection: sa.Connection, keys: Iterable[str]) -> dict[str, LimitState | None]:
    """What Redis must know of these keys now; None: nothing of its own."""
    rows = read_rows(connection, keys)
    return {key: rows[key].state() if key in rows and rows[key].told else None for key in keys}


def states_under(connection: sa.Connection, pattern: str) -> dict[str, LimitState | None]:
    """The states of rows that nobody declared and that this pattern may speak for, as they are now."""
    patterns = patterns_of(connection)
    prefix = pattern[:-1]
    under = connection.execute(_UNDER.where(limits.c.key.startswith(prefix, autoescape=True)))
    # SQLite's LIKE does not tell capitals from small letters.
    return {row[0]: _row(row, patterns).state() for row in under if row[0].startswith(prefix)}


@dataclass
class Writes:
    """Changes of locked rows, written together: each kind in one statement, in the order in which they were noted."""

    connection: sa.Connection
    effects: Effects
    now_ms: int
    _events: list[dict[str, object]] = field(default_factory=list)
    _rows: list[dict[str, object]] = field(default_factory=list)
    _gone: list[dict[str, object]] = field(default_factory=list)

    def note(
        self,
        before: LimitRow,
        after: LimitRow,
        *,
        type_: str = "",
        actor: str = "scheduler",
        reason: str = "",
        data: dict[str, object] | None = None,
    ) -> LimitRow:
        """What becomes of a row, with its event when `type_` names one; a row that has nothing more to say goes. Tells
        Redis what it must know."""
        if type_:
            self.effects.counts.append((metrics.LIMIT_EVENTS.labels(type_), 1))
            after = replace(after, version=before.version + 1, change_ms=self.now_ms, reason=reason[:2000])
            self._events.append(
                {
                    "key": after.key,
                    "number": after.version,
                    "time_ms": self.now_ms,
                    "type": type_,
                    "actor": actor,
                    "old_state": str(before.valve.state),
                    "new_state": str(after.valve.state),
                    "reason": reason[:2000],
                    "data": orjson.dumps(data or {}),
                }
            )
        if not after.needed:
            self._gone.append({"key": after.key})
            if before.told:
                self.effects.limits[after.key] = None
            return replace(after, stored=False)
        self._rows.append({"key": after.key, **_values(after)})
        state = after.state()
        if state != before.state() or after.declared != before.declared:
            self.effects.limits[after.key] = state
        return replace(after, stored=True)

    def flush(self) -> None:
        for statement, values in ((_EVENT, self._events), (_WRITE, self._rows), (_DELETE, self._gone)):
            if values:
                statement.run_many(self.connection, values)
        self._events, self._rows, self._gone = [], [], []


def write(
    connection: sa.Connection,
    effects: Effects,
    before: LimitRow,
    after: LimitRow,
    *,
    now_ms: int,
    type_: str = "",
    actor: str = "scheduler",
    reason: str = "",
    data: dict[str, object] | None = None,
) -> LimitRow:
    """One change, at once."""
    writes = Writes(connection, effects, now_ms)
    row = writes.note(before, after, type_=type_, actor=actor, reason=reason, data=data)
    writes.flush()
    return row


def forget_events(connection: sa.Connection, before_ms: int, most: int) -> int:
    """Deletes events that are older; at most so many, returns how many. A key's latest number is in its row."""
    old = _OLD.rows(connection, {"before": before_ms, "most": most})
    if old:
        _FORGET_EVENT.run_many(connection, [{"key": key, "number": number} for key, number in old])
    return len(old)


def remove(connection: sa.Connection, effects: Effects, row: LimitRow, *, now_ms: int, actor: str, reason: str) -> None:
    """Ends a declared limit, with its event; its valve goes with it."""
    gone = replace(row, declared=False, adaptive=False, valve=NEW, pattern=None)
    write(connection, effects, row, gone, now_ms=now_ms, type_="limit.deleted", actor=actor, reason=reason)


def _values(row: LimitRow) -> dict[str, object]:
    return {
        "concurrency": row.concurrency,
        "rates": orjson.dumps([asdict(rate) for rate in row.rates]),
        "adaptive": row.adaptive,
        "cooldown_ms": row.cooldown_ms,
        "declared": row.declared,
        "valve": _valve_bytes(row.valve),
        "reason": row.reason,
        "change_ms": row.change_ms,
        "version": row.version,
        "state": str(row.valve.state),
        "closed_until_ms": row.valve.until_ms,
        "cautious": row.cautious,
    }


_NEW = asdict(NEW)


def _valve_bytes(valve: Valve) -> bytes:
    return orjson.dumps({name: value for name, new in _NEW.items() if (value := getattr(valve, name)) != new})


def _valve(stored: bytes) -> Valve:
    facts: dict[str, Any] = orjson.loads(stored or b"{}")
    return Valve(**{**facts, "state": ValveState(facts.get("state", ValveState.OPEN))})


def _row(row: Sequence[Any], patterns: dict[str, LimitRow]) -> LimitRow:
    key, concurrency, rates, adaptive, cooldown_ms, declared, valve, reason, change_ms, version = row
    pattern = None if declared else pattern_of(key, patterns)
    return LimitRow(
        key=key,
        concurrency=concurrency,
        rates=tuple(RateState(**rate) for rate in orjson.loads(rates)),
        adaptive=bool(adaptive),
        cooldown_ms=cooldown_ms,
        declared=bool(declared),
        valve=_valve(bytes(valve)),
        reason=reason,
        change_ms=change_ms,
        version=version,
        pattern=None if pattern is None else patterns[pattern],
    )
