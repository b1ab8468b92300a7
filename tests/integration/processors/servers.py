"""A small analyzer and scheduler that answer what a test wants, behind real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import orjson

from penstock.runtime.channel import OPTIONS
from penstock.runtime.errors import InvalidInput, NotFound, PenstockError
from penstock.runtime.interceptors import CallInterceptor
from penstock.v1 import analyzer_pb2, analyzer_pb2_grpc, common_pb2, scheduler_pb2, scheduler_pb2_grpc

__all__ = ["Analyzer", "Scheduler", "serve"]

Context = grpc.aio.ServicerContext[Any, Any]


class Analyzer(analyzer_pb2_grpc.AnalyzerServiceServicer):
    """Counts words. `refuse` raises for a text; `collection_error` breaks the stream; `ends_early` ends it."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.granularities: set[str] = set()
        self.refuse: Callable[[str], bool] = lambda text: False
        self.forget: set[int] = set()
        self.error: PenstockError | None = None
        self.collected: list[analyzer_pb2.AnalyzeCollectionRequest.Document] = []
        self.collection_error: PenstockError | None = None
        self.ends_early = False

    async def AnalyzeDocuments(
        self, request: analyzer_pb2.AnalyzeDocumentsRequest, context: Context
    ) -> analyzer_pb2.AnalyzeDocumentsResponse:
        self.calls.append([d.text for d in request.documents])
        self.granularities.add(request.granularity)
        if self.error is not None:
            raise self.error
        if any(self.refuse(d.text) for d in request.documents):
            raise InvalidInput("a text that the detector can't take")
        return analyzer_pb2.AnalyzeDocumentsResponse(
            documents=[_analysed(d) for d in request.documents if d.seq not in self.forget]
        )

    async def AnalyzeCollection(
        self, request_iterator: AsyncIterator[analyzer_pb2.AnalyzeCollectionRequest], context: Context
    ) -> AsyncIterator[analyzer_pb2.AnalyzeCollectionProgress]:
        async for part in request_iterator:
            self.collected += part.documents.documents
        yield analyzer_pb2.AnalyzeCollectionProgress(progress=0.5, phase="clusters")
        if self.collection_error is not None:
            raise self.collection_error
        if not self.ends_early:
            yield analyzer_pb2.AnalyzeCollectionProgress(progress=1.0, phase="done", done=True)

    async def GetCollection(
        self, request: analyzer_pb2.GetCollectionRequest, context: Context
    ) -> analyzer_pb2.Collection:
        if not self.collected:
            raise NotFound("no collection")
        return analyzer_pb2.Collection(
            run_id=request.run_id,
            document_count=len(self.collected),
            clusters=[analyzer_pb2.Cluster(cluster_id=0), analyzer_pb2.Cluster(cluster_id=1)],
            embedding_provider="offline",
            embedding_model="lsa",
        )


class Scheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Streams `count` outcomes; with `error` it breaks after the first part."""

    def __init__(self, count: int = 1_200) -> None:
        self.count = count
        self.error: PenstockError | None = None
        self.stands_still = False
        self.asked: scheduler_pb2.ReadOutcomesRequest | None = None
        self.seconds: float | None = None

    async def ReadOutcomes(
        self, request: scheduler_pb2.ReadOutcomesRequest, context: Context
    ) -> AsyncIterator[scheduler_pb2.ReadOutcomesResponse]:
        self.asked, self.seconds = request, context.time_remaining()
        if self.stands_still:
            await asyncio.sleep(3600)
        for start in range(0, self.count, 700):
            yield scheduler_pb2.ReadOutcomesResponse(
                items=[_outcome(seq) for seq in range(start, min(start + 700, self.count))]
            )
            if self.error is not None:
                raise self.error


async def serve(*, analyzer: Analyzer | None = None, scheduler: Scheduler | None = None) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(interceptors=[CallInterceptor(None)], options=OPTIONS)
    if analyzer is not None:
        analyzer_pb2_grpc.add_AnalyzerServiceServicer_to_server(analyzer, server)
    if scheduler is not None:
        scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


def _analysed(document: analyzer_pb2.TextDocument) -> analyzer_pb2.AnalyzedDocument:
    words = len(document.text.split())
    segments: Sequence[dict[str, object]] = [
        {"start": 0, "end": len(document.text), "ai_probability": 0.5, "confidence_level": "MEDIUM", "reasons": ["r"]}
    ]
    summary = analyzer_pb2.DocumentSummary(
        word_count=words, confidence_level=analyzer_pb2.CONFIDENCE_LEVEL_UNCERTAIN, medium=1
    )
    if words > 2:
        summary.ai_probability = 0.8
        summary.confidence_level = analyzer_pb2.CONFIDENCE_LEVEL_HIGH
    return analyzer_pb2.AnalyzedDocument(
        seq=document.seq,
        summary=summary,
        details=orjson.dumps({"segments": segments, "features": {"a": 1}, "abstained": None, "model": {"name": "m"}}),
        sketch=b"\x00\x01sketch",
    )


def _outcome(seq: int) -> scheduler_pb2.RunItem:
    result = {
        "word_count": seq,
        "ai_probability": None if seq % 2 else 0.25,
        "confidence_level": "UNCERTAIN" if seq % 2 else "LOW",
        "confidence_distribution": {"high": 1, "medium": 2, "low": 3, "uncertain": 4},
    }
    return scheduler_pb2.RunItem(
        seq=seq,
        key=f"d{seq}.txt",
        result=orjson.dumps(result),
        result_blob=common_pb2.BlobRef(sha256=f"{seq:064x}", size_bytes=seq),
    )
