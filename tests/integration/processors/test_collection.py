"""The `collection` processor: every outcome reaches the analyzer once, and a break costs no try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from penstock.processor import Context, ProcessorError, Result, ServiceUnavailable, WorkItem
from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import open_channel
from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.v1 import analyzer_pb2, scheduler_pb2
from tests.integration.processors.servers import Analyzer, Scheduler, serve
from worker.processors.collection import CollectionParameters, CollectionProcessor

ITEM = WorkItem("run-1", 1, 0, "collection", "", {"documents_stage": 0})


@dataclass
class Bench:
    analyzer: Analyzer
    scheduler: Scheduler
    context: Context[CollectionParameters]
    server: grpc.aio.Server
    told: list[tuple[float, str]] = field(default_factory=list)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    # What is not called here is not written.
    analyzer, scheduler = Analyzer(), Scheduler()  # type: ignore[abstract]
    server, port = await serve(analyzer=analyzer, scheduler=scheduler)
    channel = open_channel(f"127.0.0.1:{port}", None)
    context = Context(
        CollectionParameters(),
        BlobStore(tmp_path),
        asyncio.get_running_loop().time() + 60,
        {"analyzer": channel, "scheduler": channel},
    )
    made = Bench(analyzer, scheduler, context, server)
    context.on_progress = lambda share, phase: made.told.append((share, phase))
    try:
        yield made
    finally:
        await channel.close()
        await server.stop(None)


async def test_every_outcome_reaches_the_analyzer_once(bench: Bench) -> None:
    outcome = await CollectionProcessor().process(ITEM, bench.context)
    assert outcome == Result(
        {"documents": 1_200, "clusters": 2, "embedding_provider": "offline", "embedding_model": "lsa"}
    )
    assert [d.seq for d in bench.analyzer.collected] == list(range(1_200))
    first, second = bench.analyzer.collected[:2]
    assert (first.filename, first.sketch_blob.sha256) == ("d0.txt", "0" * 64)
    assert first.summary.ai_probability == 0.25
    assert first.summary.confidence_level == analyzer_pb2.CONFIDENCE_LEVEL_LOW
    assert not second.summary.HasField("ai_probability")
    assert second.summary.confidence_level == analyzer_pb2.CONFIDENCE_LEVEL_UNCERTAIN
    assert (second.summary.high, second.summary.medium, second.summary.low, second.summary.uncertain) == (1, 2, 3, 4)
    assert bench.told == [(0.5, "clusters"), (1.0, "done")]
    assert bench.scheduler.seconds is not None, "the stream has a deadline"
    assert 50 < bench.scheduler.seconds < 60
    assert bench.scheduler.asked == scheduler_pb2.ReadOutcomesRequest(
        run_id="run-1", stage=0, states=[scheduler_pb2.ITEM_STATE_COMPLETED]
    )


async def test_a_scheduler_that_goes_away_costs_no_try(bench: Bench) -> None:
    bench.scheduler.error = Unavailable("restarting")
    with pytest.raises(ServiceUnavailable):
        await CollectionProcessor().process(ITEM, bench.context)


@pytest.mark.parametrize("early", [True, False])
async def test_an_analyzer_that_goes_away_costs_no_try(bench: Bench, early: bool) -> None:
    bench.analyzer.ends_early = early
    bench.analyzer.collection_error = None if early else Unavailable("restarting")
    with pytest.raises(ServiceUnavailable):
        await CollectionProcessor().process(ITEM, bench.context)


async def test_an_analyzer_that_is_not_there_costs_no_try(bench: Bench) -> None:
    await bench.server.stop(None)
    with pytest.raises(ServiceUnavailable):
        await CollectionProcessor().process(ITEM, bench.context)


async def test_an_embedding_provider_that_does_not_answer_costs_a_try(bench: Bench) -> None:
    bench.analyzer.collection_error = Unavailable("the provider does not answer", code="embedding_unavailable")
    with pytest.raises(ProcessorError, match=r"^the provider does not answer$") as told:
        await CollectionProcessor().process(ITEM, bench.context)
    assert not isinstance(told.value, ServiceUnavailable)
    assert (told.value.kind, told.value.permanent) == ("unavailable", False)


async def test_what_the_analyzer_refuses_fails_the_item(bench: Bench) -> None:
    bench.analyzer.collection_error = InvalidInput("no")
    with pytest.raises(ProcessorError, match="no") as told:
        await CollectionProcessor().process(ITEM, bench.context)
    assert not isinstance(told.value, ServiceUnavailable)


async def test_what_is_not_done_in_its_time_costs_a_try(bench: Bench) -> None:
    bench.scheduler.stands_still = True
    bench.context.deadline = asyncio.get_running_loop().time()
    with pytest.raises(ProcessorError, match="not done within 1 s") as told:
        await CollectionProcessor().process(ITEM, bench.context)
    assert told.value.kind == "timeout"
