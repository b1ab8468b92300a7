"""How fast a run goes and when it may end, from what was settled minute by minute. Pure.

The end is a range, never a moment: the fastest and the slowest of several windows, each widened by what chance alone
would do to its count. Stages that have not begun are taken to go as fast as what goes now; that is the one thing
assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ENOUGH", "Eta", "Speed", "eta", "speed"]

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
ENOUGH = 20
"""Completions before anything is said of the end."""
QUIET_MS = 10 * MINUTE_MS
"""Nothing settled for so long: nothing moves."""
_WINDOWS_MS = (MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS)
_SPREAD = 1.3
"""Standard deviations on both sides: four of five such counts lie within."""
_FEW = 5.0


@dataclass(frozen=True)
class Speed:
    """items_per_second: over the last minute; last_hour: items settled in it."""

    items_per_second: float
    last_hour: int


@dataclass(frozen=True)
class Eta:
    """The end lies between `early_ms` and `late_ms` (wall time) when `reason` is empty; else that says why not."""

    early_ms: int = 0
    late_ms: int = 0
    reason: str = ""


def settled_in(minutes: Mapping[int, int], now_ms: int, window_ms: int, *, start_ms: int = 0) -> float:
    """Items settled in the last `window_ms`: whole minutes, and its share of the one that it begins in. Nothing was
    settled before `start_ms`."""
    first = now_ms - window_ms
    total = 0.0
    for minute in range(first // MINUTE_MS, now_ms // MINUTE_MS + 1):
        count = minutes.get(minute, 0)
        if count:
            end = min((minute + 1) * MINUTE_MS, now_ms)
            begin = max(minute * MINUTE_MS, min(start_ms, end))
            total += count * min(1.0, max(0, end - max(begin, first)) / max(end - begin, 1))
    return total


def speed(minutes: Mapping[int, int], now_ms: int, start_ms: int | None) -> Speed:
    """`minutes`: items settled by minute since the epoch; `start_ms`: of the run."""
    if not minutes or start_ms is None:
        return Speed(0.0, 0)
    window = max(1_000, min(MINUTE_MS, now_ms - start_ms))
    now = settled_in(minutes, now_ms, window, start_ms=start_ms)
    return Speed(now / window * 1_000, round(settled_in(minutes, now_ms, HOUR_MS)))


def eta(minutes: Mapping[int, int], now_ms: int, start_ms: int | None, *, completed: int, left: int) -> Eta:
    """When `left` items may have ended. The caller has seen to it that the run is one that goes on."""
    if not left:
        return Eta(now_ms, now_ms)
    if completed < ENOUGH:
        return Eta(reason=f"not known yet: {completed} of the first {ENOUGH} items have completed")
    if start_ms is None or settled_in(minutes, now_ms, QUIET_MS) == 0 or start_ms >= now_ms:
        return Eta(reason=f"not known: nothing has ended in the last {QUIET_MS // MINUTE_MS} minutes")
    slow, fast = math.inf, 0.0
    for window in _WINDOWS_MS:
        span = max(1_000, min(window, now_ms - start_ms))
        count = settled_in(minutes, now_ms, span, start_ms=start_ms)
        if count >= _FEW:
            chance = _SPREAD * math.sqrt(count)
            slow = min(slow, (count - chance) / span)
            fast = max(fast, (count + chance) / span)
        if now_ms - start_ms <= window:
            break
    if not fast:
        # Too few in every window to tell chance from speed: as it went in the last hour, from half to twice as fast.
        span = max(1_000, min(HOUR_MS, now_ms - start_ms))
        mean = settled_in(minutes, now_ms, HOUR_MS) / span
        slow, fast = mean / 2, mean * 2
    return Eta(now_ms + math.ceil(left / fast), now_ms + math.ceil(left / slow))
