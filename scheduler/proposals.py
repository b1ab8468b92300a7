"""What Redis is asked for when a worker wants items, and what it offers.

Says nothing of how: `ready` asks, `proposing` turns offers into what a transaction may grant. Nothing here can fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduler.store.effects import Place, StageKey

__all__ = ["Proposals", "Proposed", "StageAsk"]


@dataclass(frozen=True)
class StageAsk:
    """A stage that may be proposed from. most: leases it may hold; uses: what its items use, by dimension of rates."""

    key: StageKey
    epoch: int
    most: int
    owner: str = ""
    weight: float = 1.0
    priority: int = 0
    uses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Proposed:
    """What was moved to a stage's lease set, in order of rank; how many are ready still; the lanes whose number of
    parked items changed; and JSON of what each item took of its rates ("": nothing)."""

    places: list[Place]
    left: int
    waiting: Mapping[str, int]
    uses: str = ""


@dataclass(frozen=True)
class Proposals:
    """By stage. closed: stages that are not open in Redis under this epoch. next_ms: when something that limits hold
    back is worth a look. again: there is more to look at now; generation: of the Redis that was asked."""

    stages: dict[StageKey, Proposed]
    closed: list[StageKey]
    next_ms: int | None
    again: bool
    generation: str
