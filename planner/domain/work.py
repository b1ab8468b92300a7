"""What a stage is to do, as its estimate takes it: items by group, the settings, and the limits that will apply. Pure;
numbers come checked from the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.domain.history import HistoryKey
from planner.domain.tries import DEFAULT_BACKOFF, Backoff

__all__ = ["REQUESTS", "Limit", "StageWork"]

REQUESTS = "requests"
"""The dimension of which an attempt uses one."""
BURST_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit that `items` of a stage name, with one of its rates: a limit with several stands here several times.

    concurrency: leases at once; per_minute, burst: of `dimension` (0: no rate, the default burst); uses: what an
    attempt uses of it on the mean.
    """

    key: str
    items: int
    concurrency: int | None = None
    dimension: str = REQUESTS
    per_minute: float = 0.0
    burst: float = 0.0
    uses: float = 1.0

    @property
    def filled_burst(self) -> float:
        """As the scheduler fills it in: a tenth of a minute, at least 1."""
        return self.burst or max(self.per_minute * BURST_SHARE, 1.0)

    @property
    def flow_per_second(self) -> float:
        """What flows in, so that no minute lets more through than the rate, the burst included: as the scheduler has
        it (scheduler.domain.limits.flow_of; a test holds both together)."""
        first = 1.0 if self.dimension == REQUESTS else 0.0
        over = max(self.filled_burst - first, 0.0)
        return max(self.per_minute - over, self.per_minute / 2) / 60

    def opens_seconds(self, attempts: float) -> float:
        """When the rate lets the last of so many attempts begin at the earliest."""
        if not self.per_minute:
            return 0.0
        return max(attempts * self.uses - self.filled_burst, 0.0) / self.flow_per_second


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """A stage of a plan.

    key: whose history counts; items: by group, in the plan's order; grouped: groups stand one after another; slots: of
    the workers that may take them, None: enough; paid: its processor may cost money; price_micros: of an item, by the
    operator's price table; heals: what fails at the bound of its tries is given to a healer.
    """

    key: HistoryKey
    items: Mapping[str, int]
    concurrency: int
    max_tries: int = 5
    slots: int | None = None
    limits: Sequence[Limit] = ()
    backoff: Backoff = DEFAULT_BACKOFF
    grouped: bool = True
    paid: bool = True
    price_micros: int | None = None
    heals: bool = False

    @property
    def count(self) -> int:
        return sum(self.items.values())
