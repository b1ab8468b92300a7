"""Planner, scheduler and analyzer as three small gRPC services in this process: what they were told, and answers that
a test chooses.

For what the real programs can't be brought to on purpose: exact counts, ten thousand documents at once, a stream that
breaks, a service that is away for one call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from penstock.client import AsyncClient, Endpoints
from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import NotFound, PenstockError, Unavailable
from penstock.runtime.interceptors import CallInterceptor
from penstock.runtime.program import Health
from penstock.v1 import (
    analyzer_pb2,
    analyzer_pb2_grpc,
    planner_pb2,
    planner_pb2_grpc,
    scheduler_pb2,
    scheduler_pb2_grpc,
    sources_pb2,
)
from tests.integration.client.operating import LimitsOfOperators, Operated, OperatedScheduler

TOKEN = "t0ken"

S = scheduler_pb2


def documents_run(
    number: int = 1,
    *,
    state: S.RunState.ValueType = S.RUN_STATE_COMPLETED,
    total: int = 0,
    completed: int = 0,
    failed: int = 0,
    collection: S.StageState.ValueType = S.STAGE_STATE_COMPLETED,
    collection_progress: float = 0.0,
    started: bool = True,
    error: str = "",
) -> scheduler_pb2.Run:
    run = scheduler_pb2.Run(
        run_id=f"run-{number}",
        number=number,
        plan_id="plan-1",
        source_id="src-1",
        kind=planner_pb2.SOURCE_KIND_DOCUMENTS,
        state=state,
        granularity="sentence",
        error=error,
        stages=[
            S.Stage(
                stage=0,
                processor="document",
                state=S.STAGE_STATE_COMPLETED if completed else S.STAGE_STATE_RUNNING,
                counts=S.ItemCounts(total=total, completed=completed, failed=failed, queued=total - completed - failed),
            ),
            S.Stage(stage=1, processor="collection", state=collection, progress=collection_progress),
        ],
    )
    run.create_time.FromMilliseconds(1_700_000_000_123)
    if started:
        run.start_time.FromMilliseconds(1_700_000_001_000)
    run.end_time.FromMilliseconds(1_700_000_009_999)
    return run


def completed_item(seq: int, name: str, probability: float | None, level: str, blob: str = "") -> scheduler_pb2.RunItem:
    result = {
        "word_count": 300,
        "ai_probability": probability,
        "confidence_level": level,
        "confidence_distribution": {"high": 1, "medium": 2, "low": 3, "uncertain": 0},
    }
    item = S.RunItem(seq=seq, key=name, state=S.ITEM_STATE_COMPLETED, result=json.dumps(result).encode(), attempt=1)
    item.result_blob.sha256 = blob
    return item


def summary(probability: float | None, words: int = 300) -> analyzer_pb2.DocumentSummary:
    level = (
        analyzer_pb2.CONFIDENCE_LEVEL_UNCERTAIN
        if probability is None
        else analyzer_pb2.CONFIDENCE_LEVEL_HIGH
        if probability > 0.7
        else analyzer_pb2.CONFIDENCE_LEVEL_MEDIUM
        if probability >= 0.4
        else analyzer_pb2.CONFIDENCE_LEVEL_LOW
    )
    return analyzer_pb2.DocumentSummary(
        word_count=words, ai_probability=probability, confidence_level=level, high=1, medium=2, low=3
    )


@dataclass
class Upload:
    header: planner_pb2.CreateSourceRequest.Header = field(default_factory=planner_pb2.CreateSourceRequest.Header)
    files: list[tuple[str, bytearray]] = field(default_factory=list)
    ended: bool = False

    def texts(self) -> dict[str, bytes]:
        return {name: bytes(data) for name, data in self.files}


@dataclass
class State:
    """What the services answer, and what they were asked.

    `fail` raises before a method answers: name -> errors, in order.
    """

    runs: list[scheduler_pb2.Run] = field(default_factory=list)
    items: dict[str, list[scheduler_pb2.RunItem]] = field(default_factory=dict)
    events: list[scheduler_pb2.Event] = field(default_factory=list)
    collections: dict[str, analyzer_pb2.Collection] = field(default_factory=dict)
    documents: dict[str, list[analyzer_pb2.CollectionDocument]] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    fail: dict[str, list[PenstockError]] = field(default_factory=dict)
    operated: Operated = field(default_factory=Operated)
    watch: Callable[[scheduler_pb2.WatchRunRequest], AsyncIterator[scheduler_pb2.WatchRunResponse]] | None = None
    uploaded: asyncio.Event = field(default_factory=asyncio.Event)

    def asked(self, name: str, request: Any) -> None:
        self.calls.append((name, request))
        if self.fail.get(name):
            raise self.fail[name].pop(0)

    def named(self, name: str) -> list[Any]:
        return [request for called, request in self.calls if called == name]


def _page(rows: Sequence[Any], size: int, token: str) -> tuple[Sequence[Any], str]:
    at = int(token or 0)
    return rows[at : at + size], str(at + size) if at + size < len(rows) else ""


class _Planner(planner_pb2_grpc.PlannerServiceServicer):
    def __init__(self, state: State) -> None:
        self._state = state

    async def CreateSource(self, request_iterator: Any, context: Any) -> planner_pb2.Source:
        upload = Upload()
        self._state.uploads.append(upload)
        try:
            async for part in request_iterator:
                if part.HasField("header"):
                    upload.header = part.header
                    self._state.asked("CreateSource", part.header)
                elif part.HasField("file"):
                    upload.files.append((part.file.name, bytearray()))
                else:
                    upload.files[-1][1].extend(part.chunk)
            upload.ended = True
        finally:
            self._state.uploaded.set()
        return planner_pb2.Source(source_id="src-1", kind=upload.header.kind, item_count=len(upload.files))

    async def GetSource(self, request: Any, context: Any) -> planner_pb2.Source:
        self._state.asked("GetSource", request)
        raise NotFound(f"there is no source {request.source_id}", code="source_not_found")

    async def CreatePlan(self, request: Any, context: Any) -> planner_pb2.Plan:
        self._state.asked("CreatePlan", request)
        return planner_pb2.Plan(plan_id="plan-1", source_id=request.source_id, granularity=request.granularity)

    async def GetPlan(self, request: Any, context: Any) -> planner_pb2.Plan:
        self._state.asked("GetPlan", request)
        return planner_pb2.Plan(plan_id=request.plan_id)

    async def KeepPlan(self, request: Any, context: Any) -> planner_pb2.Plan:
        self._state.asked("KeepPlan", request)
        return planner_pb2.Plan(plan_id=request.plan_id)

    async def AddSource(self, request: Any, context: Any) -> planner_pb2.Source:
        self._state.asked("AddSource", request)
        return planner_pb2.Source(source_id="src-1", name=request.name)

    async def RefreshSource(self, request: Any, context: Any) -> planner_pb2.Source:
        self._state.asked("RefreshSource", request)
        return planner_pb2.Source(source_id="src-1", name=request.name)

    async def ListSources(self, request: Any, context: Any) -> planner_pb2.ListSourcesResponse:
        self._state.asked("ListSources", request)
        return planner_pb2.ListSourcesResponse()

    async def ListSourceVersions(self, request: Any, context: Any) -> planner_pb2.ListSourceVersionsResponse:
        self._state.asked("ListSourceVersions", request)
        return planner_pb2.ListSourceVersionsResponse()

    async def DescribeSource(self, request: Any, context: Any) -> planner_pb2.SourceDescription:
        self._state.asked("DescribeSource", request)
        return planner_pb2.SourceDescription()

    async def DeleteSource(self, request: Any, context: Any) -> planner_pb2.DeleteSourceResponse:
        self._state.asked("DeleteSource", request)
        return planner_pb2.DeleteSourceResponse(version_count=1)

    async def DeletePlan(self, request: Any, context: Any) -> planner_pb2.DeletePlanResponse:
        self._state.asked("DeletePlan", request)
        return planner_pb2.DeletePlanResponse(plan=planner_pb2.Plan(plan_id=request.plan_id), run_count=2)

    async def ListPlans(self, request: Any, context: Any) -> planner_pb2.ListPlansResponse:
        self._state.asked("ListPlans", request)
        return planner_pb2.ListPlansResponse()

    async def UpdatePlan(self, request: Any, context: Any) -> planner_pb2.Plan:
        self._state.asked("UpdatePlan", request)
        return planner_pb2.Plan(plan_id=request.plan_id, name=request.name)

    async def ListEstimates(self, request: Any, context: Any) -> planner_pb2.ListEstimatesResponse:
        self._state.asked("ListEstimates", request)
        return planner_pb2.ListEstimatesResponse()

    async def ComparePlans(self, request: Any, context: Any) -> planner_pb2.PlanComparison:
        self._state.asked("ComparePlans", request)
        return planner_pb2.PlanComparison()

    async def CopyPlan(self, request: Any, context: Any) -> planner_pb2.Plan:
        self._state.asked("CopyPlan", request)
        return planner_pb2.Plan(plan_id=request.plan_id)

    async def ExportPlan(self, request: Any, context: Any) -> AsyncIterator[planner_pb2.PlanFilePart]:
        self._state.asked("ExportPlan", request)
        yield planner_pb2.PlanFilePart(chunk=b"x")

    async def ImportPlan(self, request_iterator: Any, context: Any) -> planner_pb2.Plan:
        async for part in request_iterator:
            self._state.asked("ImportPlan", part)
        return planner_pb2.Plan()

    async def ReadSourceRows(self, request: Any, context: Any) -> sources_pb2.RowPage:
        self._state.asked("ReadSourceRows", request)
        return sources_pb2.RowPage()

    async def ReadPlanRows(self, request: Any, context: Any) -> sources_pb2.RowPage:
        self._state.asked("ReadPlanRows", request)
        return sources_pb2.RowPage()

    async def ListPlanLanes(self, request: Any, context: Any) -> planner_pb2.ListPlanLanesResponse:
        self._state.asked("ListPlanLanes", request)
        return planner_pb2.ListPlanLanesResponse()

    def DerivePlan(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    async def ReadPlanItems(self, request: Any, context: Any) -> planner_pb2.ReadPlanItemsResponse:
        self._state.asked("ReadPlanItems", request)
        return planner_pb2.ReadPlanItemsResponse(end=True)

    async def SamplePlan(self, request: Any, context: Any) -> planner_pb2.Plan:
        self._state.asked("SamplePlan", request)
        return planner_pb2.Plan(plan_id=f"{request.plan_id}-sample", item_count=request.size, draft=True)

    async def ListProfiles(self, request: Any, context: Any) -> planner_pb2.ListProfilesResponse:
        self._state.asked("ListProfiles", request)
        return planner_pb2.ListProfilesResponse(profiles=[planner_pb2.Profile(name="fast", concurrency=256)])

    async def ListProcessors(self, request: Any, context: Any) -> planner_pb2.ListProcessorsResponse:
        self._state.asked("ListProcessors", request)
        return planner_pb2.ListProcessorsResponse(processors=[planner_pb2.Processor(name="noop", version="1")])

    async def GetProcessor(self, request: Any, context: Any) -> planner_pb2.Processor:
        self._state.asked("GetProcessor", request)
        return planner_pb2.Processor(name=request.name, version="1")


class _Scheduler(OperatedScheduler):
    _state: State

    def __init__(self, state: State) -> None:
        self._state = state

    def _run(self, run_id: str, number: int = 0) -> scheduler_pb2.Run:
        for run in self._state.runs:
            if run.run_id == run_id or (number and run.number == number):
                return run
        raise NotFound(f"there is no run {run_id or number}", code="run_not_found")

    async def StartRun(self, request: Any, context: Any) -> scheduler_pb2.Run:
        self._state.asked("StartRun", request)
        run = documents_run(len(self._state.runs) + 1, state=S.RUN_STATE_QUEUED, total=1, started=False)
        self._state.runs.append(run)
        return run

    async def GetRun(self, request: Any, context: Any) -> scheduler_pb2.Run:
        self._state.asked("GetRun", request)
        return self._run(request.run_id, request.number)

    async def ListRuns(self, request: Any, context: Any) -> scheduler_pb2.ListRunsResponse:
        self._state.asked("ListRuns", request)
        newest = self._state.runs[::-1][request.skip :]
        runs, token = _page(newest, request.page_size or 50, request.page_token)
        return scheduler_pb2.ListRunsResponse(runs=runs, next_page_token=token)

    async def ReleasePlan(self, request: Any, context: Any) -> scheduler_pb2.ReleasePlanResponse:
        self._state.asked("ReleasePlan", request)
        return scheduler_pb2.ReleasePlanResponse()

    async def PauseRun(self, request: Any, context: Any) -> scheduler_pb2.RunCommandResponse:
        self._state.asked("PauseRun", request)
        return scheduler_pb2.RunCommandResponse(run=self._run(request.run_id), changed=True)

    async def ResumeRun(self, request: Any, context: Any) -> scheduler_pb2.RunCommandResponse:
        self._state.asked("ResumeRun", request)
        return scheduler_pb2.RunCommandResponse(run=self._run(request.run_id), changed=True)

    async def StopRun(self, request: Any, context: Any) -> scheduler_pb2.RunCommandResponse:
        self._state.asked("StopRun", request)
        return scheduler_pb2.RunCommandResponse(run=self._run(request.run_id), changed=True)

    async def ReadOutcomes(self, request: Any, context: Any) -> AsyncIterator[scheduler_pb2.ReadOutcomesResponse]:
        self._state.asked("ReadOutcomes", request)
        yield scheduler_pb2.ReadOutcomesResponse()

    async def ListSettledRuns(self, request: Any, context: Any) -> scheduler_pb2.ListSettledRunsResponse:
        self._state.asked("ListSettledRuns", request)
        return scheduler_pb2.ListSettledRunsResponse()

    async def ListItems(self, request: Any, context: Any) -> scheduler_pb2.ListItemsResponse:
        self._state.asked("ListItems", request)
        self._run(request.run_id)
        rows = [
            item
            for item in self._state.items.get(request.run_id, [])
            if (not request.states or item.state in request.states) and (not request.seqs or item.seq in request.seqs)
        ]
        items, token = _page(rows, request.page_size or 100, request.page_token)
        return scheduler_pb2.ListItemsResponse(items=items, next_page_token=token)

    async def ListEvents(self, request: Any, context: Any) -> scheduler_pb2.ListEventsResponse:
        self._state.asked("ListEvents", request)
        self._run(request.run_id)
        left = [event for event in self._state.events if event.number > request.after_number]
        events, token = _page(left, request.page_size or 100, request.page_token)
        return scheduler_pb2.ListEventsResponse(events=events, next_page_token=token)

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[scheduler_pb2.WatchRunResponse]:
        self._state.asked("WatchRun", request)
        run = self._run(request.run_id)
        if self._state.watch is not None:
            async for answer in self._state.watch(request):
                yield answer
            return
        yield scheduler_pb2.WatchRunResponse(run=run)


class _Analyzer(analyzer_pb2_grpc.AnalyzerServiceServicer):
    def __init__(self, state: State) -> None:
        self._state = state

    async def AnalyzeDocuments(self, request: Any, context: Any) -> analyzer_pb2.AnalyzeDocumentsResponse:
        raise NotImplementedError

    def AnalyzeCollection(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    async def GetCollection(self, request: Any, context: Any) -> analyzer_pb2.Collection:
        self._state.asked("GetCollection", request)
        if request.run_id not in self._state.collections:
            raise NotFound("there is no collection yet", code="collection_not_found")
        return self._state.collections[request.run_id]

    async def ListCollectionDocuments(self, request: Any, context: Any) -> analyzer_pb2.ListCollectionDocumentsResponse:
        self._state.asked("ListCollectionDocuments", request)
        rows = self._state.documents.get(request.run_id, [])
        if request.seqs:
            rows = [document for document in rows if document.seq in request.seqs]
        documents, token = _page(rows, request.page_size or 1000, request.page_token)
        return analyzer_pb2.ListCollectionDocumentsResponse(documents=documents, next_page_token=token)


@dataclass
class Services:
    state: State
    endpoints: Endpoints
    blobs: BlobStore
    health: Health

    def client(self, **options: Any) -> AsyncClient:
        return AsyncClient(endpoints=self.endpoints, retry_seconds=options.pop("retry_seconds", 20.0), **options)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Services]:
    """All three on one port, with the runtime's own interceptor, so that errors travel as they do in earnest."""
    state = State()
    server = grpc.aio.server(interceptors=[CallInterceptor(TOKEN)])
    planner_pb2_grpc.add_PlannerServiceServicer_to_server(_Planner(state), server)
    scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(_Scheduler(state), server)
    scheduler_pb2_grpc.add_LimitServiceServicer_to_server(LimitsOfOperators(state), server)
    analyzer_pb2_grpc.add_AnalyzerServiceServicer_to_server(_Analyzer(state), server)
    servicer = Health()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    blobs = BlobStore(folder / "blobs")
    endpoints = Endpoints(address, address, address, data=folder, token=TOKEN, blobs=blobs.folder)
    try:
        yield Services(state, endpoints, blobs, servicer)
    finally:
        await server.stop(0)


def away() -> Unavailable:
    return Unavailable("the service is away for a moment")
