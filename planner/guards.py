"""What speaks against a plan as things are now: asked when it is shown, and once more when it is started.

A plan stays as it was made, and what it needs does not: processors are deleted, disabled or changed, workers get keys,
and each run of it may have another budget.
So none of this is kept with it. What can't run at all is refused at the start, whatever is confirmed; what a person may
know better (a worker that is started later with its key, or one with the old version) is a warning that asks first.
Names of the environment are compared; values are never read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from penstock.amounts import money_range
from penstock.declared.folder import Processors
from penstock.processor import Processor
from penstock.runtime.errors import Conflict, PenstockError
from penstock.v1 import planner_pb2
from penstock.words import dollars
from planner.domain.objections import Objection
from planner.planning import load
from planner.store import PlanRow
from planner.worker_classes import WorkerClasses

__all__ = ["BUDGET_MAY_NOT_DO", "BUDGET_TOO_SMALL", "Guards", "budget_objection", "run_budget_objection"]

BUDGET_TOO_SMALL, BUDGET_MAY_NOT_DO = "budget_too_small", "budget_may_not_do"


def budget_objection(what: str, cost: planner_pb2.Range, budget_micros: int) -> Objection | None:
    """What speaks against a budget for what it is to pay; None where nine of ten times it suffices.

    what: `stage 0 has` a budget. Compared in whole micros, as money is paid: a smaller difference can't be told.
    """
    told = money_range(cost.low, cost.high, beside=budget_micros)
    said = f"{what} a budget of {dollars(budget_micros)} and will cost {told}"
    if round(cost.low) > budget_micros:
        return Objection(BUDGET_TOO_SMALL, f"{said}: it can't finish")
    return Objection(BUDGET_MAY_NOT_DO, f"{said}: it may not finish") if round(cost.high) > budget_micros else None


def run_budget_objection(told: planner_pb2.Estimate, budget_micros: int) -> Objection | None:
    """The same of the budget that a run of the plan is to have; None also where nobody knows what it will cost."""
    return budget_objection("the run has", told.cost_micros, budget_micros) if told.HasField("cost_micros") else None


@dataclass(frozen=True)
class _Named:
    """A processor of a plan: what it is for, and by whom it runs."""

    what: str
    processor: str
    version: str
    worker_class: str


class Guards:
    def __init__(self, processors: Processors, classes: WorkerClasses) -> None:
        self._processors = processors
        self._classes = classes

    def objections(self, plan: PlanRow) -> list[Objection]:
        """All that would go wrong, each once; each of them asks before the plan starts."""
        found: dict[Objection, None] = {}
        for one in _named(plan):
            if problem := self._classes.problem(one.worker_class):
                found[Objection("unknown_worker_class", f"{one.what}: {problem}")] = None
            loaded = self._loaded(one.processor)
            if isinstance(loaded, PenstockError):
                found[Objection(loaded.code, f"{one.what} can't run: {loaded.message}")] = None
            else:
                found |= dict.fromkeys(self._differences(one, loaded))
        return list(found)

    def refuse(self, plan: PlanRow) -> None:
        """Raises Conflict for a plan that can't run: with all processors that are not there any more."""
        failed: dict[str, PenstockError] = {}
        for one in _named(plan):
            loaded = self._loaded(one.processor)
            if isinstance(loaded, PenstockError):
                failed[loaded.message] = loaded
        if failed:
            code = next(iter(failed.values())).code
            raise Conflict(f"plan {plan.plan_id} can't start: {'; '.join(failed)}", code=code)

    def _differences(self, one: _Named, loaded: type[Processor[Any]]) -> Iterator[Objection]:
        if one.version and loaded.version != one.version:
            yield Objection(
                "processor_changed",
                f"{one.what} was planned with {one.processor} {one.version}, and now it is {loaded.version}: make the "
                "plan again, or see that a worker has the old one",
            )
        if lacks := self._classes.lacks(one.worker_class, loaded.environment_needs):
            yield Objection(
                "missing_environment",
                f"{one.what}: {one.processor} needs {', '.join(lacks)}, which workers of class {one.worker_class!r} "
                "do not have: its items would fail",
            )

    def _loaded(self, name: str) -> type[Processor[Any]] | PenstockError:
        try:
            return load(name, self._processors)
        except PenstockError as error:
            return error


def _named(plan: PlanRow) -> Iterator[_Named]:
    for number, stage in enumerate(plan.stages):
        settings = stage.settings
        yield _Named(f"stage {number}", settings.processor, settings.processor_version, settings.worker_class)
        for rule in ("heal", "confirm"):
            told = settings.rules.get(rule, {})
            if told.get("processor"):
                version = told.get("processor_version", "")
                yield _Named(f"{rule} of stage {number}", told["processor"], version, settings.worker_class)
