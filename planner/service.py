"""The planner's gRPC methods, put together: sources (`source_calls`), plans (`plan_calls`), their files and
copies (`plan_file_calls`), and processors."""

from __future__ import annotations

import asyncio
from typing import Any

from penstock.declared.folder import INSTALLED, Processors
from penstock.runtime.clock import Clock
from penstock.runtime.plain_text import plain_text
from penstock.v1 import planner_pb2, planner_pb2_grpc
from planner.comparing import Comparing
from planner.deriving import Deriving
from planner.estimating import Estimating
from planner.guards import Guards
from planner.naming import NamedSources
from planner.origins import Origins
from planner.plan_calls import PlanCalls
from planner.plan_copies import PlanCopies
from planner.plan_export import PlanExport
from planner.plan_file_calls import PlanFileCalls
from planner.plan_import import PlanImports
from planner.planning import Planning
from planner.processors import described, listed
from planner.reading import PlanReader
from planner.row_pages import RowPages
from planner.samples import Sampling
from planner.source_calls import SourceCalls
from planner.sources import Sources
from planner.store import Store
from planner.table_planning import TablePlanning
from planner.table_sources import TableSources
from planner.uploads import Turns

__all__ = ["PlannerService"]

Context = Any


class PlannerService(SourceCalls, PlanCalls, PlanFileCalls, planner_pb2_grpc.PlannerServiceServicer):
    def __init__(
        self,
        *,
        sources: Sources,
        table_sources: TableSources,
        origins: Origins,
        planning: Planning,
        table_planning: TablePlanning,
        deriving: Deriving,
        sampling: Sampling,
        guards: Guards,
        comparing: Comparing,
        estimating: Estimating,
        reader: PlanReader,
        export: PlanExport,
        imports: PlanImports,
        copies: PlanCopies,
        names: NamedSources,
        pages: RowPages,
        store: Store,
        clock: Clock,
        processors: Processors = INSTALLED,
    ) -> None:
        turns = Turns()
        SourceCalls.__init__(
            self,
            sources=sources,
            tables=table_sources,
            origins=origins,
            names=names,
            pages=pages,
            store=store,
            clock=clock,
            turns=turns,
        )
        PlanCalls.__init__(
            self,
            planning=planning,
            tables=table_planning,
            deriving=deriving,
            sampling=sampling,
            guards=guards,
            comparing=comparing,
            estimating=estimating,
            reader=reader,
            names=names,
            pages=pages,
            store=store,
            clock=clock,
            turns=turns,
        )
        PlanFileCalls.__init__(
            self,
            export=export,
            imports=imports,
            copies=copies,
            staging=deriving.staging,
            names=names,
            pages=pages,
            store=store,
            clock=clock,
            turns=turns,
        )
        self._processors = processors

    async def ListProcessors(
        self, request: planner_pb2.ListProcessorsRequest, context: Context
    ) -> planner_pb2.ListProcessorsResponse:
        return planner_pb2.ListProcessorsResponse(processors=await asyncio.to_thread(listed, self._processors))

    async def GetProcessor(self, request: planner_pb2.GetProcessorRequest, context: Context) -> planner_pb2.Processor:
        name = plain_text(request.name, "name")
        return await asyncio.to_thread(described, self._processors, name)
