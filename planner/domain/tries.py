"""How often items are executed under another bound of tries than history had. Pure.

Items that gave up at their bound would have gone on under a higher one, as likely to fail as at their last try; under a
lower one all stop there. What failed for good stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from planner.domain.sketch import Floats

__all__ = ["DEFAULT_BACKOFF", "MAX_TRIES", "Backoff", "End", "Tries", "tries_under"]

MAX_TRIES = 100
JITTER_SHARE = 0.75
"""Of a back-off that is waited on the mean: its upper half is random."""


class End(IntEnum):
    """How an item ended. FAILED: for good, whatever tries were left; GAVE_UP: at the bound."""

    COMPLETED = 0
    FAILED = 1
    GAVE_UP = 2


@dataclass(frozen=True)
class Backoff:
    """Of a stage's first retry rule, or the scheduler's own."""

    first_seconds: float = 1.0
    max_seconds: float = 300.0
    factor: float = 2.0

    def waits(self, retries: int) -> Floats:
        """Seconds that 0, 1, … `retries` of them take together, on the mean."""
        steps = np.minimum(self.first_seconds * self.factor ** np.minimum(np.arange(retries), 30), self.max_seconds)
        return np.append(0.0, np.cumsum(steps * JITTER_SHARE))


DEFAULT_BACKOFF = Backoff()


@dataclass(frozen=True)
class Tries:
    """chances: of an item that is executed once, twice, …; scale: executions beside those of the history; failed: share
    of items that end failed; log_variance: of executions in the history; more_varied: by how much their variance over
    their squared mean differs from that of the history."""

    chances: Floats
    scale: float
    failed: float
    log_variance: float = 0.0
    more_varied: float = 0.0

    @property
    def mean(self) -> float:
        return float((self.chances * np.arange(1, self.chances.size + 1)).sum())

    @property
    def variance(self) -> float:
        # Chances add up to 1 but for their rounding: below 0 there would be no root of it, and so no estimate.
        return max(float((self.chances * np.arange(1, self.chances.size + 1) ** 2).sum()) - self.mean**2, 0.0)


def tries_under(ends: Mapping[tuple[int, End], int], max_tries: int, *, heals: bool = False) -> Tries:
    """Executions of an item, from how items ended, under a bound. heals: an item that fails at the bound is given to a
    healer, so one that completed past it (it was healed then, too) does so again."""
    items = sum(ends.values())
    if not items:
        return Tries(np.ones(1), 1.0, 0.0)
    chances = np.zeros(max(max_tries, 1))
    before, squares, failed = 0.0, 0.0, 0.0
    logs = np.zeros(2)
    for (tries, end), count in ends.items():
        share = count / items
        executed = tries + 1 if end is End.COMPLETED else max(tries, 1)
        before += share * executed
        squares += share * executed**2
        logs += share * np.log(executed) ** np.array([1, 2])
        if executed > max_tries or (executed == max_tries and end is not End.COMPLETED):
            chances[max_tries - 1] += share
            failed += share * (not heals or end is not End.COMPLETED)
        elif end is not End.GAVE_UP:
            chances[executed - 1] += share
            failed += share * (end is End.FAILED)
        else:
            again = _again(ends, tries)
            for more in range(executed + 1, max_tries):
                chances[more - 1] += share * (1 - again)
                share *= again
            chances[max_tries - 1] += share
            failed += share * again
    log_variance = float(logs[1] - logs[0] ** 2)
    told = Tries(chances, 1.0, failed, log_variance)
    more_varied = told.variance / told.mean**2 - (squares / before**2 - 1.0)
    return replace(told, scale=told.mean / before, more_varied=more_varied)


def _again(ends: Mapping[tuple[int, End], int], tries: int) -> float:
    """How likely an execution fails after so many tries, as the last of those did."""
    reached = sum(count for (some, end), count in ends.items() if some >= tries - (end is End.COMPLETED))
    fell = sum(count for (some, end), count in ends.items() if some >= tries)
    return fell / max(reached, 1)
