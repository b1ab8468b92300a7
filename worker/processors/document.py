"""`document`: takes the text of uploaded documents and has the analyzer say what is in it.

For many documents together: their bytes are read, their texts taken (PDF, DOCX and HTML in child processes), one
AnalyzeDocuments call made for as many as fit a message, and their outcomes written as blobs that become durable
together.

What is wrong with a document fails that document alone, for good. What is wrong with us (analyzer or blob store away)
costs the items no try. A second execution writes the same blob under the same name.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson
from pydantic import Field

from penstock.processor import Context, Failure, Outcome, Parameters, Processor, Result, WorkItem
from penstock.runtime.channel import calling
from penstock.runtime.errors import InvalidInput, NotFound, PenstockError, TooLarge, Unavailable
from penstock.v1 import analyzer_pb2, analyzer_pb2_grpc
from worker.processors.extract_child import Extractor
from worker.processors.extract_text import Unreadable, decode

__all__ = ["KINDS", "DocumentParameters", "DocumentProcessor"]

KINDS = {".txt": "text", ".md": "text", ".pdf": "pdf", ".docx": "docx", ".html": "html", ".htm": "html"}
"""What is read, by the last extension in lower case."""

CALL_BYTES = 8 << 20
"""Documents of one AnalyzeDocuments call: by their bytes, but for a single larger one."""

CALL_SECONDS = 120.0

_LEVELS = {
    analyzer_pb2.CONFIDENCE_LEVEL_HIGH: "HIGH",
    analyzer_pb2.CONFIDENCE_LEVEL_MEDIUM: "MEDIUM",
    analyzer_pb2.CONFIDENCE_LEVEL_LOW: "LOW",
    analyzer_pb2.CONFIDENCE_LEVEL_UNCERTAIN: "UNCERTAIN",
}


class DocumentParameters(Parameters):
    granularity: Literal["sentence", "paragraph"] = Field("sentence", description="What a segment is.")


@dataclass(frozen=True)
class _Text:
    """A document whose text was taken; `place` is its position in the batch."""

    place: int
    seq: int
    text: str


class DocumentProcessor(Processor[DocumentParameters]):
    """Takes the text of a document (.txt, .md, .pdf, .docx, .html) and has it analysed."""

    name = "document"
    version = "1"
    parameters_type = DocumentParameters
    batch_size = 32
    concurrency = 3

    async def process_batch(self, items: Sequence[WorkItem], context: Context[DocumentParameters]) -> Sequence[Outcome]:
        outcomes: dict[int, Outcome] = {}
        for places in _groups(items):
            if context.cancelled.is_set():
                break
            try:
                texts = await self._texts(items, places, context, outcomes)
                if texts:
                    await _analyse(texts, context, outcomes)
            except Unavailable as error:
                for place in places:
                    outcomes.setdefault(place, Failure(error.message, kind="unavailable", no_try=True))
        given_up = Failure("given up before it began", no_try=True)
        return [outcomes.get(place, given_up) for place in range(len(items))]

    async def _texts(
        self,
        items: Sequence[WorkItem],
        places: Sequence[int],
        context: Context[DocumentParameters],
        outcomes: dict[int, Outcome],
    ) -> list[_Text]:
        """The texts of these; the outcome of those that have none. Raises Unavailable."""
        plain = [place for place in places if _kind(items[place]) == "text"]
        foreign = [place for place in places if _kind(items[place]) not in ("text", "")]
        answers: dict[int, str | Failure] = {
            place: _unreadable(items[place]) for place in places if not _kind(items[place])
        }
        answers |= await asyncio.to_thread(_decoded, items, plain, context)
        answers |= dict(
            zip(foreign, await asyncio.gather(*(self._extracted(items[p], context) for p in foreign)), strict=True)
        )
        texts = []
        for place in places:
            answer = answers[place]
            if isinstance(answer, Failure):
                outcomes[place] = answer
            else:
                texts.append(_Text(place, items[place].seq, answer))
        return texts

    async def _extracted(self, item: WorkItem, context: Context[DocumentParameters]) -> str | Failure:
        try:
            file = await asyncio.to_thread(context.blobs.open, str(item.payload["blob"]))
        except (NotFound, InvalidInput) as error:
            return _permanent(error.message)
        extractor: Extractor = context.services["extractor"]
        with contextlib.closing(file):
            try:
                return await extractor.text(_kind(item), file)
            except Unreadable as error:
                return _permanent(str(error))


def _groups(items: Sequence[WorkItem]) -> Iterator[list[int]]:
    """Positions of items in order, cut so that a group's documents fit one call and the memory of a worker."""
    group: list[int] = []
    size = 0
    for place, item in enumerate(items):
        own = item.payload.get("size", 0) if "blob" in item.payload else 0
        own = own if isinstance(own, int) else 0
        if group and size + own > CALL_BYTES:
            yield group
            group, size = [], 0
        group.append(place)
        size += own
    if group:
        yield group


def _kind(item: WorkItem) -> str:
    """How the document is read; empty: it is not."""
    if "problem" in item.payload or "blob" not in item.payload:
        return ""
    return KINDS.get(os.path.splitext(str(item.payload.get("filename", item.key)))[1].lower(), "")


def _unreadable(item: WorkItem) -> Failure:
    payload = item.payload
    if "problem" in payload:
        return _permanent(str(payload["problem"]))
    if "blob" not in payload:
        return _permanent("the item has no document: payload.blob is missing")
    suffix = os.path.splitext(str(payload.get("filename", item.key)))[1]
    known = ", ".join(KINDS)
    return _permanent(
        f"wrong extension {suffix}: {known} are read" if suffix else f"the name has no extension: {known} are read"
    )


def _permanent(message: str) -> Failure:
    return Failure(message, permanent=True)


def _decoded(
    items: Sequence[WorkItem], places: Sequence[int], context: Context[DocumentParameters]
) -> dict[int, str | Failure]:
    answers: dict[int, str | Failure] = {}
    found = context.blobs.get_each([str(items[place].payload["blob"]) for place in places])
    for place, data in zip(places, found, strict=True):
        if isinstance(data, NotFound | InvalidInput):
            answers[place] = _permanent(data.message)
        elif isinstance(data, PenstockError):
            raise data
        else:
            try:
                answers[place] = decode(data)
            except Unreadable as error:
                answers[place] = _permanent(str(error))
    return answers


async def _analyse(texts: Sequence[_Text], context: Context[DocumentParameters], outcomes: dict[int, Outcome]) -> None:
    """Raises Unavailable when analyzer or blob store do not answer."""
    try:
        answers = await _asked(texts, context)
    except Unavailable:
        raise
    except (InvalidInput, TooLarge) as error:
        if len(texts) == 1:
            outcomes[texts[0].place] = _permanent(f"the analyzer refused it: {error.message}")
            return
        # One document must not fail its neighbours.
        for text in texts:
            await _analyse([text], context, outcomes)
        return
    except PenstockError as error:
        if len(texts) == 1:
            outcomes[texts[0].place] = Failure(f"the analyzer failed: {error.message}")
            return
        for text in texts:
            await _analyse([text], context, outcomes)
        return
    by_seq = {answer.seq: answer for answer in answers}
    answered = [text for text in texts if text.seq in by_seq]
    for text in texts:
        if text.seq not in by_seq:
            outcomes[text.place] = Failure("the analyzer gave no answer for it", kind="invalid_result")
    refs = await asyncio.to_thread(
        lambda: context.blobs.put_many(_outcome_blob(text.text, by_seq[text.seq]) for text in answered)
    )
    for text, ref in zip(answered, refs, strict=True):
        outcomes[text.place] = Result(_summary(by_seq[text.seq].summary), ref)


async def _asked(
    texts: Sequence[_Text], context: Context[DocumentParameters]
) -> Sequence[analyzer_pb2.AnalyzedDocument]:
    stub = analyzer_pb2_grpc.AnalyzerServiceStub(context.services["analyzer"])
    left = context.deadline - asyncio.get_running_loop().time()
    request = analyzer_pb2.AnalyzeDocumentsRequest(
        documents=[analyzer_pb2.TextDocument(seq=text.seq, text=text.text) for text in texts],
        granularity=context.parameters.granularity,
    )
    with calling():
        # An analyzer that starts again is waited for: else every document of the run would come by and fail meanwhile.
        answer: analyzer_pb2.AnalyzeDocumentsResponse = await stub.AnalyzeDocuments(
            request, timeout=max(1.0, min(left - 1.0, CALL_SECONDS)), wait_for_ready=True
        )
    return answer.documents


def _outcome_blob(text: str, answer: analyzer_pb2.AnalyzedDocument) -> bytes:
    """{"text", "sketch", and what `details` has}; details are not parsed only to be written again."""
    details = answer.details.strip()
    head = b'{"text":' + orjson.dumps(text) + b',"sketch":"' + base64.b64encode(answer.sketch) + b'"'
    return head + (b"}" if details in (b"", b"{}") else b"," + details.removeprefix(b"{"))


def _summary(summary: analyzer_pb2.DocumentSummary) -> dict[str, object]:
    probability = summary.ai_probability if summary.HasField("ai_probability") else None
    return {
        "word_count": summary.word_count,
        "ai_probability": None if probability is None or math.isnan(probability) else probability,
        "confidence_level": _LEVELS.get(summary.confidence_level, "UNCERTAIN"),
        "confidence_distribution": {
            "high": summary.high,
            "medium": summary.medium,
            "low": summary.low,
            "uncertain": summary.uncertain,
        },
    }
