"""Limits and prices as operators handle them while runs go on, and the look that follows closures.

Each command is one transaction in the writer's queue, idempotent by its request id; Redis is told after the commit, and
waiting acquires look again. `look` is what time brings about: closures that are over, valves of runs that have ended,
and which keys are cautious, which another scheduler may have changed. It is harmless when several do it.

Failure story: without SQL a command fails and changes nothing, and looks are skipped; without Redis a command holds all
the same: it is told when Redis is rebuilt.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace

import sqlalchemy as sa

from penstock.runtime import metrics
from penstock.runtime.errors import Conflict, InvalidInput, NotFound, PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.sql import Database
from scheduler.commit import GroupCommit
from scheduler.domain.limit_settings import LimitSettings, key_problem, problems, rate_of
from scheduler.domain.limits import RESERVED, LimitState
from scheduler.domain.valve import MAX_CLOSED_MS, ValveState
from scheduler.engine import Engine
from scheduler.members import limit_text
from scheduler.ready import Ready
from scheduler.store.effects import Effects
from scheduler.store.limit_reads import closures_due, count_valves, nearby
from scheduler.store.limit_rows import (
    COOLDOWN_MS,
    LimitRow,
    all_states,
    forget_events,
    locked,
    read_rows,
    remove,
    states_under,
    write,
)
from scheduler.store.limits import Caution, Valves
from scheduler.windows import Windows

__all__ = ["Limits", "compare_limits", "etag_of"]

COMPARE_MS = 3_000
"""Between two comparisons of what Redis knows with what SQL says; longer where there are many limits: a millisecond for
each."""
FORGET_EVENTS = 1_000

log = get_logger("limits")


class Limits:
    """Commands of operators, and the loop; `seconds` lie between two looks."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        windows: Windows,
        ready: Ready,
        *,
        seconds: float,
        event_hours: float = 2_160.0,
    ) -> None:
        self._engine = engine
        self._database = database
        self._windows = windows
        self._ready = ready
        self._seconds = seconds
        self._event_ms = int(event_hours * 3_600_000)
        self._compared = ""
        self._known = 0
        self._compared_ms = 0

    # -- within a transaction; the service keeps request ids around them

    def set(
        self,
        connection: sa.Connection,
        effects: Effects,
        settings: LimitSettings,
        *,
        etag: str,
        actor: str,
        reason: str,
    ) -> LimitRow:
        """Makes or replaces what was declared; what the valve remembers stays. Raises InvalidInput with all problems;
        Conflict when it is not as it was read."""
        wrong = problems(settings)
        if wrong:
            raise InvalidInput(f"limit {settings.key[:80]!r} can't be set: " + "; ".join(wrong), code="bad_limit")
        row = self._locked(connection, settings.key)
        if etag and etag != etag_of(row):
            raise Conflict(
                f"limit {row.key} was changed since it was read (etag {etag}, now {etag_of(row)}): read it again",
                code="etag_mismatch",
            )
        after = replace(
            row,
            declared=True,
            concurrency=settings.concurrency,
            rates=tuple(rate_of(rate) for rate in settings.rates),
            adaptive=settings.adaptive,
            cooldown_ms=round(settings.cooldown_seconds * 1000) or COOLDOWN_MS,
        )
        return self._write(connection, effects, row, after, "limit.set", actor, reason)

    def delete(self, connection: sa.Connection, effects: Effects, key: str, *, actor: str, reason: str) -> bool:
        """Ends a limit, its closure too; false when there was none."""
        if not read_rows(connection, [key]):
            return False
        row = self._locked(connection, key)
        remove(connection, effects, row, now_ms=self._engine.now_ms(), actor=actor, reason=reason)
        self._spread(connection, effects, row)
        return True

    def close(
        self,
        connection: sa.Connection,
        effects: Effects,
        key: str,
        until_ms: int | None,
        *,
        actor: str,
        reason: str,
    ) -> LimitRow:
        """Closes a key until then, or until it is opened; what runs finishes. Raises InvalidInput for a time that is
        over or too far."""
        now_ms = self._engine.now_ms()
        wrong = key_problem(key)
        if wrong and not key.startswith(RESERVED):
            raise InvalidInput(wrong, code="bad_limit")
        if wrong and not read_rows(connection, [key]):
            raise _not_found(connection, key)
        if until_ms is not None and not now_ms < until_ms <= now_ms + 100 * MAX_CLOSED_MS:
            raise InvalidInput(
                f"{key} can't be closed until {_time(until_ms)}: it is {_time(now_ms)}; give a later time within "
                f"{100 * MAX_CLOSED_MS // 86_400_000} days, or none to close it until it is opened",
                code="bad_time",
            )
        row = self._locked(connection, key)
        valve = row.valve.at(now_ms)
        if valve.state is ValveState.CLOSED and valve.until_ms == until_ms:
            return row
        # A pattern that nobody declared is declared by this: else nothing would carry its closure.
        after = replace(row, valve=valve.close(now_ms, until_ms), declared=row.declared or row.is_pattern)
        return self._write(connection, effects, row, after, "limit.closed", actor, reason)

    def open(self, connection: sa.Connection, effects: Effects, key: str, *, actor: str, reason: str) -> LimitRow:
        """Ends any closure and caution. Raises NotFound with what there is nearby."""
        if not read_rows(connection, [key]):
            raise _not_found(connection, key)
        row = self._locked(connection, key)
        valve = row.valve.open(row.bounds)
        if valve == row.valve:
            return row
        return self._write(connection, effects, row, replace(row, valve=valve), "limit.open", actor, reason)

    # -- what time brings about

    async def serve(self) -> None:
        """Looks again and again; runs until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.look()
            except PenstockError as error:
                log.warning("limits can't be looked at now", error=error.message)

    async def look(self) -> int:
        """Learns which keys are cautious, and follows closures that are over; returns how many rows changed."""
        now_ms = self._engine.now_ms()
        due, caution, counts = await asyncio.to_thread(self._read, now_ms)
        self._engine.caution.become(caution)
        self._engine.caution.full = self._windows.waiting_keys()
        for state in (ValveState.CLOSED, ValveState.PROBING, ValveState.RAMPING):
            metrics.VALVES.labels(str(state)).set(counts.get(state, 0))
        # What others changed while Redis was made anew may have been told to the old one; what is in doubt is told by
        # the next transaction, and this may be the next.
        anew = self._ready.generation != self._compared or bool(self._engine.commits.doubted)
        if (anew or now_ms - self._compared_ms >= max(COMPARE_MS, self._known)) and self._engine.granting:
            generation = self._ready.generation
            await self.compare()
            await self.forget()
            self._compared, self._compared_ms = generation, now_ms
        if not due:
            return 0

        def work(connection: sa.Connection, effects: Effects) -> int:
            return Valves(connection, effects, now_ms, self._engine.caution).due()

        count = await self._engine.commits.run(work)
        metrics.SWEEP_ITEMS.labels("valves").inc(count)
        self._engine.wake()
        return count

    async def compare(self) -> int:
        """Tells Redis where it knows other limits than SQL; returns how many. So it was when a scheduler died between a
        commit and its word to Redis and another took Redis over, or when two told theirs in the wrong order."""
        self._known, count = await compare_limits(self._engine.commits, self._ready)
        return count

    async def forget(self) -> int:
        """Deletes events of limits that are older than they are kept; returns how many."""
        before_ms = self._engine.now_ms() - self._event_ms

        def work(connection: sa.Connection, effects: Effects) -> int:
            return forget_events(connection, before_ms, FORGET_EVENTS)

        return await self._engine.commits.run(work)

    def _read(self, now_ms: int) -> tuple[bool, Caution, dict[str, int]]:
        with self._database.read() as connection:
            return closures_due(connection, now_ms), Caution.read(connection), count_valves(connection)

    # -- inside

    def _locked(self, connection: sa.Connection, key: str) -> LimitRow:
        return locked(connection, [key], self._engine.now_ms())[key]

    def _write(
        self,
        connection: sa.Connection,
        effects: Effects,
        before: LimitRow,
        after: LimitRow,
        type_: str,
        actor: str,
        reason: str,
    ) -> LimitRow:
        now = write(
            connection,
            effects,
            before,
            after,
            now_ms=self._engine.now_ms(),
            type_=type_,
            actor=actor,
            reason=reason,
            data={"until_ms": after.valve.until_ms, **_changes(before, after)},
        )
        self._engine.caution.note(now)
        self._spread(connection, effects, now)
        return now

    def _spread(self, connection: sa.Connection, effects: Effects, row: LimitRow) -> None:
        """What a pattern says, it says for keys that remember something of their own."""
        if row.is_pattern:
            effects.limits.update(states_under(connection, row.key))
            self._engine.caution.become(Caution.read(connection))


async def compare_limits(commits: GroupCommit, ready: Ready) -> tuple[int, int]:
    """Tells Redis where it knows other limits than SQL; returns how many it knew, and how many it was told. Raises
    Unavailable."""
    texts = await ready.limit_texts()

    def work(connection: sa.Connection, effects: Effects) -> int:
        # In the writer's queue: what is committed after this is told after this.
        states: dict[str, LimitState | None] = {**all_states(connection)}
        states |= {key: None for key in texts if key not in states}
        effects.limits.update({k: v for k, v in states.items() if (limit_text(v) or None) != texts.get(k)})
        return len(effects.limits)

    count = await commits.run(work)
    if count:
        log.info("Redis was told of limits that it knew otherwise", limits=count)
    return len(texts), count


def _changes(before: LimitRow, after: LimitRow) -> dict[str, object]:
    """What was declared, name -> [old, new] where it differs."""
    told: dict[str, object] = {}
    for name in ("concurrency", "rates", "adaptive", "cooldown_ms"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            told[name] = [old, new]
    return told


def etag_of(row: LimitRow) -> str:
    return str(row.version)


def _not_found(connection: sa.Connection, key: str) -> NotFound:
    near = nearby(connection, key)
    there = f"there is: {', '.join(near)}" if near else "there is none yet"
    return NotFound(f"there is no limit {key[:200]!r}; {there}", code="limit_not_found")


def _time(milliseconds: int) -> str:
    try:
        return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"
