"""What the gRPC methods of sources and of plans share: the planner's parts, and how a plan is shown."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from penstock.declared.folder import Processors
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2
from planner.comparing import Comparing
from planner.deriving import Deriving
from planner.estimate_rows import EstimateRows
from planner.estimating import ByProfile, Estimating
from planner.guards import BUDGET_TOO_SMALL, Guards, run_budget_objection
from planner.naming import NamedSources, Version
from planner.origins import Origins
from planner.plan_copies import PlanCopies
from planner.plan_export import PlanExport
from planner.plan_import import PlanImports
from planner.planning import Planning
from planner.reading import PlanReader
from planner.references import plan_id_of
from planner.removals.removing import Removing
from planner.row_pages import RowPages
from planner.samples import Sampling
from planner.sources import DOCUMENTS, ITEMS, Sources
from planner.staging import Staging
from planner.store import PlanRow, SourceRow, Store
from planner.table_planning import TablePlanning
from planner.table_sources import TableSources
from planner.translate import plan_message
from planner.uploads import Turns

__all__ = ["Context", "PlannerCalls", "PlannerParts", "page_size"]

Context = Any


@dataclass(frozen=True, kw_only=True)
class PlannerParts:
    """What the methods are carried out with; made once, in `planner.__main__`."""

    sources: Sources
    table_sources: TableSources
    origins: Origins
    names: NamedSources
    pages: RowPages
    planning: Planning
    table_planning: TablePlanning
    deriving: Deriving
    sampling: Sampling
    guards: Guards
    comparing: Comparing
    estimating: Estimating
    estimates: EstimateRows
    reader: PlanReader
    export: PlanExport
    imports: PlanImports
    copies: PlanCopies
    removing: Removing
    processors: Processors
    staging: Staging
    store: Store
    clock: Clock


class PlannerCalls:
    """The parts of the planner that its methods need."""

    def __init__(self, parts: PlannerParts) -> None:
        self._parts = parts
        self._turns = Turns()

    def _find(self, name: str) -> tuple[SourceRow, Version | None]:
        """A version by its id, or the latest one of a name. Raises NotFound."""
        row = self._parts.store.find_source(name)
        if row is not None:
            return row, self._parts.names.of_source(name)
        version = self._parts.names.known(name)
        return self._parts.store.source(version.source_id), version

    async def _plan_id(self, named: str, field: str = "plan_id") -> str:
        """As `plan_id_of`."""
        return await plan_id_of(self._parts.store, named, field)

    async def _made(self, row: PlanRow, profiles: ByProfile = dict) -> planner_pb2.Plan:
        """A plan that was just made, estimated and shown."""
        told = await self._parts.estimating.made(row, profiles)
        return await asyncio.to_thread(self._shown, row, told=told)

    def _shown(
        self,
        row: PlanRow,
        *,
        source_moved: bool = False,
        told: planner_pb2.Plan | None = None,
        budget_micros: int | None = None,
    ) -> planner_pb2.Plan:
        """The plan, with what speaks against it as things are now. budget_micros: of a run of it."""
        message = plan_message(row, source_moved=source_moved, told=told)
        if budget_micros is not None and (short := run_budget_objection(message.estimate, budget_micros)) is not None:
            message.warnings.add(code=short.code, message=short.message)
            # Who uploads documents or items for a run has confirmed by that.
            message.needs_confirm |= short.code == BUDGET_TOO_SMALL and row.kind not in (DOCUMENTS, ITEMS)
        if row.remove_ms is not None:
            message.warnings.add(code="plan_removing", message="its removal was begun: it is read, not started")
        for objection in self._parts.guards.objections(row):
            message.warnings.add(code=objection.code, message=objection.message)
            message.needs_confirm = True
        return message


def page_size(asked: int, usual: int, most: int) -> int:
    """Raises InvalidInput for a size out of range."""
    if not 0 <= asked <= most:
        raise InvalidInput(f"page_size is {asked}, it may be 1-{most:,} (0: {usual:,})", code="bad_page_size")
    return asked or usual
