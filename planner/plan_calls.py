"""gRPC of plans: validate, call, translate. What blocks runs in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import json_format

from penstock.runtime.clock import milliseconds_of
from penstock.runtime.errors import Conflict, InvalidInput
from penstock.runtime.logs import get_logger
from penstock.runtime.paging import page_position
from penstock.runtime.plain_text import plain_text
from penstock.v1 import planner_pb2, sources_pb2
from planner.choices import ordering_of
from planner.domain.stages import StageSettings
from planner.estimate_faces import estimates_page
from planner.planner_calls import Context, PlannerCalls, page_size
from planner.planning import PlanRequest
from planner.profiles import profile_message
from planner.sources import CATALOG, TABLE
from planner.store import PlanRow, SourceRow, refuse_removing
from planner.table_planning import TablePlan
from planner.translate import change_of, plan_message, stage_requests
from planner.uploads import in_thread, next_part

__all__ = ["PlanCalls"]

MAX_SEQS = 100_000
LANES_PAGE, MAX_LANES_PAGE = 1_000, 10_000

log = get_logger("planner")


class PlanCalls(PlannerCalls):
    """The methods of PlannerService about plans."""

    async def CreatePlan(self, request: planner_pb2.CreatePlanRequest, context: Context) -> planner_pb2.Plan:
        source, version = await asyncio.to_thread(self._find, plain_text(request.source_id, "source_id"))
        wanted = PlanRequest(
            source_id=source.source_id,
            stages=stage_requests(request.stages),
            granularity=plain_text(request.granularity, "granularity"),
            name=plain_text(request.name, "name"),
            draft=request.validate_only,
            request_id=plain_text(request.request_id, "request_id"),
            profile=plain_text(request.profile, "profile"),
            actor=plain_text(request.actor, "actor"),
        )
        if source.kind in (CATALOG, TABLE):
            asked = TablePlan(selection=request.selection, ordering=request.ordering, actor=wanted.actor)
            row = await self._parts.table_planning.create(source, version, wanted, asked)
        else:
            if request.HasField("selection") or request.HasField("ordering"):
                raise InvalidInput(
                    "rows are selected and ordered of catalogs and tables; this source is taken whole, in its order",
                    code="bad_selection",
                )
            row = await in_thread(lambda: self._parts.planning.create(wanted, version))
        log.info("a plan was made", plan=row.plan_id, source=row.source_id, draft=row.draft)
        return await self._made(row, lambda: self._under_profiles(source, wanted))

    async def GetPlan(self, request: planner_pb2.GetPlanRequest, context: Context) -> planner_pb2.Plan:
        plan_id = await self._plan_id(request.plan_id)
        budget = request.budget_micros if request.HasField("budget_micros") else None

        def read() -> planner_pb2.Plan:
            row = self._parts.store.plan(plan_id, now_ms=self._parts.clock.now_ms())
            told = self._parts.estimates.told([plan_id], groups=True).get(plan_id)
            return self._shown(row, source_moved=self._moved(row), told=told, budget_micros=budget)

        return await asyncio.to_thread(read)

    async def KeepPlan(self, request: planner_pb2.KeepPlanRequest, context: Context) -> planner_pb2.Plan:
        plan_id = await self._plan_id(request.plan_id)
        budget = request.budget_micros if request.HasField("budget_micros") else None
        start_ms = milliseconds_of(request.start_time, "start_time") if request.HasField("start_time") else None

        def keep() -> PlanRow:
            now_ms = self._parts.clock.now_ms()
            row = self._parts.store.plan(plan_id, now_ms=now_ms)
            refuse_removing(row)
            self._parts.guards.refuse(row)
            told = self._parts.estimates.told([plan_id]).get(plan_id)
            shown = self._shown(row, told=told, budget_micros=budget)
            if shown.needs_confirm and not request.confirm:
                warned = "; ".join(warning.message for warning in shown.warnings)
                raise Conflict(f"plan {plan_id} asks first: {warned}", code="confirm_required")
            # Whatever is told of the plan later, its run is compared with what is told now: by the clock of its times.
            self._parts.estimates.start(plan_id, now_ms=now_ms if start_ms is None else start_ms)
            return self._parts.store.keep_draft(plan_id, now_ms=now_ms) if row.draft else row

        return plan_message(await asyncio.to_thread(keep))

    async def ListPlans(self, request: planner_pb2.ListPlansRequest, context: Context) -> planner_pb2.ListPlansResponse:
        limit = page_size(request.page_size, 50, 1_000)
        search, source = plain_text(request.search, "search"), plain_text(request.source, "source")
        processor, actor = plain_text(request.processor, "processor"), plain_text(request.actor, "actor")
        before = plain_text(request.page_token, "page_token")

        def read() -> planner_pb2.ListPlansResponse:
            found = self._parts.store.plans(
                before=before, search=search, source=source, limit=limit + 1, processor=processor, actor=actor
            )
            told = self._parts.estimates.told([row.plan_id for row in found[:limit]])
            plans = [
                plan_message(row, source_moved=self._moved(row), told=told.get(row.plan_id)) for row in found[:limit]
            ]
            token = f"{found[limit - 1].create_ms}.{found[limit - 1].plan_id}" if len(found) > limit else ""
            return planner_pb2.ListPlansResponse(plans=plans, next_page_token=token)

        return await asyncio.to_thread(read)

    async def UpdatePlan(self, request: planner_pb2.UpdatePlanRequest, context: Context) -> planner_pb2.Plan:
        plan_id, name = await self._plan_id(request.plan_id), plain_text(request.name, "name")
        row = await asyncio.to_thread(
            self._parts.store.rename_plan,
            plan_id,
            name,
            change=change_of(request.etag),
            now_ms=self._parts.clock.now_ms(),
        )
        log.info("a plan was named", plan=plan_id, name=name, actor=plain_text(request.actor, "actor"))
        return plan_message(row)

    async def ReadPlanItems(
        self, request: planner_pb2.ReadPlanItemsRequest, context: Context
    ) -> planner_pb2.ReadPlanItemsResponse:
        plan_id = await self._plan_id(request.plan_id)
        if request.seqs:
            window = await self._parts.reader.exactly(plan_id, stage=request.stage, seqs=request.seqs)
        else:
            window = await self._parts.reader.window(
                plan_id,
                stage=request.stage,
                after_seq=request.after_seq,
                limit=request.limit,
                only=request.only_lanes,
                without=request.without_lanes,
            )
        answer = planner_pb2.ReadPlanItemsResponse(end=window.end, last_seq=window.last)
        add = answer.items.add
        for seq, key, group, payload, lane in window.items:
            add(seq=seq, key=key, group=group, payload=payload, lane=lane)
        return answer

    async def ReadPlanRows(self, request: planner_pb2.ReadPlanRowsRequest, context: Context) -> sources_pb2.RowPage:
        plan_id = await self._plan_id(request.plan_id)

        def find() -> tuple[PlanRow, SourceRow]:
            row = self._parts.store.plan(plan_id, now_ms=self._parts.clock.now_ms())
            return row, self._parts.store.source(row.source_id)

        row, source = await asyncio.to_thread(find)
        items = await asyncio.to_thread(self._parts.staging.blobs.path, row.items_sha256)
        page = await self._parts.pages.page(source, row.source_name or row.source_id, request.query, plan=items)
        placed = _why(row)
        for one in page.rows:
            one.why = placed(one.group)
        return page

    async def ListPlanLanes(
        self, request: planner_pb2.ListPlanLanesRequest, context: Context
    ) -> planner_pb2.ListPlanLanesResponse:
        plan_id = await self._plan_id(request.plan_id)
        limit = page_size(request.page_size, LANES_PAGE, MAX_LANES_PAGE)
        # A token is the first seq of the next page's first lane; no two lanes have the same.
        position = page_position(request.page_token) or 0
        found = await self._parts.reader.lanes(plan_id, stage=request.stage, after=position - 1, limit=limit + 1)
        lanes = [planner_pb2.PlanLane(lane=lane, count=count, first_seq=first) for lane, count, first in found[:limit]]
        token = str(found[limit][2]) if len(found) > limit else ""
        return planner_pb2.ListPlanLanesResponse(lanes=lanes, next_page_token=token)

    async def DerivePlan(
        self, request_iterator: AsyncIterator[planner_pb2.DerivePlanRequest], context: Context
    ) -> planner_pb2.Plan:
        parts = aiter(request_iterator)
        first = await next_part(parts)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidInput("a derived plan begins with a header message", code="bad_stream")
        plan_id = await self._plan_id(first.header.plan_id)
        name, request_id = plain_text(first.header.name, "name"), plain_text(first.header.request_id, "request_id")
        actor = plain_text(first.header.actor, "actor")
        async with self._turns.one():
            with self._parts.staging.upload() as folder:
                derivation = await in_thread(lambda: self._parts.deriving.begin(folder, plan_id, first.header.stage))
                while (part := await next_part(parts)) is not None:
                    if part.WhichOneof("part") != "seqs" or len(part.seqs.seqs) > MAX_SEQS:
                        raise InvalidInput(
                            f"after the header come seqs, at most {MAX_SEQS:,} a message", code="bad_stream"
                        )
                    await in_thread(lambda seqs=part.seqs.seqs: derivation.feed(seqs))  # type: ignore[misc]
                row = await in_thread(lambda: derivation.finish(name=name, actor=actor, request_id=request_id))
        log.info("a plan was derived", plan=row.plan_id, of=plan_id, items=row.stages[0].item_count)
        return await self._made(row)

    async def ListEstimates(
        self, request: planner_pb2.ListEstimatesRequest, context: Context
    ) -> planner_pb2.ListEstimatesResponse:
        limit = page_size(request.page_size, 20, 1_000)
        before = page_position(request.page_token) or 0
        plan_id = await self._plan_id(request.plan_id) if request.plan_id else ""
        notes = await self._parts.estimating.caught_up()
        rows = self._parts.estimates
        return await asyncio.to_thread(estimates_page, rows, before=before, plan_id=plan_id, limit=limit, notes=notes)

    async def SamplePlan(self, request: planner_pb2.SamplePlanRequest, context: Context) -> planner_pb2.Plan:
        plan_id, name = await self._plan_id(request.plan_id), plain_text(request.name, "name")
        actor, request_id = plain_text(request.actor, "actor"), plain_text(request.request_id, "request_id")

        def sampled() -> PlanRow:
            with self._parts.staging.upload() as folder:
                return self._parts.sampling.sample(
                    folder, plan_id, request.size, name=name, actor=actor, request_id=request_id
                )

        async with self._turns.one():
            row = await in_thread(sampled)
        log.info("a sample of a plan was made", plan=row.plan_id, of=plan_id, items=row.stages[0].item_count)
        return await self._made(row)

    async def ListProfiles(
        self, request: planner_pb2.ListProfilesRequest, context: Context
    ) -> planner_pb2.ListProfilesResponse:
        return planner_pb2.ListProfilesResponse(profiles=map(profile_message, self._parts.planning.profiles.all))

    async def ComparePlans(
        self, request: planner_pb2.ComparePlansRequest, context: Context
    ) -> planner_pb2.PlanComparison:
        one = await self._plan_id(request.plan_id)
        other = await self._plan_id(request.other_plan_id, "other_plan_id")

        def read() -> planner_pb2.PlanComparison:
            now_ms, plan = self._parts.clock.now_ms(), self._parts.store.plan
            return self._parts.comparing.compare(plan(one, now_ms=now_ms), plan(other, now_ms=now_ms))

        return await asyncio.to_thread(read)

    def _under_profiles(self, source: SourceRow, request: PlanRequest) -> dict[str, list[StageSettings]]:
        """The stages as each profile would have them."""
        found = self._parts.planning.all_profiles(source, request)
        return {name: [stage.settings for stage in stages] for name, stages in found.items()}

    def _moved(self, row: PlanRow) -> bool:
        """Whether its source has a later version."""
        if not row.source_name:
            return False
        latest = self._parts.names.latest(row.source_name)
        return latest is not None and latest.version > row.source_version


def _why(row: PlanRow) -> Any:
    """Of a group: which rule chose an item of it, and what placed it."""
    ordering = ordering_of(json_format.ParseDict(row.details.get("ordering", {}), sources_pb2.Ordering()))
    rule = row.details.get("rule", "all")
    sort = "sort keys" if not ordering.as_selected else "the order of the selection"

    def why(group: str) -> str:
        placed = ordering.placed(group)
        if placed.by == "sort":
            return f"{rule}; placed by {sort}"
        return f"{rule}; group {placed.by} {placed.place}, then {sort}"

    return why
