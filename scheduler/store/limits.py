"""Valves in a transaction: what becomes of items closes and opens limits, stages and lanes.

Throttled, failed and completed items are told to `Valves` under their run's lock; it reads the rows of the keys that
are concerned, asks `domain.valve`, and writes what changed with its event. What nothing is cautious about costs
nothing: `Caution` remembers in memory which keys a completion may move. It is a hint: a key that it misses for a
second (another scheduler closed it) stays careful for one item longer; a key that it names in vain costs one read.

May not: talk to Redis (`Effects.limits` does, after the commit), decide (the valve does).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import sqlalchemy as sa

from penstock.runtime import metrics
from scheduler.domain.limits import LANE_VALVE, RESERVED, STAGE_VALVE, lane_keys
from scheduler.domain.states import ENDED_RUNS
from scheduler.domain.valve import CEILING, Bounds, Valve, ValveState
from scheduler.store.effects import Effects
from scheduler.store.limit_rows import LimitRow, Writes, locked, patterns_of
from scheduler.store.rows import StageRow
from scheduler.store.schema import limits, runs
from scheduler.store.stage_rules import stage_rules
from scheduler.store.statements import Statement
from scheduler.store.unit import RunUnit

__all__ = ["CLOSED_MS", "Caution", "Valves", "kind_of"]

CLOSED_MS = 30_000
"""The first closure of a stage or lane whose rules say nothing else."""
MUCH_LATER_MS = 1_000
PASSES = frozenset({"item", "invalid_result", "unconfirmed", "refused"})
"""Kinds of failure in which the outside did answer: to a limit they are as good as a completion."""

# Keys whose valve may move by what becomes of items; by the index of these alone.
_CAUTIOUS = Statement("SELECT key FROM limits WHERE cautious")
# Closures that are over.
_OVER = (
    sa.select(limits.c.key)
    .where(sa.text("cautious"), limits.c.state == ValveState.CLOSED, limits.c.closed_until_ms <= sa.bindparam("now"))
    .order_by(limits.c.key)
    .limit(sa.bindparam("most"))
)
# Closures of patterns that are over: a pattern has no valve of its own to probe with.
_PATTERNS_OVER = (
    sa.select(limits.c.key)
    .where(
        sa.text("declared"),
        limits.c.key.endswith("*"),
        limits.c.state == ValveState.CLOSED,
        limits.c.closed_until_ms <= sa.bindparam("now"),
    )
    .order_by(limits.c.key)
)
# Valves of stages and lanes.
_BREAKERS = sa.select(limits.c.key).where(
    sa.text("cautious"), sa.or_(*(limits.c.key.startswith(word) for word in RESERVED))
)
# Runs that have ended.
_ENDED = sa.select(runs.c.number).where(
    runs.c.number.in_(sa.bindparam("numbers", expanding=True)), runs.c.state.in_(list(ENDED_RUNS))
)
# Valves that have nothing left to guard.
_FORGET = sa.delete(limits).where(limits.c.key.in_(sa.bindparam("keys", expanding=True)))


@dataclass
class Caution:
    """keys: whose valve a completion may move, as this process last saw; adaptive: beginnings of keys of adaptive
    patterns; calm: of these, keys that have nothing left to grow to; full: keys that hold items back just now."""

    keys: set[str] = field(default_factory=set)
    adaptive: tuple[str, ...] = ()
    calm: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    _recent: set[str] = field(default_factory=set)
    _older: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, connection: sa.Connection) -> Caution:
        keys = {key for (key,) in _CAUTIOUS.rows(connection, {})}
        patterns = patterns_of(connection).values()
        return cls(keys, tuple(sorted(row.key[:-1] for row in patterns if row.adaptive)))

    def become(self, other: Caution) -> None:
        """Takes over what was read afresh; what grew up to its ceiling is asked again. A key that was noted since the
        last time but one stays: its transaction may have committed after this was read."""
        self.keys, self.adaptive, self.calm = other.keys | self._recent | self._older, other.adaptive, set()
        self._recent, self._older = set(), self._recent

    def concerns(self, key: str) -> bool:
        return key in self.keys or (bool(self.adaptive) and key.startswith(self.adaptive) and key not in self.calm)

    def note(self, row: LimitRow) -> None:
        """Learns from a row that was just read or written; a transaction that is rolled back costs a read later."""
        if row.cautious:
            self.keys.add(row.key)
            self._recent.add(row.key)
            self.calm.discard(row.key)
        else:
            for keys in (self.keys, self._recent, self._older):
                keys.discard(row.key)
            if row.bounds.adaptive:
                self.calm.add(row.key)

    @property
    def nothing(self) -> bool:
        return not self.keys and not self.adaptive


class Valves:
    """The valves that one call of a transaction moves, at `now_ms`. Without a `caution` of the process it asks SQL
    once which keys are cautious."""

    def __init__(
        self, connection: sa.Connection, effects: Effects, now_ms: int, caution: Caution | None = None
    ) -> None:
        self._connection = connection
        self._effects = effects
        self._now_ms = now_ms
        self._caution = caution
        self._asked = caution is None
        self._rows: dict[str, LimitRow] = {}
        self._writes = Writes(connection, effects, now_ms)

    def lock(self, keys: Iterable[str]) -> None:
        """Locks rows in order of key: whoever takes several one by one waits for others that wait for it."""
        self._read(keys)

    def throttled(
        self,
        unit: RunUnit,
        stage: StageRow,
        *,
        key: str,
        retry_after_seconds: float,
        seq: int,
        lane: str | None = None,
        begun_ms: int | None = None,
    ) -> None:
        """An item met a limit of the outside: its key closes. retry_after_seconds: 0 when it named no time. An item
        whose `lane` lacks the key would be leased again at once, for ever: its lane closes too, or its stage."""
        keys = [key]
        if lane is not None and key not in lane_keys(lane):
            own = LANE_VALVE if lane else STAGE_VALVE
            keys.append(own.format(run=unit.run.number, stage=stage.stage, lane=lane))
        after_ms = max(round(retry_after_seconds * 1000), 1) if retry_after_seconds > 0 else None
        said = f"asked to come back in {retry_after_seconds:g} s" if after_ms else "no time was named"
        why = f"throttled ({said}), item {stage.stage}/{seq} of run {unit.run.run_id}"
        self._effects.counts.append((metrics.THROTTLES.labels(kind_of(key)), 1))
        for name in keys:
            row = self._row(name)
            if row.valve.state is ValveState.CLOSED and (begun_ms or 0) > row.valve.since_ms:
                self._effects.limits[name] = row.state()  # it began while the key was closed: Redis has not heard of it
            valve = row.valve.throttled(self._now_ms, row.bounds, retry_after_ms=after_ms, begun_ms=begun_ms)
            self._moved(row, valve, why, unit=unit)
            why += f", which does not name {key} among its limits"
        self._writes.flush()

    def failed(
        self,
        unit: RunUnit,
        stage: StageRow,
        *,
        lane: str,
        fingerprint: str,
        count: int,
        kind: str = "",
        begun_ms: int | None = None,
    ) -> None:
        """`count` items of a lane failed in the same way. By the stage's valve rules, equal failures in a row close
        the lane, or the stage when they are of several lanes; and no key of the lane grows while errors last."""
        if kind in PASSES:
            starts = [self._now_ms if begun_ms is None else begun_ms] * count
            self._passed(unit, stage, {key: starts for key in lane_keys(lane) if self._known().concerns(key)})
        else:
            for key in lane_keys(lane):
                if self._known().concerns(key):
                    row = self._row(key)
                    self._moved(row, row.valve.erred(), "")
        threshold, bounds = _breaker(stage.rules)
        if threshold > 0:
            self._broke(unit, stage, lane, fingerprint, count, begun_ms, threshold, bounds)
        self._writes.flush()

    def completed(self, unit: RunUnit, stage: StageRow, done: Sequence[tuple[str, int]]) -> None:
        """Items went through: the lane of each, and when its attempt began."""
        if not done or (caution := self._known()).nothing:
            return
        lanes: dict[str, list[int]] = {}
        for lane, start in done:
            lanes.setdefault(lane, []).append(start)
        begun: dict[str, list[int]] = {}
        for lane, starts in lanes.items():
            own = LANE_VALVE.format(run=unit.run.number, stage=stage.stage, lane=lane)
            for key in (own, *lane_keys(lane)):
                if caution.concerns(key):
                    begun.setdefault(key, []).extend(starts)
        stage_key = self._stage_key(unit, stage)
        if caution.concerns(stage_key):
            begun[stage_key] = [start for _, start in done]
        self._passed(unit, stage, begun)
        self._writes.flush()

    def due(self, most: int = 500) -> int:
        """Turns closures that are over into probes, and forgets the valves of runs that have ended; returns how many
        rows changed. Redis needs no word of the former: a closed key has one slot already."""
        over = list(self._connection.execute(_OVER, {"now": self._now_ms, "most": most}).scalars())
        over += self._connection.execute(_PATTERNS_OVER, {"now": self._now_ms}).scalars()
        self._read(over)
        for key in sorted(over):
            row = self._row(key)
            valve = row.valve.open(row.bounds) if row.is_pattern else row.valve.at(self._now_ms)
            self._moved(row, valve, "its closure is over")
        self._writes.flush()
        return len(over) + self._swept()

    # -- inside

    def _broke(
        self,
        unit: RunUnit,
        stage: StageRow,
        lane: str,
        fingerprint: str,
        count: int,
        begun_ms: int | None,
        threshold: int,
        bounds: Bounds,
    ) -> None:
        run, stage_key = unit.run.number, self._stage_key(unit, stage)
        why = f"{threshold} equal failures in a row (fingerprint {fingerprint})"

        def fails(row: LimitRow) -> bool:
            valve = row.valve.failed(
                self._now_ms,
                bounds,
                fingerprint=fingerprint,
                count=count,
                threshold=threshold,
                begun_ms=begun_ms,
            )
            self._moved(row, valve, why, unit=unit)
            return valve.state is ValveState.CLOSED

        if lane and fails(self._row(LANE_VALVE.format(run=run, stage=stage.stage, lane=lane))):
            # What the lane answers for is not the stage's.
            if self._known().concerns(stage_key):
                row = self._row(stage_key)
                self._moved(row, replace(row.valve, fingerprint="", failures=0), "")
            return
        fails(self._row(stage_key))

    def _known(self) -> Caution:
        if self._caution is None:
            self._caution = Caution.read(self._connection)
        return self._caution

    def _stage_key(self, unit: RunUnit, stage: StageRow) -> str:
        return STAGE_VALVE.format(run=unit.run.number, stage=stage.stage)

    def _read(self, keys: Iterable[str]) -> None:
        missing = [key for key in keys if key not in self._rows]
        if missing:
            self._writes.flush()  # one of them may be a row that goes
            self._rows |= locked(self._connection, missing, self._now_ms)

    def _row(self, key: str) -> LimitRow:
        self._read([key])
        return self._rows[key]

    def _passed(self, unit: RunUnit, stage: StageRow, begun: Mapping[str, Sequence[int]]) -> None:
        self._read(begun)
        for key in sorted(begun):
            row, running = self._rows[key], self._running(stage, key)
            # What began before it closed went through in a world that is gone: it is no probe.
            count = sum(start >= row.valve.since_ms for start in begun[key])
            valve = row.valve.completed(self._now_ms, row.bounds, count=count, running=running)
            self._moved(row, valve, "the probe went through" if valve.state is ValveState.RAMPING else "", unit=unit)

    def _running(self, stage: StageRow, key: str) -> int:
        """How many leases the key has besides those that are told of, as far as it matters: whether it is in use as far
        as it may be. Who holds items back is; a report of half of what it may have tells as much."""
        if self._asked:
            return stage.running
        return CEILING if key in self._known().full else 0

    def _moved(self, row: LimitRow, valve: Valve, why: str, *, unit: RunUnit | None = None) -> None:
        """Writes the row with what became of its valve; says so when people or Redis should know."""
        if valve == row.valve and row.stored:
            self._known().note(row)
            return
        type_ = ""
        moved = (valve.state, valve.since_ms) != (row.valve.state, row.valve.since_ms)
        if moved or _much_later(row.valve.until_ms, valve.until_ms):
            type_ = f"limit.{valve.state}"
        elif valve.concurrency(row.bounds) != row.valve.concurrency(row.bounds):
            type_ = "limit.cap"
        cap, before = valve.concurrency(row.bounds), row.valve.concurrency(row.bounds)
        data: dict[str, object] = {"until_ms": valve.until_ms, "cap": cap, "closures": valve.closures}
        if type_ == "limit.cap":
            data["at_once"] = [before, cap]
        now = self._writes.note(row, replace(row, valve=valve), type_=type_, reason=why, data=data)
        if type_ and type_ != "limit.cap":
            self._effects.counts.append((metrics.VALVE_MOVES.labels(kind_of(row.key), str(valve.state)), 1))
            if unit is not None:
                unit.emit(
                    type_,
                    subject=subject_of(row.key),
                    old=row.valve.state,
                    new=valve.state,
                    reason=why,
                    data={"key": row.key, "until_ms": valve.until_ms},
                )
        self._rows[row.key] = now
        if not now.stored:
            del self._rows[row.key]  # its row is gone: whoever needs it again makes it anew
        self._known().note(now)

    def _swept(self) -> int:
        """Valves of stages and lanes go when their run has ended."""
        keys = list(self._connection.execute(_BREAKERS).scalars())
        numbers = sorted({int(key.split(":")[1]) for key in keys})
        if not numbers:
            return 0
        ended = set(self._connection.execute(_ENDED, {"numbers": numbers}).scalars())
        gone = [key for key in keys if int(key.split(":")[1]) in ended]
        if gone:
            self._connection.execute(_FORGET, {"keys": gone})
            self._effects.limits.update(dict.fromkeys(gone))
        return len(gone)


@lru_cache(maxsize=1_024)
def _breaker(rules: bytes) -> tuple[int, Bounds]:
    """How many equal failures in a row close a stage with these rules (0: none do), and for how long."""
    valve = stage_rules(rules).valve
    if valve is None:
        return 0, Bounds(first_ms=CLOSED_MS, max_ms=CLOSED_MS)
    first_ms = valve.closed_ms or CLOSED_MS
    return valve.failures, Bounds(first_ms=first_ms, max_ms=max(first_ms, valve.max_ms))


def _much_later(before_ms: int | None, after_ms: int | None) -> bool:
    """Whether people should know that a closure's end moved: what was under way when a key closed moves it by little,
    again and again."""
    return before_ms != after_ms and (before_ms is None or after_ms is None or after_ms - before_ms >= MUCH_LATER_MS)


def kind_of(key: str) -> str:
    """What stands before the colon: few, so that it may label a metric."""
    return key.split(":", 1)[0]


def subject_of(key: str) -> str:
    """What an event about this key is about: the stage for the valves of stages and lanes, else the key."""
    word, _, rest = key.partition(":")
    return f"stage:{rest.split(':')[1]}" if word in ("stage", "lane") and ":" in rest else f"limit:{key}"
