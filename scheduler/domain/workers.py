"""How many workers a class needs: pure arithmetic, over all open stages, and between the warm ones and the bound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Demand", "wanted_workers"]


@dataclass(frozen=True)
class Demand:
    """An open stage: items leased now, startable now, and the bound on both together."""

    leased: int
    startable: int
    concurrency: int

    @property
    def claimable(self) -> int:
        return max(min(self.startable, self.concurrency - self.leased), 0)


def wanted_workers(demands: Iterable[Demand], *, slots: int, most: int, warm: int, alone: int = 0) -> int:
    """Workers that this work can use, at least the warm ones, at most `most`. alone: how many of those that there are
    run one item at a time, whatever slots they have."""
    items = sum(demand.leased + demand.claimable for demand in demands) + alone * (slots - 1)
    return min(most, max(warm, -(-items // slots)))
