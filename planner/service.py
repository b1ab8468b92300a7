"""The planner's gRPC methods, put together: sources (`source_calls`), plans (`plan_calls`), their files and
copies (`plan_file_calls`), their removal (`removals.calls`), and processors."""

from __future__ import annotations

import asyncio

from penstock.runtime.plain_text import plain_text
from penstock.v1 import planner_pb2, planner_pb2_grpc
from planner.plan_calls import PlanCalls
from planner.plan_file_calls import PlanFileCalls
from planner.planner_calls import Context
from planner.processors import described, listed
from planner.removals.calls import RemovalCalls
from planner.source_calls import SourceCalls

__all__ = ["PlannerService"]


class PlannerService(SourceCalls, PlanCalls, PlanFileCalls, RemovalCalls, planner_pb2_grpc.PlannerServiceServicer):
    async def ListProcessors(
        self, request: planner_pb2.ListProcessorsRequest, context: Context
    ) -> planner_pb2.ListProcessorsResponse:
        return planner_pb2.ListProcessorsResponse(processors=await asyncio.to_thread(listed, self._parts.processors))

    async def GetProcessor(self, request: planner_pb2.GetProcessorRequest, context: Context) -> planner_pb2.Processor:
        name = plain_text(request.name, "name")
        return await asyncio.to_thread(described, self._parts.processors, name)
