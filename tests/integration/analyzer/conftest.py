"""An analyzer in this process behind a real gRPC server, and a provider of embeddings."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from analyzer.__main__ import build
from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import calling, open_channel
from penstock.runtime.settings import AnalyzerSection, Settings
from penstock.v1 import analyzer_pb2, analyzer_pb2_grpc
from tests.integration.analyzer.embedding_server import EmbeddingServer
from tests.servers.inprocess import Served, serve

Document = analyzer_pb2.AnalyzeCollectionRequest.Document


@dataclass
class Analyzer:
    """What tests ask of the analyzer, errors as our own classes."""

    stub: analyzer_pb2_grpc.AnalyzerServiceAsyncStub
    served: Served
    blobs: BlobStore

    async def documents(
        self, texts: Sequence[str], granularity: str = "sentence"
    ) -> Sequence[analyzer_pb2.AnalyzedDocument]:
        request = analyzer_pb2.AnalyzeDocumentsRequest(
            documents=[analyzer_pb2.TextDocument(seq=seq, text=text) for seq, text in enumerate(texts)],
            granularity=granularity,
        )
        with calling():
            answer: analyzer_pb2.AnalyzeDocumentsResponse = await self.stub.AnalyzeDocuments(request)
        return answer.documents

    async def outcomes(self, texts: Sequence[str]) -> list[Document]:
        """The texts as the documents stage leaves them: outcomes in blobs."""
        found = []
        for answer, text in zip(await self.documents(texts), texts, strict=True):
            value = {"text": text, "sketch": base64.b64encode(answer.sketch).decode()}
            blob = self.blobs.put(json.dumps(value).encode())
            found.append(
                Document(seq=answer.seq, filename=f"{answer.seq}.txt", summary=answer.summary, sketch_blob=blob)
            )
        return found

    async def collect(
        self, run_id: str, documents: Sequence[Document], *, part: int = 7
    ) -> list[analyzer_pb2.AnalyzeCollectionProgress]:
        def requests() -> Iterator[analyzer_pb2.AnalyzeCollectionRequest]:
            header = analyzer_pb2.AnalyzeCollectionRequest.Header(run_id=run_id)
            yield analyzer_pb2.AnalyzeCollectionRequest(header=header)
            for first in range(0, len(documents), part):
                some = analyzer_pb2.AnalyzeCollectionRequest.Documents(documents=documents[first : first + part])
                yield analyzer_pb2.AnalyzeCollectionRequest(documents=some)

        with calling():
            return [step async for step in self.stub.AnalyzeCollection(requests())]

    async def collection(self, run_id: str) -> analyzer_pb2.Collection:
        with calling():
            found: analyzer_pb2.Collection = await self.stub.GetCollection(
                analyzer_pb2.GetCollectionRequest(run_id=run_id)
            )
        return found

    async def listed(
        self, run_id: str, *, page_size: int = 0, page_token: str = "", seqs: Sequence[int] = ()
    ) -> analyzer_pb2.ListCollectionDocumentsResponse:
        request = analyzer_pb2.ListCollectionDocumentsRequest(
            run_id=run_id, page_size=page_size, page_token=page_token, seqs=seqs
        )
        with calling():
            found: analyzer_pb2.ListCollectionDocumentsResponse = await self.stub.ListCollectionDocuments(request)
        return found


@pytest.fixture
def section() -> dict[str, object]:
    """Settings of the analyzer beside its database; tests of providers give their own."""
    return {}


@pytest_asyncio.fixture
async def analyzer(tmp_path: Path, database_url: str, section: dict[str, object]) -> AsyncIterator[Analyzer]:
    blobs = tmp_path / "blobs"
    settings = Settings(
        blobs=blobs,
        analyzer=AnalyzerSection.model_validate({"database_url": database_url, **section}),
    )
    served = await serve(build, settings)
    channel = open_channel(served.address, None)
    try:
        yield Analyzer(analyzer_pb2_grpc.AnalyzerServiceStub(channel), served, BlobStore(blobs))
    finally:
        await channel.close()
        await served.stop()


@pytest.fixture
def provider() -> Iterator[EmbeddingServer]:
    server = EmbeddingServer()
    yield server
    server.close()
