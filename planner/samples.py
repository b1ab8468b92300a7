"""SamplePlan after the wire: a draft of some items of a plan, to be run first so that they tell of the rest.

Which items is `planner.domain.sampling`'s to say; how they become a plan, `planner.deriving`'s. A sample of more items
than the plan has is all of it, and says so. What a person should know stands in the draft's warnings: above all that
the plan itself would run these items again, where it is of a source that is taken whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput
from penstock.words import counted
from planner.deriving import Deriving
from planner.domain.objections import Objection, many_items, paid
from planner.parquet import Parquet
from planner.sources import CATALOG, TABLE, TASKS
from planner.staging import Upload
from planner.store import PlanRow, Store

__all__ = ["MAX_SAMPLE", "Sampling"]

MAX_SAMPLE = 10_000
"""More tell no more of the rest, and are no trial."""
_FED = 100_000
_DONE_TOO = ("failed_of_run",)
"""Selections that take what was done already, besides those with `again`."""


class Sampling:
    def __init__(
        self,
        *,
        deriving: Deriving,
        parquet: Parquet,
        store: Store,
        clock: Clock,
        draft_hours: float,
        confirm_above_items: int,
    ) -> None:
        self._deriving = deriving
        self._parquet = parquet
        self._store = store
        self._clock = clock
        self._draft_ms = int(draft_hours * 3_600_000)
        self._confirm_above = confirm_above_items

    def sample(self, upload: Upload, plan_id: str, size: int, *, name: str, actor: str, request_id: str) -> PlanRow:
        """Raises InvalidInput (`bad_sample`), NotFound for the plan, Unavailable. Runs in a thread."""
        if not 1 <= size <= MAX_SAMPLE:
            raise InvalidInput(f"a sample has 1-{MAX_SAMPLE:,} items, {size:,} were asked for", code="bad_sample")
        now_ms = self._clock.now_ms()
        plan = self._store.plan(plan_id, now_ms=now_ms)
        if plan.kind == TASKS:
            raise InvalidInput(
                f"plan {plan_id} is of a task file: its tasks are done once and in their order, so none is tried first",
                code="bad_sample",
            )
        file = upload.blobs.path(plan.items_sha256)
        # numpy takes a tenth of a second to load: not before the planner is ready.
        from planner.domain.sampling import sample_seqs

        seqs = sample_seqs(plan.plan_id, self._parquet.group_numbers(file, plan.stages[0].item_count), size)
        derivation = self._deriving.begin(upload, plan_id, 0)
        for first in range(0, len(seqs), _FED):
            derivation.feed(seqs[first : first + _FED].tolist())
        settings = plan.stages[0].settings
        details = {
            "warnings": [one.kept() for one in self._objections(plan, len(seqs), size)],
            "needs_confirm": len(seqs) > self._confirm_above or settings.paid,
        }
        return derivation.finish(
            name=name,
            actor=actor,
            request_id=request_id,
            method="SamplePlan",
            details=details,
            expire_ms=now_ms + self._draft_ms,
        )

    def _objections(self, plan: PlanRow, count: int, size: int) -> Iterator[Objection]:
        total, settings = plan.stages[0].item_count, plan.stages[0].settings
        of = plan.name or plan.plan_id
        if count == total:
            yield Objection(
                "sample_is_all",
                f"{of} has {counted(total, 'item')}, and {size:,} were asked for: the sample is all of it",
            )
        else:
            yield Objection(
                "sample", f"{count:,} of the {counted(total, 'item')} of {of}, over its groups and its order"
            )
        if why := _again(plan):
            yield Objection("sample_runs_again", f"{why}, so that it will run the sample's items again")
        if count > self._confirm_above:
            yield many_items(count, self._confirm_above)
        if settings.paid:
            yield paid(settings.processor)


def _again(plan: PlanRow) -> str:
    """Why the plan, made again after the sample, has its items still; empty when it leaves them out."""
    if plan.kind not in (CATALOG, TABLE):
        return "the plan is of a source that is taken whole"
    selection: dict[str, Any] = plan.details.get("selection", {})
    taken: Sequence[str] = [way for way in _DONE_TOO if way in selection]
    if taken or selection.get("again"):
        return "the plan's selection takes what is done already"
    return ""
