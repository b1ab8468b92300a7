"""Estimates of plans: what their processors did before, at the settings and limits that will apply.

Made at every creation of a plan, also of one that is there already: there may be more to go by now. The estimate is no
part of the plan and never keeps one from being made: while the scheduler can't be reached, or is slow, it is made of
what is here and says so. Without history there is no runtime, and without price or history no cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.v1 import planner_pb2, scheduler_pb2
from planner.domain.stages import StageSettings
from planner.estimate_rows import EstimateRows
from planner.limits_seen import LimitsSeen
from planner.parquet import Parquet
from planner.results.copying import Results
from planner.results.history_rows import HistoryRows
from planner.store import PlanRow

__all__ = ["ByProfile", "Estimating"]

CATCH_UP_SECONDS = 3.0
"""A plan waits so long for what settled last; what comes later counts in the next estimate."""

ByProfile = Callable[[], Mapping[str, Sequence[StageSettings]]]
"""Answers by the name of a profile the settings of every stage; it may block."""

log = get_logger("planner")


@dataclass(frozen=True)
class _Seen:
    """What was asked of the scheduler. notes: what could not be."""

    limits: Sequence[scheduler_pb2.Limit] = ()
    prices: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Estimating:
    """limits: None where nobody said where the scheduler is; slots: of all workers, by their class."""

    def __init__(
        self,
        *,
        rows: EstimateRows,
        histories: HistoryRows,
        results: Results,
        limits: LimitsSeen | None,
        parquet: Parquet,
        blobs: BlobStore,
        clock: Clock,
        slots: Mapping[str, int],
    ) -> None:
        self._rows = rows
        self._histories = histories
        self._results = results
        self._limits = limits
        self._parquet = parquet
        self._blobs = blobs
        self._clock = clock
        self._slots = slots

    async def made(self, plan: PlanRow, profiles: ByProfile = dict) -> planner_pb2.Plan:
        """The estimate of a plan, and of the same items under other settings, as a Plan message that has nothing else;
        kept, too. profiles: answers by name the settings of every stage."""
        notes = await self.caught_up()
        seen = await self._asked(plan)
        try:
            told = await asyncio.to_thread(lambda: self._made(plan, profiles(), seen, notes))
            await asyncio.to_thread(self._rows.tell, plan.plan_id, told, now_ms=self._clock.now_ms())
        except PenstockError as error:
            log.warning("a plan could not be estimated", plan=plan.plan_id, why=error.message)
            return _none(error.message)
        except Exception:
            # A plan without an estimate can be run; an estimate must not be what keeps it from that.
            log.exception("a plan could not be estimated", plan=plan.plan_id)
            return _none("the planner's log says why")
        return told

    async def caught_up(self) -> tuple[str, ...]:
        """Reads what settled last; why it may be missing, where it may."""
        task = asyncio.ensure_future(self._results.catch_up())
        done, _ = await asyncio.wait({task}, timeout=CATCH_UP_SECONDS)
        if not done:
            task.add_done_callback(_looked_at)
            return ("what settled last is still being read",)
        error = task.exception()
        if isinstance(error, PenstockError):
            return (f"what settled last was not read: {error.message}",)
        if error is not None:
            log.error("what settled last was not read", exc_info=error)
            return ("what settled last was not read: an error of Penstock's own, which the planner's log has",)
        return ()

    async def _asked(self, plan: PlanRow) -> _Seen:
        paid = any(stage.settings.paid for stage in plan.stages)
        if not plan.laned and not paid:
            return _Seen()
        if self._limits is None:
            return _Seen(notes=("limits and prices are not known: this planner knows no scheduler",))
        try:
            limits, whole = await self._limits.limits() if plan.laned else ([], True)
            prices = await self._limits.prices() if paid else {}
        except PenstockError as error:
            return _Seen(notes=(f"without limits and prices: {error.message}",))
        return _Seen(limits, prices, () if whole else (f"with no limits past {limits[-1].key}",))

    def _made(
        self,
        plan: PlanRow,
        profiles: Mapping[str, Sequence[StageSettings]],
        seen: _Seen,
        notes: Sequence[str],
    ) -> planner_pb2.Plan:
        # numpy takes a tenth of a second to load: not before the planner is ready.
        from planner import estimate_making
        from planner.estimate_works import Works

        of_plan = Works(
            plan,
            parquet=self._parquet,
            blobs=self._blobs,
            limits=seen.limits,
            prices=seen.prices,
            slots=self._slots,
        )
        works = of_plan.under([stage.settings for stage in plan.stages])
        of_profiles = {name: of_plan.under(stages) for name, stages in profiles.items()}
        every = [work for some in (works, *of_profiles.values()) for work in some]
        sizes = self._histories.sizes(sorted({work.key.processor for work in every}))
        costly = self._histories.costly(sorted({work.key.processor for work in every if work.paid}))
        known = self._histories.read(estimate_making.nearest(every, sizes, costly))
        return estimate_making.made(plan.plan_id, works, known, profiles=of_profiles, notes=(*notes, *seen.notes))


def _none(why: str) -> planner_pb2.Plan:
    """Nothing is known, and that is said: a plan without a word looks like one that costs nothing."""
    return planner_pb2.Plan(estimate=planner_pb2.Estimate(words="not known", notes=[f"it could not be made: {why}"]))


def _looked_at(task: asyncio.Task[object]) -> None:
    """Whoever comes next meets the same error."""
    if not task.cancelled():
        task.exception()
