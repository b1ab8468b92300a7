"""gRPC of plans as files, and of copies: validate, call, translate. What blocks runs in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from penstock.runtime.errors import InvalidInput
from penstock.runtime.logs import get_logger
from penstock.runtime.plain_text import plain_text
from penstock.v1 import planner_pb2
from planner.planner_calls import Context, PlannerCalls
from planner.store import PlanRow, SourceRow
from planner.uploads import MAX_CHUNK_BYTES, in_thread, next_part

__all__ = ["PlanFileCalls"]

log = get_logger("planner")


class PlanFileCalls(PlannerCalls):
    """The methods of PlannerService that make plans of plans."""

    async def CopyPlan(self, request: planner_pb2.CopyPlanRequest, context: Context) -> planner_pb2.Plan:
        plan_id = await self._plan_id(request.plan_id)
        name, actor = plain_text(request.name, "name"), plain_text(request.actor, "actor")
        request_id = plain_text(request.request_id, "request_id")
        row = await in_thread(
            lambda: self._parts.copies.copy(plan_id, request.changes, name=name, actor=actor, request_id=request_id)
        )
        log.info("a plan was copied", plan=row.plan_id, of=plan_id)
        return await self._told(row)

    async def ExportPlan(
        self, request: planner_pb2.ExportPlanRequest, context: Context
    ) -> AsyncIterator[planner_pb2.PlanFilePart]:
        plan_id = await self._plan_id(request.plan_id)

        def find() -> tuple[PlanRow, SourceRow]:
            row = self._parts.store.plan(plan_id, now_ms=self._parts.clock.now_ms())
            return row, self._parts.store.source(row.source_id)

        row, source = await asyncio.to_thread(find)
        async with self._turns.one():
            parts = self._parts.export.parts(row, source, carried=not request.without_source)
            try:
                while (part := await in_thread(lambda: next(parts, None))) is not None:
                    yield planner_pb2.PlanFilePart(chunk=part)
            finally:
                # It holds a cursor: it ends with the call, also when nobody reads on.
                await in_thread(parts.close)

    async def ImportPlan(
        self, request_iterator: AsyncIterator[planner_pb2.ImportPlanRequest], context: Context
    ) -> planner_pb2.Plan:
        parts = aiter(request_iterator)
        first = await next_part(parts)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidInput("an imported plan begins with a header message", code="bad_stream")
        header = first.header
        name, actor = plain_text(header.name, "name"), plain_text(header.actor, "actor")
        request_id = plain_text(header.request_id, "request_id")
        async with self._turns.one():
            with self._parts.staging.upload() as folder:
                file = await in_thread(lambda: self._parts.imports.begin(folder))
                while (part := await next_part(parts)) is not None:
                    if part.WhichOneof("part") != "chunk" or len(part.chunk) > MAX_CHUNK_BYTES:
                        raise InvalidInput(
                            f"after the header come chunks of at most {MAX_CHUNK_BYTES:,} bytes", code="bad_stream"
                        )
                    await in_thread(lambda chunk=part.chunk: file.feed(chunk))  # type: ignore[misc]
                row = await in_thread(
                    lambda: file.finish(name=name, actor=actor, request_id=request_id), stop=file.stop
                )
        log.info("a plan was imported", plan=row.plan_id, source=row.source_id, actor=actor)
        return await self._told(row)

    async def _told(self, row: PlanRow) -> planner_pb2.Plan:
        """The plan, shown; a plan that was here already keeps its estimate, which has what this call can't tell: the
        same items under each profile."""
        kept = await asyncio.to_thread(self._parts.estimates.told, [row.plan_id], groups=True)
        if row.plan_id not in kept:
            return await self._made(row)
        return await asyncio.to_thread(self._shown, row, told=kept[row.plan_id])
