"""The analyzer's gRPC methods: validate, call, translate. What computes or blocks runs in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from typing import Any

import grpc
import orjson

from analyzer.collecting import Collecting
from analyzer.domain.detector import Analysis, Detector
from analyzer.domain.levels import Level
from analyzer.store import DocumentRow, Store, unpack_neighbours
from penstock.levels import LEVEL_VALUES
from penstock.runtime.errors import InvalidInput, Overloaded, TooLarge
from penstock.runtime.paging import page_position
from penstock.v1 import analyzer_pb2, analyzer_pb2_grpc
from penstock.words import DEFAULT_GRANULARITY, GRANULARITIES

__all__ = ["AnalyzerService"]

MAX_DOCUMENTS = 1_000
MAX_TEXT_CHARS = 32 << 20
MAX_WAITING = 256
DEFAULT_PAGE, MAX_PAGE = 1_000, 10_000
MAX_SEQS = 10_000
MAX_RUN_ID = 200
MAX_POSITION = 2**31 - 1  # an SQL integer

Context = grpc.aio.ServicerContext[Any, Any]


class AnalyzerService(analyzer_pb2_grpc.AnalyzerServiceServicer):
    def __init__(self, *, detector: Detector, collecting: Collecting, store: Store, executor: Executor) -> None:
        self._detector = detector
        self._collecting = collecting
        self._store = store
        self._executor = executor
        self._waiting = 0

    async def AnalyzeDocuments(
        self, request: analyzer_pb2.AnalyzeDocumentsRequest, context: Context
    ) -> analyzer_pb2.AnalyzeDocumentsResponse:
        granularity = request.granularity or DEFAULT_GRANULARITY
        if granularity not in GRANULARITIES:
            raise InvalidInput(f"granularity {granularity!r} is neither sentence nor paragraph", code="bad_granularity")
        if len(request.documents) > MAX_DOCUMENTS:
            raise TooLarge(f"{len(request.documents)} documents in one call; at most {MAX_DOCUMENTS} are taken")
        if self._waiting >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} calls are waiting for the detector; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, _analyzed, self._detector, request.documents, granularity
            )
        finally:
            self._waiting -= 1

    async def AnalyzeCollection(
        self, request_iterator: AsyncIterator[analyzer_pb2.AnalyzeCollectionRequest], context: Context
    ) -> AsyncIterator[analyzer_pb2.AnalyzeCollectionProgress]:
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        run_id = first.header.run_id if first is not None and first.WhichOneof("part") == "header" else ""
        if not 0 < len(run_id) <= MAX_RUN_ID:
            raise InvalidInput("the stream begins with a header that has a run_id", code="header_expected")
        async for step in self._collecting.analyze(run_id, _documents(requests)):
            yield analyzer_pb2.AnalyzeCollectionProgress(
                progress=step.progress, phase=step.phase, done=step.progress >= 1.0
            )

    async def GetCollection(
        self, request: analyzer_pb2.GetCollectionRequest, context: Context
    ) -> analyzer_pb2.Collection:
        row = await asyncio.to_thread(self._store.collection, request.run_id)
        message = analyzer_pb2.Collection.FromString(row.summary)
        message.run_id = row.run_id
        message.document_count = row.document_count
        message.unclustered_count = row.unclustered_count
        message.embedding_provider = row.provider
        message.embedding_model = row.model
        message.create_time.FromMilliseconds(row.create_ms)
        return message

    async def ListCollectionDocuments(
        self, request: analyzer_pb2.ListCollectionDocumentsRequest, context: Context
    ) -> analyzer_pb2.ListCollectionDocumentsResponse:
        if request.page_size < 0:
            raise InvalidInput("page_size is negative", code="bad_page_size")
        if request.seqs:
            if len(request.seqs) > MAX_SEQS:
                raise TooLarge(f"{len(request.seqs)} seqs in one call; at most {MAX_SEQS} are taken")
            rows, names = await asyncio.to_thread(self._store.chosen, request.run_id, list(request.seqs))
            return analyzer_pb2.ListCollectionDocumentsResponse(documents=[_document(row, names) for row in rows])
        limit = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        after = page_position(request.page_token, most=MAX_POSITION)
        rows, names = await asyncio.to_thread(
            self._store.page, request.run_id, after=-1 if after is None else after, limit=limit
        )
        return analyzer_pb2.ListCollectionDocumentsResponse(
            documents=[_document(row, names) for row in rows],
            next_page_token=str(rows[-1].position) if len(rows) == limit else "",
        )


async def _documents(
    requests: AsyncIterator[analyzer_pb2.AnalyzeCollectionRequest],
) -> AsyncIterator[Sequence[analyzer_pb2.AnalyzeCollectionRequest.Document]]:
    async for request in requests:
        if request.WhichOneof("part") != "documents":
            raise InvalidInput("after the header only documents follow", code="documents_expected")
        yield request.documents.documents


def _analyzed(
    detector: Detector, documents: Sequence[analyzer_pb2.TextDocument], granularity: str
) -> analyzer_pb2.AnalyzeDocumentsResponse:
    if sum(len(each.text) for each in documents) > MAX_TEXT_CHARS:
        raise TooLarge(f"more than {MAX_TEXT_CHARS:,} characters in one call")
    found = detector.analyze([each.text for each in documents], granularity)
    model: dict[str, str | int] = {"name": detector.model.name, "version": detector.model.version}
    return analyzer_pb2.AnalyzeDocumentsResponse(
        documents=[_answer(each.seq, analysis, model) for each, analysis in zip(documents, found, strict=True)]
    )


def _answer(seq: int, analysis: Analysis, model: dict[str, str | int]) -> analyzer_pb2.AnalyzedDocument:
    details = {
        "segments": [
            {
                "start": segment.start,
                "end": segment.end,
                "ai_probability": segment.probability,
                "confidence_level": segment.level,
                "reasons": segment.reasons,
            }
            for segment in analysis.segments
        ],
        "features": analysis.features,
        "abstained": analysis.abstained,
        "model": model,
    }
    return analyzer_pb2.AnalyzedDocument(
        seq=seq,
        summary=analyzer_pb2.DocumentSummary(
            word_count=analysis.word_count,
            ai_probability=analysis.probability,
            confidence_level=LEVEL_VALUES[analysis.level],
            high=analysis.count(Level.HIGH),
            medium=analysis.count(Level.MEDIUM),
            low=analysis.count(Level.LOW),
            uncertain=analysis.count(Level.UNCERTAIN),
        ),
        details=orjson.dumps(details),
        sketch=analysis.sketch,
    )


def _document(row: DocumentRow, names: dict[int, str]) -> analyzer_pb2.CollectionDocument:
    return analyzer_pb2.CollectionDocument(
        seq=row.seq,
        filename=row.filename,
        cluster_id=row.cluster_id,
        summary=analyzer_pb2.DocumentSummary.FromString(row.summary),
        neighbours=[
            analyzer_pb2.Neighbour(seq=seq, filename=names.get(seq, ""), similarity=round(similarity, 4))
            for seq, similarity in unpack_neighbours(row.neighbours)
        ],
    )
