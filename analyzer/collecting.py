"""From a stream of a run's documents to its kept collection: reading, embedding, analysing, keeping.

Reads each outcome's blob once and keeps of it only what the analysis needs; texts are held a batch at a time, for the
provider and, at the end, for the few pairs that share a passage. What is CPU-bound runs in the executor that is handed
in. Nothing is kept until everything is computed; then it is one transaction.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import orjson

from analyzer.domain.collection import CollectionAnalysis, CollectionBuilder
from analyzer.domain.passages import shared_passage
from analyzer.domain.sketch import Sketch, SketchError, decode
from analyzer.embeddings import Embedder
from analyzer.store import CollectionRow, DocumentRow, Store, pack_neighbours
from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput, PenstockError, TooLarge
from penstock.v1 import analyzer_pb2

__all__ = ["MAX_COLLECTION_DOCUMENTS", "Collecting", "Step"]

MAX_COLLECTION_DOCUMENTS = 500_000
READING_SHARE = 0.3
BLOBS_AT_ONCE = 64
PASSAGE_TEXT_BYTES = 2 << 20
"""Texts of larger documents are not searched for the words of a passage."""

Document = analyzer_pb2.AnalyzeCollectionRequest.Document
Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """How far it is, from 0 to 1, and what is being done."""

    progress: float
    phase: str


@dataclass(frozen=True, slots=True)
class _Kept:
    filename: str
    summary: bytes
    blob: str


class Collecting:
    """Analyses collections one after the other."""

    def __init__(
        self, *, store: Store, blobs: BlobStore, embedder: Embedder | None, clock: Clock, executor: Executor
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._embedder = embedder
        self._clock = clock
        self._executor = executor

    async def analyze(self, run_id: str, parts: AsyncIterator[Sequence[Document]]) -> AsyncIterator[Step]:
        """Yields steps; the last one, with progress 1, when the collection is kept.

        Raises InvalidInput for an empty collection or a document without a usable sketch, TooLarge past
        MAX_COLLECTION_DOCUMENTS, Unavailable for blobs, provider or SQL.
        """
        loop = asyncio.get_running_loop()
        builder = CollectionBuilder()
        kept: dict[int, _Kept] = {}
        async for part in parts:
            fresh = {each.seq: each for each in part if each.seq not in kept}
            if len(kept) + len(fresh) > MAX_COLLECTION_DOCUMENTS:
                raise TooLarge(f"a collection holds at most {MAX_COLLECTION_DOCUMENTS:,} documents")
            texts = await loop.run_in_executor(self._executor, self._read, list(fresh.values()), builder, kept)
            if self._embedder is not None and texts:
                builder.add_vectors(await self._embedder.embed(texts))
            yield Step(READING_SHARE * (1 - 1 / (1 + len(kept) / 5_000)), f"reading: {len(kept)} documents")
        if not kept:
            raise InvalidInput("a collection needs at least one analysed document", code="collection_empty")
        steps: asyncio.Queue[Step] = asyncio.Queue()

        def tell(share: float, phase: str) -> None:
            step = Step(READING_SHARE + (0.98 - READING_SHARE) * share, phase)
            loop.call_soon_threadsafe(steps.put_nowait, step)

        work = loop.run_in_executor(self._executor, self._finish, run_id, builder, kept, tell)
        while not work.done():
            waiting = asyncio.ensure_future(steps.get())
            pending: set[asyncio.Future[Any]] = {work, waiting}
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                yield waiting.result()
            else:
                waiting.cancel()
        await work
        yield Step(1.0, "done")

    def _read(self, part: list[Document], builder: CollectionBuilder, kept: dict[int, _Kept]) -> list[str]:
        """Adds documents to the builder; returns their texts if a provider needs them."""
        texts = []
        for each, sketch, text in self._sketches(part):
            probability = each.summary.ai_probability if each.summary.HasField("ai_probability") else None
            builder.add(each.seq, sketch, probability)
            kept[each.seq] = _Kept(each.filename, each.summary.SerializeToString(), each.sketch_blob.sha256)
            if self._embedder is not None:
                texts.append(text)
        return texts

    def _sketches(self, part: Sequence[Document]) -> Iterator[tuple[Document, Sketch, str]]:
        """With the text, where it is at hand."""
        for first in range(0, len(part), BLOBS_AT_ONCE):
            some = part[first : first + BLOBS_AT_ONCE]
            hashes = [each.sketch_blob.sha256 for each in some if not each.sketch]
            found = dict(zip(hashes, self._blobs.get_each(hashes), strict=True))
            for each in some:
                data = b"" if each.sketch else found[each.sketch_blob.sha256]
                if isinstance(data, PenstockError):
                    raise data
                yield each, *self._sketch(each, data)

    def _sketch(self, document: Document, data: bytes) -> tuple[Sketch, str]:
        try:
            if document.sketch:
                return decode(document.sketch), ""
            value = orjson.loads(data)
            return decode(base64.b64decode(value["sketch"], validate=True)), str(value.get("text", ""))
        except (SketchError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"document {document.seq} ({document.filename}) has no usable sketch: {error}", code="bad_sketch"
            ) from error

    def _finish(self, run_id: str, builder: CollectionBuilder, kept: dict[int, _Kept], tell: Progress) -> None:
        model = self._embedder.model if self._embedder else ""
        found = builder.analyze(tell, model=model)
        seqs = sorted(kept)
        message = _message(found, seqs)
        for passage in message.passages:
            passage.text = self._passage(kept[passage.seq], kept[passage.other_seq])
        tell(0.98, "keeping")
        row = CollectionRow(
            run_id=run_id,
            document_count=len(seqs),
            unclustered_count=int((found.labels < 0).sum()),
            provider=self._embedder.provider if self._embedder else "offline",
            model=found.model,
            summary=message.SerializeToString(),
            create_ms=self._clock.now_ms(),
        )
        self._store.replace(row, _rows(found, seqs, kept))

    def _passage(self, one: _Kept, other: _Kept) -> str:
        texts = []
        for each in (one, other):
            if not each.blob:
                return ""
            with self._blobs.open(each.blob) as file:
                if os.fstat(file.fileno()).st_size > PASSAGE_TEXT_BYTES:
                    return ""
            texts.append(str(orjson.loads(self._blobs.get(each.blob)).get("text", "")))
        return shared_passage(texts[0], texts[1])


def _message(found: CollectionAnalysis, seqs: Sequence[int]) -> analyzer_pb2.Collection:
    """What GetCollection answers of the analysis, with positions turned into seqs."""
    message = analyzer_pb2.Collection()
    for cluster in found.clusters:
        message.clusters.add(
            cluster_id=cluster.cluster_id,
            document_count=cluster.document_count,
            avg_ai_probability=cluster.avg_probability,
            avg_similarity=cluster.avg_similarity,
            terms=cluster.terms,
        )
    for values, matrix in (
        (found.matrix, message.similarity_matrix),
        (found.cluster_matrix, message.cluster_matrix),
    ):
        if values is not None:
            matrix.size = len(values)
            matrix.values.extend(values.ravel().tolist())
    for group in found.duplicates.groups:
        message.duplicate_groups.add(seqs=[seqs[at] for at in group.members], min_similarity=group.min_similarity)
    for first, second, similarity in found.similar_pairs:
        message.similar_pairs.add(seq=seqs[first], other_seq=seqs[second], similarity=similarity)
    for each in found.duplicates.passages:
        message.passages.add(seq=seqs[each.first], other_seq=seqs[each.second], containment=round(each.containment, 4))
    return message


def _rows(found: CollectionAnalysis, seqs: Sequence[int], kept: dict[int, _Kept]) -> Iterator[DocumentRow]:
    for position, at in enumerate(found.order.tolist()):
        seq = seqs[at]
        near = zip(found.near.index[at].tolist(), found.near.similarity[at].tolist(), strict=True)
        label = int(found.labels[at])
        yield DocumentRow(
            position=position,
            seq=seq,
            filename=kept[seq].filename,
            cluster_id=None if label < 0 else label,
            summary=kept[seq].summary,
            neighbours=pack_neighbours((seqs[other], similarity) for other, similarity in near if other >= 0),
        )
