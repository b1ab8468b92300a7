"""How fast a run goes and when it may end, from what was settled minute by minute. Pure.

The end is a range, never a moment: the fastest and the slowest of several windows, each widened by what chance alone
would do to its count. Stages that have not begun are taken to go as fast as what goes now; that is the one thing
assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.words import counted

__all__ = ["ENOUGH", "Eta", "Hold", "Speed", "behind", "eta", "settled_in", "speed"]

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


@dataclass(frozen=True)
class Hold:
    """What `items` of a run wait for; `more`: they are at least so many. until_ms None: until somebody acts, as `what`
    says: it follows the word "wait"."""

    what: str
    items: int
    until_ms: int | None
    more: bool = False

    @property
    def text(self) -> str:
        many = ("at least " if self.more else "") + counted(self.items, "item")
        return f"{many} wait{'s' if self.items == 1 else ''} {self.what}"


def settled_in(minutes: Mapping[int, int], now_ms: int, window_ms: int, *, start_ms: int = 0) -> float:
    """Items settled in the last `window_ms`: whole minutes, and its share of the one that it begins in. Nothing was
    settled before `start_ms`."""
    first = now_ms - window_ms
    total = 0.0
    for minute in range(first // MINUTE_MS, now_ms // MINUTE_MS + 1):
        count = minutes.get(minute, 0)
        if not count:
            continue
        if first <= minute * MINUTE_MS <= now_ms - MINUTE_MS and start_ms < (minute + 1) * MINUTE_MS:
            total += count
        else:
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


def behind(told: Eta, holds: Sequence[Hold], now_ms: int, *, left: int) -> Eta:
    """The same where some of the `left` items of a run that goes on are held back: they begin when that is over, and go
    as fast as all did."""
    if left and (endless := next((one for one in holds if one.until_ms is None), None)):
        return Eta(reason=f"not known: {endless.text}")
    if told.reason or not left:
        return told
    early, late = told.early_ms, told.late_ms
    for one in holds:
        if one.until_ms is None:
            continue
        share = min(one.items, left) / left
        early = max(early, one.until_ms + math.ceil((told.early_ms - now_ms) * share))
        late = max(late, one.until_ms + math.ceil((told.late_ms - now_ms) * (1 if one.more else share)))
    return Eta(early, late)
