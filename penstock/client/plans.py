"""What will run, in which order: plans, immutable and the same for the same inputs; a preview is one, too.

Each method is one call, with the retry that is safe for it.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from penstock.client.connection import Connection
from penstock.client.filling import filled
from penstock.client.selections import Ordering, Selection, row_query
from penstock.client.uploads import CHUNK_BYTES, PathLike, chunks_of, replacing, sent
from penstock.runtime.channel import calling
from penstock.runtime.errors import InvalidInput
from penstock.v1 import common_pb2, planner_pb2, rules_pb2, sources_pb2

if TYPE_CHECKING:
    from penstock.client.rules import Rules

__all__ = ["Plans", "StageOptions"]

PLAN_SECONDS = 300.0  # a plan of ten million items is written within the call


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """What a stage is to do; zero and empty mean the default. rules: a `penstock.client.rules.Rules`, or its JSON."""

    processor: str
    parameters: Mapping[str, object] | None = None
    concurrency: int = 0
    max_tries: int = 0
    max_run_seconds: int = 0
    worker_class: str = ""
    rules: Rules | Mapping[str, object] | None = None

    def message(self) -> planner_pb2.StageSpec:
        """Raises InvalidInput for parameters that JSON can't hold, and for rules of the wrong shape."""
        try:
            parameters = orjson.dumps(dict(self.parameters)) if self.parameters else b""
        except TypeError as error:
            raise InvalidInput(
                f"parameters of {self.processor!r} can't be written as JSON: {error}", code="bad_parameters"
            ) from None
        return filled(
            planner_pb2.StageSpec,
            processor=self.processor,
            parameters=parameters,
            concurrency=self.concurrency,
            max_tries=self.max_tries,
            max_run_seconds=self.max_run_seconds,
            worker_class=self.worker_class,
            rules=_rules(self.rules),
        )


def _rules(given: Rules | Mapping[str, object] | None) -> rules_pb2.StageRules | None:
    if given is None:
        return None
    # Imported late: pydantic takes a while, and most stages have no rules.
    from penstock.client.rules import stage_rules

    return stage_rules(given)


class Plans:
    """What will run, in which order: immutable, and the same for the same inputs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        source_id: str,
        *,
        stages: Sequence[StageOptions] = (),
        selection: Selection | None = None,
        ordering: Ordering | None = None,
        profile: str = "",
        granularity: str = "",
        name: str = "",
        actor: str = "",
        validate_only: bool = False,
        request_id: str = "",
    ) -> planner_pb2.Plan:
        """Of a source's name (its latest version) or a version's id. Documents: no stages, and a granularity; all
        others: exactly one stage. Catalogs and tables take a selection and an ordering; without them all rows come, in
        the source's own order.

        validate_only: a draft, kept for 24 hours unless it is started. profile: a name of the server's settings. actor:
        who made it, where that is not the client's own.
        """
        request = filled(
            planner_pb2.CreatePlanRequest,
            source_id=source_id,
            stages=[stage.message() for stage in stages],
            selection=selection.message() if selection is not None else None,
            ordering=ordering.message() if ordering is not None else None,
            profile=profile,
            granularity=granularity,
            name=name,
            actor=actor,
            validate_only=validate_only,
        )
        return await self.make(request, request_id=request_id)

    async def make(self, request: planner_pb2.CreatePlanRequest, *, request_id: str = "") -> planner_pb2.Plan:
        """The same, of a request that is written already; its actor is the client's own unless it names one."""
        request.actor = request.actor or self._connection.actor

        async def call(chosen: str) -> planner_pb2.Plan:
            request.request_id = chosen
            return await self._connection.planner.CreatePlan(request, timeout=PLAN_SECONDS)

        return await self._connection.idempotent(call, request_id)

    async def get(self, plan_id: str, *, budget_micros: int | None = None) -> planner_pb2.Plan:
        """By its id, or by the name of a kept one; so are plans named in all methods here. budget_micros: of a run of
        it, so that the plan's warnings say whether that will do. Raises NotFound, and InvalidInput (`several_plans`)
        for a name that several have."""
        request = filled(planner_pb2.GetPlanRequest, plan_id=plan_id, budget_micros=budget_micros)
        return await self._connection.read(lambda: self._connection.planner.GetPlan(request))

    async def list_page(
        self,
        *,
        search: str = "",
        source: str = "",
        processor: str = "",
        actor: str = "",
        page_size: int = 50,
        page_token: str = "",
    ) -> planner_pb2.ListPlansResponse:
        request = filled(
            planner_pb2.ListPlansRequest,
            search=search,
            source=source,
            processor=processor,
            actor=actor,
            page_size=page_size,
            page_token=page_token,
        )
        return await self._connection.read(lambda: self._connection.planner.ListPlans(request))

    async def list(
        self, *, search: str = "", source: str = "", processor: str = "", actor: str = "", limit: int = 50
    ) -> builtins.list[planner_pb2.Plan]:
        """Kept plans, the latest first; drafts are not listed. search: part of a name; source: its name or an id;
        processor: one that a stage or its rules name; actor: who made it."""
        page = await self.list_page(search=search, source=source, processor=processor, actor=actor, page_size=limit)
        return list(page.plans)

    async def rename(self, plan_id: str, name: str, *, etag: str = "") -> planner_pb2.Plan:
        """Another name. etag: of the plan as it was seen; raises Conflict when somebody named it meanwhile.

        Sent once: with an etag a second try would meet what the first one did.
        """
        request = filled(
            planner_pb2.UpdatePlanRequest, plan_id=plan_id, name=name, etag=etag, actor=self._connection.actor
        )

        return await self._connection.once(lambda: self._connection.planner.UpdatePlan(request))

    async def remove(
        self, plan_id: str, *, etag: str = "", force: bool = False, validate_only: bool = False
    ) -> planner_pb2.DeletePlanResponse:
        """Removes a plan or a draft; the plan as it was, and how many runs it had, which are only read from now on.

        etag: of the plan as it was seen; force: also where ended runs have items left; validate_only: refuses what it
        would refuse, and removes nothing.

        Raises Conflict (`plan_needed`) that names the runs that need it. Sent once: a second try could not tell its own
        success from a plan that never was.
        """
        request = filled(
            planner_pb2.DeletePlanRequest,
            plan_id=plan_id,
            etag=etag,
            force=force,
            validate_only=validate_only,
            actor=self._connection.actor,
        )
        return await self._connection.once(lambda: self._connection.planner.DeletePlan(request, timeout=PLAN_SECONDS))

    async def rows(
        self,
        plan_id: str,
        *,
        filter: str = "",  # noqa: A002
        search: str = "",
        order_by: str = "",
        skip: int = 0,
        page_size: int = 100,
        with_groups: bool = False,
        result_of: str = "",
        stage: int = 0,
    ) -> sources_pb2.RowPage:
        """A page of a plan's order, each row with why it is there; what is asked is as of `sources.rows`."""
        query = row_query(
            filter=filter,
            search=search,
            order_by=order_by,
            skip=skip,
            page_size=page_size,
            with_groups=with_groups,
            result_of=result_of,
        )
        request = filled(planner_pb2.ReadPlanRowsRequest, plan_id=plan_id, stage=stage, query=query)
        return await self._connection.read(lambda: self._connection.planner.ReadPlanRows(request))

    async def estimates(
        self, *, plan_id: str = "", page_size: int = 20, page_token: str = ""
    ) -> planner_pb2.ListEstimatesResponse:
        """What was told when runs were started, beside what happened, the latest first; and how good the last twenty
        were. plan_id: of its runs alone."""
        request = filled(planner_pb2.ListEstimatesRequest, plan_id=plan_id, page_size=page_size, page_token=page_token)
        return await self._connection.read(lambda: self._connection.planner.ListEstimates(request))

    async def compare(self, plan_id: str, other_plan_id: str) -> planner_pb2.PlanComparison:
        """What the other plan has that the one has not: items, places, settings."""
        request = filled(planner_pb2.ComparePlansRequest, plan_id=plan_id, other_plan_id=other_plan_id)
        return await self._connection.read(lambda: self._connection.planner.ComparePlans(request))

    async def sample(self, plan_id: str, size: int, *, name: str = "", request_id: str = "") -> planner_pb2.Plan:
        """A draft of some of a plan's items, over its groups and its order, to be run first; its warnings tell what a
        person should know. As many as the plan has, or more: all of it. Raises InvalidInput (`bad_sample`)."""
        request = filled(
            planner_pb2.SamplePlanRequest, plan_id=plan_id, size=size, name=name, actor=self._connection.actor
        )

        async def call(chosen: str) -> planner_pb2.Plan:
            request.request_id = chosen
            return await self._connection.planner.SamplePlan(request, timeout=PLAN_SECONDS)

        return await self._connection.idempotent(call, request_id)

    async def profiles(self) -> builtins.list[planner_pb2.Profile]:
        """The profiles that plans may name, and what each sets."""
        request = planner_pb2.ListProfilesRequest()
        return list((await self._connection.read(lambda: self._connection.planner.ListProfiles(request))).profiles)

    async def copy(
        self,
        plan_id: str,
        *,
        name: str = "",
        changes: StageOptions | None = None,
        request_id: str = "",
    ) -> planner_pb2.Plan:
        """The same items in the same order of the same source version; what `changes` leaves zero or empty stays, its
        processor too, and parameters that are given take the place of those of their names. Without any change it is
        the plan itself. Raises InvalidInput for a plan of several stages."""
        request = filled(
            planner_pb2.CopyPlanRequest,
            plan_id=plan_id,
            changes=changes.message() if changes is not None else None,
            name=name,
            actor=self._connection.actor,
        )

        async def call(chosen: str) -> planner_pb2.Plan:
            request.request_id = chosen
            return await self._connection.planner.CopyPlan(request, timeout=PLAN_SECONDS)

        return await self._connection.idempotent(call, request_id)

    async def export(self, plan_id: str, *, without_source: bool = False) -> AsyncIterator[bytes]:
        """The plan as one file, some hundred kilobytes at a time. Raises InvalidInput for one that is not of a catalog
        or table."""
        request = filled(planner_pb2.ExportPlanRequest, plan_id=plan_id, without_source=without_source)
        with calling():
            async for part in self._connection.planner.ExportPlan(request):
                yield part.chunk

    async def save(self, plan_id: str, path: PathLike, *, without_source: bool = False) -> int:
        """Writes that file; answers how many bytes it has. A file of that name is replaced once all of it is there."""
        size = 0
        with replacing(Path(path)) as file:
            async for chunk in self.export(plan_id, without_source=without_source):
                size += await asyncio.to_thread(file.write, chunk)
        return size

    async def load(
        self, source: PathLike | AsyncIterator[bytes], *, name: str = "", request_id: str = ""
    ) -> planner_pb2.Plan:
        """The plan of such a file, or of its bytes, under the same id. Sent once; what breaks off keeps nothing.

        Raises InvalidInput for a file that is damaged or that can't run here, Conflict, TooLarge.
        """
        connection = self._connection
        chunks = source if isinstance(source, AsyncIterator) else chunks_of(Path(source))

        async def parts() -> AsyncIterator[planner_pb2.ImportPlanRequest]:
            header = filled(
                planner_pb2.ImportPlanRequest.Header, name=name, actor=connection.actor, request_id=request_id
            )
            yield planner_pb2.ImportPlanRequest(header=header)
            async for chunk in chunks:
                for first in range(0, len(chunk), CHUNK_BYTES):
                    yield planner_pb2.ImportPlanRequest(chunk=chunk[first : first + CHUNK_BYTES])

        plan: planner_pb2.Plan = await connection.once(lambda: sent(connection.planner.ImportPlan(), parts()))
        return plan

    async def items_page(
        self, plan_id: str, *, stage: int = 0, after_seq: int = -1, limit: int = 1000
    ) -> planner_pb2.ReadPlanItemsResponse:
        request = planner_pb2.ReadPlanItemsRequest(plan_id=plan_id, stage=stage, after_seq=after_seq, limit=limit)
        return await self._connection.read(lambda: self._connection.planner.ReadPlanItems(request))

    async def items(self, plan_id: str, *, stage: int = 0) -> AsyncIterator[common_pb2.Item]:
        """Every item of a stage, in order, a page at a time."""
        after = -1
        while True:
            page = await self.items_page(plan_id, stage=stage, after_seq=after)
            for item in page.items:
                yield item
            if page.end or not page.items:
                return
            after = page.items[-1].seq
