"""The valve: one machine that stops work which the outside refuses, and lets it in again little by little.

    open ──refused──▶ closed until T ──T──▶ probing (one at a time) ──passed──▶ ramping (2, 4, 8 … at once) ──▶ open
                          ▲───────────────────refused─┴──────────────────────────┘

It serves limits (a key that is throttled) and breakers (a stage, or one of its lanes, where equal failures come in a
row). A limit may be *adaptive*: then the open valve has a cap too, which grows by whole waves while nothing goes wrong
and is cut once for each episode of throttling.

Pure: facts in, the next valve out. It may not read clocks, rows or Redis. Nothing fails here: what tells nothing new
answers the same valve, and the caller then has nothing to write.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from scheduler.domain.limits import OPEN

__all__ = ["CEILING", "MAX_CLOSED_MS", "RAMP_END", "SLOW_START", "Bounds", "Valve", "ValveState"]

SLOW_START = 2
"""Leases at once with which an adaptive key begins."""
CEILING = 1_000
"""And at which it ends when its limit names no concurrency."""
RAMP_END = 256
"""A ramp that has come so far is over, for a key that has no bound of its own."""
MAX_CLOSED_MS = 7 * 24 * 3600 * 1000
"""No word from outside closes a key for longer: a Retry-After may be anything."""


class ValveState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    PROBING = "probing"
    RAMPING = "ramping"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the limit or the stage's rules say: the first closure and the longest, for refusals that name no time;
    the declared concurrency; whether the valve looks for a better one."""

    first_ms: int
    max_ms: int
    concurrency: int | None = None
    adaptive: bool = False

    @property
    def ceiling(self) -> int:
        """The cap at which there is nothing left to grow to."""
        if self.concurrency is not None:
            return max(self.concurrency, 1)
        return CEILING if self.adaptive else RAMP_END


@dataclass(frozen=True, kw_only=True)
class Valve:
    """until_ms: OPEN, the end of a closure, or None: until somebody opens it. cap: leases at once while ramping, and
    of an adaptive key also while open (None: not begun). goal: of an adaptive key that was cut, the cap to which it
    doubles; above it grows by one. passed: what went through since the cap last changed or something failed.
    closures: in a row, without having been open between. since_ms: when it was last closed; what began before that
    tells of a world that is gone. fingerprint, failures: equal failures in a row."""

    state: ValveState = ValveState.OPEN
    until_ms: int | None = OPEN
    cap: int | None = None
    goal: int | None = None
    passed: int = 0
    closures: int = 0
    since_ms: int = 0
    fingerprint: str = ""
    failures: int = 0

    # -- what it says

    def concurrency(self, bounds: Bounds) -> int | None:
        """Leases at once that it allows now, the declared bound aside; None: any number. A closed valve allows the
        one probe already, so that nothing need happen at the very moment when its closure ends."""
        match self.state:
            case ValveState.OPEN:
                return self._cap(bounds) if bounds.adaptive else None
            case ValveState.RAMPING:
                return self._cap(bounds)
            case _:
                return 1

    def cautious(self, bounds: Bounds) -> bool:
        """Whether what becomes of items may change it."""
        growing = bounds.adaptive and self._cap(bounds) < bounds.ceiling
        return self.state is not ValveState.OPEN or self.failures > 0 or growing

    def _cap(self, bounds: Bounds) -> int:
        return min(self.cap or SLOW_START, bounds.ceiling)

    # -- what happens to it

    def at(self, now_ms: int) -> Valve:
        """The valve as it is at this time: a closure that is over is a probe."""
        if self.state is ValveState.CLOSED and self.until_ms is not None and self.until_ms <= now_ms:
            return replace(self, state=ValveState.PROBING, until_ms=OPEN, passed=0)
        return self

    def throttled(
        self, now_ms: int, bounds: Bounds, *, retry_after_ms: int | None = None, begun_ms: int | None = None
    ) -> Valve:
        """The outside said no, at best with the time when to come back. begun_ms: when the attempt began."""
        valve = self.at(now_ms)
        named = None if retry_after_ms is None else now_ms + min(max(retry_after_ms, 0), MAX_CLOSED_MS)
        if valve.state is ValveState.CLOSED:
            # The same episode: others were on their way. Only a later time is news.
            if valve.until_ms is None or named is None or named <= valve.until_ms:
                return valve
            return replace(valve, until_ms=named)
        if valve.state is not ValveState.OPEN and begun_ms is not None and begun_ms < valve.since_ms:
            if named is None or named <= now_ms:
                return valve
            return replace(valve, state=ValveState.CLOSED, until_ms=named, passed=0)
        goal = valve.goal
        if bounds.adaptive and valve.state is not ValveState.PROBING:
            goal = max(1, valve._cap(bounds) // 2)
        return replace(valve._closed(now_ms, bounds, named), goal=goal)

    def failed(
        self,
        now_ms: int,
        bounds: Bounds,
        *,
        fingerprint: str,
        count: int,
        threshold: int,
        begun_ms: int | None = None,
    ) -> Valve:
        """`count` items failed in the same way; as many as `threshold` in a row close it, and so does the probe's
        failure, or the old one met again on the ramp."""
        valve = self.at(now_ms)
        if valve.state is ValveState.CLOSED:
            return valve
        if valve.state is not ValveState.OPEN and begun_ms is not None and begun_ms < valve.since_ms:
            return valve
        same = valve.fingerprint == fingerprint
        failures = count + (valve.failures if same else 0)
        again = valve.state is ValveState.PROBING or (valve.state is ValveState.RAMPING and same)
        valve = replace(valve, fingerprint=fingerprint, failures=min(failures, threshold), passed=0)
        return valve._closed(now_ms, bounds, None) if again or failures >= threshold else valve

    def erred(self) -> Valve:
        """Something of this key failed without a word about limits: the wave begins again, so nothing grows while
        errors last."""
        return replace(self, passed=0) if self.passed else self

    def completed(self, now_ms: int, bounds: Bounds, *, count: int, running: int) -> Valve:
        """`count` items went through; `running` still run, as far as the caller sees. A call moves it by one wave at
        most: what began before the valve closed may report in any number."""
        valve = self.at(now_ms)
        if count < 1 or valve.state is ValveState.CLOSED:
            return valve
        match valve.state:
            case ValveState.PROBING:
                return replace(valve, failures=0)._ramp(2, bounds)
            case ValveState.RAMPING:
                passed, cap = valve.passed + count, valve._cap(bounds)
                if passed < cap:
                    return replace(valve, passed=passed, failures=0)
                return replace(valve, failures=0)._ramp(cap * 2, bounds)
            case _:
                return replace(valve, fingerprint="", failures=0)._grown(bounds, count, running)

    def close(self, now_ms: int, until_ms: int | None) -> Valve:
        """Closed by a person: until then, or until it is opened."""
        return replace(self, state=ValveState.CLOSED, until_ms=until_ms, since_ms=now_ms, passed=0)

    def open(self, bounds: Bounds) -> Valve:
        """Opened by a person: without closure or caution. An adaptive key keeps the cap that it had found."""
        return Valve(cap=self.goal or self.cap, goal=self.goal) if bounds.adaptive else Valve()

    # -- inside

    def _closed(self, now_ms: int, bounds: Bounds, named: int | None) -> Valve:
        closures = self.closures + 1
        grown = min(bounds.first_ms * 2 ** min(closures - 1, 30), max(bounds.max_ms, bounds.first_ms), MAX_CLOSED_MS)
        until_ms = now_ms + grown if named is None else named
        return replace(
            self, state=ValveState.CLOSED, until_ms=until_ms, closures=closures, since_ms=now_ms, cap=None, passed=0
        )

    def _ramp(self, cap: int, bounds: Bounds) -> Valve:
        goal = min(self.goal or SLOW_START, bounds.ceiling) if bounds.adaptive else bounds.ceiling
        if cap < goal:
            return replace(self, state=ValveState.RAMPING, until_ms=OPEN, cap=cap, passed=0)
        return Valve(cap=goal, goal=self.goal) if bounds.adaptive else Valve()

    def _grown(self, bounds: Bounds, count: int, running: int) -> Valve:
        cap = self._cap(bounds)
        if not bounds.adaptive or cap >= bounds.ceiling:
            return self
        # A cap that nobody fills says nothing about what the outside takes.
        if 2 * (running + count) < cap:
            return self
        if self.passed + count < cap:
            return replace(self, passed=self.passed + count)
        doubles = self.goal is None or cap < self.goal
        return replace(self, cap=min(cap * 2 if doubles else cap + 1, bounds.ceiling), passed=0)
