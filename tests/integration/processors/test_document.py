"""The `document` processor: each document gets its own outcome, whatever its neighbours are."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

import worker.processors.document
from penstock.processor import Context, Failure, Outcome, Result, WorkItem
from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import open_channel
from penstock.runtime.errors import Internal, Unavailable
from tests.integration.processors.servers import Analyzer, serve
from tests.unit.processors.samples import docx_of, pdf_of
from worker.processors import document
from worker.processors.document import DocumentParameters, DocumentProcessor
from worker.processors.extract_child import Extractor


@dataclass
class Bench:
    processor: DocumentProcessor
    analyzer: Analyzer
    blobs: BlobStore
    channel: grpc.aio.Channel
    server: grpc.aio.Server

    def context(self, **fields: object) -> Context[DocumentParameters]:
        values: dict[str, object] = {
            "parameters": DocumentParameters(granularity="paragraph"),
            "blobs": self.blobs,
            "deadline": asyncio.get_running_loop().time() + 60,
            "services": {"analyzer": self.channel, "extractor": Extractor(20.0, 512 << 20, asyncio.Semaphore(2))},
            **fields,
        }
        return Context(**values)  # type: ignore[arg-type]

    def item(self, seq: int, name: str, data: bytes) -> WorkItem:
        ref = self.blobs.put(data)
        return self.bare(seq, {"filename": name, "blob": ref.sha256, "size": len(data)})

    def bare(self, seq: int, payload: dict[str, object]) -> WorkItem:
        return WorkItem("run-1", 0, seq, str(payload.get("filename", "")), "", payload)

    async def run(self, *items: WorkItem) -> list[Outcome]:
        return list(await self.processor.process_batch(items, self.context()))


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    analyzer = Analyzer()  # type: ignore[abstract]  # what is not called here is not written
    server, port = await serve(analyzer=analyzer)
    channel = open_channel(f"127.0.0.1:{port}", None)
    try:
        yield Bench(DocumentProcessor(), analyzer, BlobStore(tmp_path / "blobs"), channel, server)
    finally:
        await channel.close()
        await server.stop(None)


def permanent(outcome: Outcome, reason: str) -> bool:
    return isinstance(outcome, Failure) and outcome.permanent and not outcome.no_try and reason in outcome.message


async def test_every_format_is_read_and_every_failure_stands_alone(bench: Bench) -> None:
    outcomes = await bench.run(
        bench.item(10, "a.txt", b"one two three"),
        bench.item(11, "b.exe", b"MZ"),
        bench.item(12, "dir.d/none", b"text"),
        bench.item(13, "c.PDF", pdf_of("four five six")),
        bench.item(14, "d.docx", docx_of("seven eight nine")),
        bench.item(15, "e.htm", b"<p>ten eleven twelve"),
        bench.item(16, "f.md", b""),
        bench.item(17, "g.txt", b"a\x00b"),
        bench.item(18, "h.pdf", b"no pdf"),
        bench.bare(19, {"filename": "i.txt", "size": 99, "problem": "too large: 12.3 MiB, at most 10 MiB"}),
        bench.bare(20, {"filename": "j.txt", "blob": "0" * 64, "size": 1}),
        bench.item(21, "k.txt", "vingt et un".encode("utf-16")),
        bench.bare(22, {"key": "no document"}),
    )
    assert [isinstance(o, Result) for o in outcomes] == [i in (0, 3, 4, 5, 11) for i in range(13)]
    assert bench.analyzer.calls == [
        ["one two three", "four five six", "seven eight nine", "ten eleven twelve", "vingt et un"]
    ]
    assert bench.analyzer.granularities == {"paragraph"}
    reasons = {1: ".exe", 2: "no extension", 6: "empty", 7: "binary", 8: "broken PDF", 9: "too large: 12.3 MiB"}
    for place, reason in {**reasons, 10: "no blob", 12: "payload.blob"}.items():
        assert permanent(outcomes[place], reason), outcomes[place]


async def test_the_outcome_has_what_the_contract_says(bench: Bench) -> None:
    text = "Drei \U0001f600 Wörter, oder mehr.\n"
    long, short = await bench.run(bench.item(3, "a.txt", text.encode()), bench.item(4, "b.txt", b"short"))
    assert isinstance(long, Result)
    assert isinstance(short, Result)
    assert long.value == {
        "word_count": 5,
        "ai_probability": 0.8,
        "confidence_level": "HIGH",
        "confidence_distribution": {"high": 0, "medium": 1, "low": 0, "uncertain": 0},
    }
    assert (short.value["ai_probability"], short.value["confidence_level"]) == (None, "UNCERTAIN")
    assert long.blob is not None
    kept = json.loads(bench.blobs.get(long.blob.sha256))
    assert set(kept) == {"text", "sketch", "segments", "features", "abstained", "model"}
    assert kept["text"] == text
    assert base64.b64decode(kept["sketch"]) == b"\x00\x01sketch"
    assert kept["segments"][0]["end"] == len(text)


async def test_the_same_document_again_is_the_same_blob(bench: Bench) -> None:
    item = bench.item(1, "a.txt", b"same words each time")
    assert await bench.run(item) == await bench.run(item)


async def test_an_analyzer_that_is_away_costs_no_try(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.analyzer.error = Unavailable("the model is being loaded")
    good, bad = await bench.run(bench.item(1, "a.txt", b"one two"), bench.item(2, "b.exe", b"x"))
    assert isinstance(good, Failure)
    assert (good.no_try, good.permanent) == (True, False)
    assert permanent(bad, ".exe")
    await bench.server.stop(None)
    monkeypatch.setattr(worker.processors.document, "CALL_SECONDS", 1.0)
    (gone,) = await bench.run(bench.item(1, "a.txt", b"one two"))
    assert isinstance(gone, Failure)
    assert gone.no_try


async def test_a_document_that_the_analyzer_refuses_leaves_its_neighbours_alone(bench: Bench) -> None:
    bench.analyzer.refuse = lambda text: "poison" in text
    outcomes = await bench.run(*(bench.item(i, f"{i}.txt", b"poison" if i == 2 else b"fine %d" % i) for i in range(4)))
    assert [isinstance(o, Result) for o in outcomes] == [True, True, False, True]
    assert permanent(outcomes[2], "refused")
    bench.analyzer.refuse = lambda text: False
    bench.analyzer.forget = {3}
    first, second = await bench.run(bench.item(2, "a.txt", b"yes"), bench.item(3, "b.txt", b"no"))
    assert isinstance(first, Result)
    assert isinstance(second, Failure)
    assert second.kind == "invalid_result"


async def test_a_defect_of_the_analyzer_is_tried_again(bench: Bench) -> None:
    bench.analyzer.error = Internal("a defect")
    (outcome,) = await bench.run(bench.item(1, "a.txt", b"one two"))
    assert isinstance(outcome, Failure)
    assert not outcome.permanent
    assert not outcome.no_try


async def test_large_documents_go_in_calls_of_their_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "CALL_BYTES", 1_000)
    await bench.run(*(bench.item(i, f"{i}.txt", (b"%d " % i) * 200) for i in range(6)))
    assert [len(call) for call in bench.analyzer.calls] == [2, 2, 2]


async def test_what_was_revoked_is_not_begun(bench: Bench) -> None:
    cancelled = asyncio.Event()
    cancelled.set()
    (outcome,) = await bench.processor.process_batch(
        [bench.item(1, "a.txt", b"one")], bench.context(cancelled=cancelled)
    )
    assert isinstance(outcome, Failure)
    assert outcome.no_try
    assert bench.analyzer.calls == []


async def test_ten_mebibytes_of_text(bench: Bench) -> None:
    data = ("ünïcödé wörds \n" * 700_000).encode()[: 10 << 20].rsplit(b"\n", 1)[0]
    (outcome,) = await bench.run(bench.item(1, "a.txt", data))
    assert isinstance(outcome, Result)
    assert outcome.blob is not None
    assert len(json.loads(bench.blobs.get(outcome.blob.sha256))["text"]) == len(data.decode())
