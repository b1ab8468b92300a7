"""What a plan's stages are to do, as their estimate takes it: items by group, settings, limits, slots, prices.

Of a catalog or table the plan's row tells its groups; of others they are counted in its file, once an estimate. Past
1,000 groups or lanes the smallest are taken together, or left out. Imported late: numpy takes a tenth of a second.
Calls block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.runtime.blobs import BlobStore
from penstock.v1 import scheduler_pb2
from planner.domain.history import HistoryKey
from planner.domain.limits_named import GivenLimit, limits_of
from planner.domain.parameter_names import shown_parameters
from planner.domain.stages import StageSettings
from planner.domain.tries import DEFAULT_BACKOFF, Backoff
from planner.domain.work import Limit, StageWork
from planner.estimate_making import OTHERS
from planner.parquet import Parquet
from planner.rules import as_message
from planner.store import PlanRow

__all__ = ["Works"]

MOST_GROUPS, MOST_LANES = 1_000, 1_000


@dataclass(frozen=True)
class _Groups:
    """Items by group, in order; grouped: one group stands after another."""

    items: Mapping[str, int]
    grouped: bool


class Works:
    """Of one plan. slots: of all workers, by their class; prices: of an item, by processor."""

    def __init__(
        self,
        plan: PlanRow,
        *,
        parquet: Parquet,
        blobs: BlobStore,
        limits: Sequence[scheduler_pb2.Limit],
        prices: Mapping[str, int],
        slots: Mapping[str, int],
    ) -> None:
        self._plan = plan
        self._slots = slots
        self._prices = prices
        first = _groups(plan, parquet, blobs)
        self._groups = [first, *(_Groups({"": stage.item_count}, grouped=True) for stage in plan.stages[1:])]
        given = [_given(limit) for limit in limits]
        self._limits: list[Sequence[Limit]] = [() for _ in plan.stages]
        if plan.laned and given:
            table = blobs.path(plan.lanes_sha256)
            self._limits = [
                limits_of(parquet.count_lanes(table, stage=number, limit=MOST_LANES), given)
                for number in range(len(plan.stages))
            ]

    def under(self, stages: Sequence[StageSettings]) -> list[StageWork]:
        """With these settings, of every stage."""
        return [
            StageWork(
                key=HistoryKey(one.processor, one.processor_version, shown_parameters(one.parameters)),
                items=self._groups[number].items,
                concurrency=one.concurrency,
                max_tries=one.max_tries,
                slots=self._slots.get(one.worker_class),
                limits=self._limits[number],
                backoff=_backoff(one),
                grouped=self._groups[number].grouped,
                paid=one.paid,
                price_micros=self._prices.get(one.processor),
                heals="heal" in one.rules,
            )
            for number, one in enumerate(stages)
        ]


def _groups(plan: PlanRow, parquet: Parquet, blobs: BlobStore) -> _Groups:
    count = plan.stages[0].item_count
    if "groups" in plan.details:
        items = {one["group"]: int(one["count"]) for one in plan.details["groups"]}
        grouped = bool(plan.details.get("grouped", True))
    else:
        found = parquet.count_groups(blobs.path(plan.items_sha256), limit=MOST_GROUPS)
        items = {group: some for group, some, _, _ in found}
        grouped = all(last - first + 1 == some for _, some, first, last in found)
    if (rest := count - sum(items.values())) > 0:
        items[OTHERS] = rest
    return _Groups(items, grouped)


def _given(limit: scheduler_pb2.Limit) -> GivenLimit:
    return GivenLimit(
        limit.key,
        limit.concurrency if limit.HasField("concurrency") else None,
        [(rate.dimension, rate.per_minute, rate.burst, rate.estimate) for rate in limit.rates],
    )


def _backoff(settings: StageSettings) -> Backoff:
    """Of its first rule for failures of any kind."""
    for rule in as_message(settings.rules).retry if settings.rules else ():
        if not rule.kinds and not rule.fingerprint:
            usual = DEFAULT_BACKOFF
            return Backoff(
                rule.first_seconds or usual.first_seconds,
                rule.max_seconds or usual.max_seconds,
                rule.factor or usual.factor,
            )
    return DEFAULT_BACKOFF
