"""Sources, plans, collections and processors: one method a call, typed, with the retry that is safe for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from penstock.client.connection import Connection
from penstock.client.filling import filled
from penstock.client.uploads import PathLike, document_parts, item_parts, listed
from penstock.runtime.channel import calling
from penstock.runtime.errors import InvalidInput
from penstock.v1 import analyzer_pb2, common_pb2, planner_pb2, rules_pb2

if TYPE_CHECKING:
    from penstock.client.rules import Rules

__all__ = ["Collections", "Plans", "Processors", "Sources", "StageOptions"]

PLAN_SECONDS = 300.0  # a plan of ten million items is written within the call

Part = planner_pb2.CreateSourceRequest


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


class Sources:
    """Where items come from, kept as immutable snapshots."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def documents(
        self,
        paths: Sequence[PathLike],
        *,
        zip: bool = False,  # noqa: A002
        request_id: str = "",
    ) -> planner_pb2.Source:
        """Uploads files and folders, or the one archive when `zip`. Raises InvalidInput, TooLarge, NotFound."""
        files = listed(paths)
        if zip and len(files) != 1:
            raise InvalidInput(f"zip means one archive; {len(files)} files were given", code="one_archive")
        return await self._connection.idempotent(
            lambda chosen: self.create(document_parts(files, archive=zip, request_id=chosen)), request_id
        )

    async def items(
        self, items: PathLike | Sequence[Mapping[str, object]], *, request_id: str = ""
    ) -> planner_pb2.Source:
        """Uploads plain items: a JSONL file, or mappings with `key`, and optionally `group` and `payload`."""
        return await self._connection.idempotent(
            lambda chosen: self.create(item_parts(items, request_id=chosen)), request_id
        )

    async def create(self, parts: AsyncIterator[Part]) -> planner_pb2.Source:
        """Sends one stream, once. When `parts` raises, the call is cancelled and the planner keeps nothing of it."""
        call = self._connection.planner.CreateSource()
        try:
            with calling():
                # A write after the planner has answered raises InvalidStateError: its answer says why.
                with contextlib.suppress(asyncio.InvalidStateError):
                    async for part in parts:
                        if call.done():
                            break
                        await call.write(part)
                    else:
                        await call.done_writing()
                return await call
        finally:
            call.cancel()

    async def get(self, source_id: str) -> planner_pb2.Source:
        request = planner_pb2.GetSourceRequest(source_id=source_id)
        return await self._connection.read(lambda: self._connection.planner.GetSource(request))


class Plans:
    """What will run, in which order: immutable, and the same for the same inputs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        source_id: str,
        *,
        stages: Sequence[StageOptions] = (),
        granularity: str = "",
        name: str = "",
        validate_only: bool = False,
        request_id: str = "",
    ) -> planner_pb2.Plan:
        """Documents: no stages, and a granularity. Items: exactly one stage.

        validate_only: a draft, kept for 24 hours unless it is started.
        """
        request = planner_pb2.CreatePlanRequest(
            source_id=source_id,
            stages=[stage.message() for stage in stages],
            granularity=granularity,
            name=name,
            validate_only=validate_only,
        )

        async def call(chosen: str) -> planner_pb2.Plan:
            request.request_id = chosen
            return await self._connection.planner.CreatePlan(request, timeout=PLAN_SECONDS)

        return await self._connection.idempotent(call, request_id)

    async def get(self, plan_id: str) -> planner_pb2.Plan:
        request = planner_pb2.GetPlanRequest(plan_id=plan_id)
        return await self._connection.read(lambda: self._connection.planner.GetPlan(request))

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


class Processors:
    """The processors that plans may name."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> list[planner_pb2.Processor]:
        request = planner_pb2.ListProcessorsRequest()
        answer = await self._connection.read(lambda: self._connection.planner.ListProcessors(request))
        return list(answer.processors)


class Collections:
    """Analysed sets of documents, by run."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, run_id: str) -> analyzer_pb2.Collection:
        """Raises NotFound until the collection stage of the run is done."""
        request = analyzer_pb2.GetCollectionRequest(run_id=run_id)
        return await self._connection.read(lambda: self._connection.analyzer.GetCollection(request))

    async def documents_page(
        self, run_id: str, *, page_size: int = 1000, page_token: str = "", seqs: Sequence[int] = ()
    ) -> analyzer_pb2.ListCollectionDocumentsResponse:
        """In cluster order; or exactly those with the given seqs."""
        request = analyzer_pb2.ListCollectionDocumentsRequest(
            run_id=run_id, page_size=page_size, page_token=page_token, seqs=seqs
        )
        return await self._connection.read(lambda: self._connection.analyzer.ListCollectionDocuments(request))

    async def pages(
        self, run_id: str, page_size: int = 5000
    ) -> AsyncIterator[Sequence[analyzer_pb2.CollectionDocument]]:
        token = ""
        while True:
            page = await self.documents_page(run_id, page_size=page_size, page_token=token)
            yield page.documents
            token = page.next_page_token
            if not token:
                return
