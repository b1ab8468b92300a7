"""`collection`: hands all analysed documents of a run to the analyzer, which finds what they have in common.

One item a run. It holds nothing: completed outcomes stream from the scheduler through it to the analyzer, which keeps
the collection under the run's id, so that a second execution replaces it with the same. A stream that breaks costs no
try; an embedding provider that does not answer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from penstock.processor import (
    Context,
    Outcome,
    Parameters,
    Processor,
    ProcessorError,
    Result,
    ServiceUnavailable,
    WorkItem,
)
from penstock.runtime.channel import calling
from penstock.runtime.errors import PenstockError, Unavailable
from penstock.v1 import analyzer_pb2, analyzer_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc

__all__ = ["CollectionParameters", "CollectionProcessor"]

_PART_DOCUMENTS = 500
_LEVELS = {
    "HIGH": analyzer_pb2.CONFIDENCE_LEVEL_HIGH,
    "MEDIUM": analyzer_pb2.CONFIDENCE_LEVEL_MEDIUM,
    "LOW": analyzer_pb2.CONFIDENCE_LEVEL_LOW,
}


class CollectionParameters(Parameters):
    pass


class CollectionProcessor(Processor[CollectionParameters]):
    """Finds clusters, neighbours and near-duplicates among the documents of a run."""

    name = "collection"
    version = "1"
    parameters_type = CollectionParameters
    concurrency = 1

    async def process(self, item: WorkItem, context: Context[CollectionParameters]) -> Outcome:
        stage = item.payload.get("documents_stage")
        if not isinstance(stage, int):
            raise ProcessorError("the item names no documents_stage", permanent=True)
        analyzer = analyzer_pb2_grpc.AnalyzerServiceStub(context.services["analyzer"])
        left = max(1.0, context.deadline - asyncio.get_running_loop().time() - 1.0)
        outcomes = _Outcomes(item.run_id, stage, context, left)
        try:
            done = False
            with outcomes.noticed(), calling():
                async for progress in analyzer.AnalyzeCollection(outcomes.parts(), timeout=left):
                    context.progress(progress.progress, progress.phase)
                    done = done or progress.done
            if not done:
                raise ServiceUnavailable("the analyzer ended before the collection was done", kind="unavailable")
            with calling():
                kept = await analyzer.GetCollection(analyzer_pb2.GetCollectionRequest(run_id=item.run_id))
        except Unavailable as error:
            if error.code == "deadline_exceeded":
                raise ProcessorError(f"the collection was not done within {left:.0f} s", kind="timeout") from error
            if error.code == "embedding_unavailable":
                # No part of Penstock: nothing here starts it again, so the tries bound the wait for it.
                raise ProcessorError(error.message, kind="unavailable") from error
            raise ServiceUnavailable(error.message, kind="unavailable") from error
        except PenstockError as error:
            raise ProcessorError(f"the collection could not be made: {error.message}") from error
        return Result(
            {
                "documents": kept.document_count,
                "clusters": len(kept.clusters),
                "embedding_provider": kept.embedding_provider,
                "embedding_model": kept.embedding_model,
            }
        )


class _Outcomes:
    """The completed outcomes of a stage, on their way from the scheduler's stream into the analyzer's.

    gRPC turns an error in a request stream into a cancelled call: the error is kept here, to be raised instead.
    """

    def __init__(self, run_id: str, stage: int, context: Context[CollectionParameters], seconds: float) -> None:
        self._run_id = run_id
        self._seconds = seconds
        self._request = scheduler_pb2.ReadOutcomesRequest(
            run_id=run_id, stage=stage, states=[scheduler_pb2.ITEM_STATE_COMPLETED]
        )
        self._scheduler = scheduler_pb2_grpc.SchedulerServiceStub(context.services["scheduler"])
        self._error: PenstockError | None = None

    @contextmanager
    def noticed(self) -> Iterator[None]:
        try:
            yield
        except (PenstockError, asyncio.CancelledError):
            if self._error is not None:
                raise self._error from None
            raise

    async def parts(self) -> AsyncIterator[analyzer_pb2.AnalyzeCollectionRequest]:
        header = analyzer_pb2.AnalyzeCollectionRequest.Header(run_id=self._run_id)
        yield analyzer_pb2.AnalyzeCollectionRequest(header=header)
        try:
            with calling():
                async for answer in self._scheduler.ReadOutcomes(self._request, timeout=self._seconds):
                    for start in range(0, len(answer.items), _PART_DOCUMENTS):
                        documents = [_document(item) for item in answer.items[start : start + _PART_DOCUMENTS]]
                        yield analyzer_pb2.AnalyzeCollectionRequest(
                            documents=analyzer_pb2.AnalyzeCollectionRequest.Documents(documents=documents)
                        )
        except PenstockError as error:
            self._error = error
            raise


def _document(item: scheduler_pb2.RunItem) -> analyzer_pb2.AnalyzeCollectionRequest.Document:
    value: dict[str, Any] = orjson.loads(item.result)
    counts = value["confidence_distribution"]
    return analyzer_pb2.AnalyzeCollectionRequest.Document(
        seq=item.seq,
        filename=item.key,
        summary=analyzer_pb2.DocumentSummary(
            word_count=value["word_count"],
            ai_probability=value["ai_probability"],
            confidence_level=_LEVELS.get(value["confidence_level"], analyzer_pb2.CONFIDENCE_LEVEL_UNCERTAIN),
            high=counts["high"],
            medium=counts["medium"],
            low=counts["low"],
            uncertain=counts["uncertain"],
        ),
        sketch_blob=item.result_blob,
    )
