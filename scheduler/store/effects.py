"""What a transaction means outside SQL: collected while it runs, carried out in the order of the commits.

Of a transaction that is rolled back nothing is carried out. What is lost on the way (this process or Redis dies after
the commit) is found again from the rows, by the sweeps or when Redis is made anew; what was used of rates is not: their
buckets start empty then. No other effect may be the only trace of a fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from penstock.runtime.metrics import Count
from scheduler.domain.limits import LimitState
from scheduler.store.rows import Opening
from scheduler.store.statements import Asked

__all__ = ["Effects", "Place", "Slot", "StageKey", "merged"]

StageKey = tuple[int, int]
"""(run number, stage)."""

Slot = tuple[int, str]
"""(seq, lane): what a lease holds."""

Place = tuple[int, str, int]
"""(seq, lane, rank): what is ready, and where in the order."""


@dataclass
class Effects:
    """`forget`, `ready` and `renew`: by stage, leases that are let go, items that are startable again, leases that go
    on where they are known; `adopt`: leases that go on, known or not. `used`: by lane, how much more than estimated
    (less: negative) was used of each dimension of its rates. `limits`: what became of limits; None: the limit is gone.
    `changed`: numbers of runs whose state, stage or counters changed; `moved`: of these, the ones whose states, caps or
    concurrency changed. `rebuild`: all leases there are, when Redis is to be made anew from them and from `limits`;
    `owners`: of the runs that may hold some; `learned`: what items of a stage use of rates, as its row says (the next
    proposals take so much); `begun`: runs that this transaction made, with the stage that may be leased from.

    `counts`: what metrics count of it. A call may be made again, after its group fell or its commit was doubted: so
    nothing is counted before it is durable.

    `writes` is for SQL itself: what the call has still to write, and reads no more. Whoever runs the call writes it
    before another call begins, or with the commit."""

    forget: dict[StageKey, list[Slot]] = field(default_factory=dict)
    ready: dict[StageKey, list[Place]] = field(default_factory=dict)
    renew: dict[StageKey, list[Slot]] = field(default_factory=dict)
    adopt: dict[StageKey, list[Slot]] = field(default_factory=dict)
    used: dict[str, dict[str, float]] = field(default_factory=dict)
    limits: dict[str, LimitState | None] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    moved: set[int] = field(default_factory=set)
    rebuild: dict[StageKey, list[Slot]] | None = None
    owners: dict[int, str] = field(default_factory=dict)
    learned: dict[StageKey, bytes] = field(default_factory=dict)
    begun: list[Opening] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    writes: list[Asked] = field(default_factory=list)

    def use(self, lane: str, more: Mapping[str, float]) -> None:
        """Notes that a lease of this lane used so much more than was estimated."""
        if lane:
            sums = self.used.setdefault(lane, {})
            for dimension, amount in more.items():
                if amount:
                    sums[dimension] = sums.get(dimension, 0.0) + amount

    def unused(self, lanes: Iterable[str], uses: str) -> None:
        """Notes that leases of these lanes used nothing of what was reserved for each (`uses`: JSON, "": nothing)."""
        if uses:
            nothing = {dimension: -amount for dimension, amount in orjson.loads(uses).items()}
            for lane in lanes:
                self.use(lane, nothing)


def merged(parts: Iterable[Effects]) -> Effects:
    """What calls of one transaction mean together. What one of them ends, another's renewal does not revive."""
    whole = Effects()
    for part in parts:
        whole.rebuild = part.rebuild if part.rebuild is not None else whole.rebuild
        whole.owners.update(part.owners)
        whole.learned.update(part.learned)
        whole.begun += part.begun
        whole.counts += part.counts
        for key, slots in part.forget.items():
            whole.forget.setdefault(key, []).extend(slots)
        for key, slots in part.renew.items():
            whole.renew.setdefault(key, []).extend(slots)
        for key, slots in part.adopt.items():
            whole.adopt.setdefault(key, []).extend(slots)
        for key, places in part.ready.items():
            if places:
                whole.ready.setdefault(key, []).extend(places)
        for lane, more in part.used.items():
            whole.use(lane, more)
        whole.limits.update(part.limits)
        whole.changed |= part.changed
        whole.moved |= part.moved
    for lives in (whole.renew, whole.adopt):
        for key in whole.forget.keys() & lives.keys():
            ended = set(whole.forget[key])
            lives[key] = [slot for slot in lives[key] if slot not in ended]
    return whole
