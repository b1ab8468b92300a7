"""What the client does when a service is away, refuses, or breaks off; and that its plain form does the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock import Client
from penstock.client import AsyncClient
from penstock.runtime.errors import InvalidInput, NotFound, TooLarge, Unavailable
from penstock.v1 import scheduler_pb2 as s
from tests.integration.client.services import Services, away, documents_run


async def test_a_read_is_tried_again(services: Services, client: AsyncClient) -> None:
    services.state.runs.append(documents_run(1))
    services.state.fail["GetRun"] = [away(), away()]
    assert (await client.runs.get(1)).number == 1
    assert len(services.state.named("GetRun")) == 3


async def test_a_start_is_tried_again_under_the_same_request_id(services: Services, client: AsyncClient) -> None:
    services.state.fail["StartRun"] = [away()]
    await client.runs.start("plan-1")
    first, second = services.state.named("StartRun")
    assert first.request_id == second.request_id != ""
    assert first.actor == "sdk"


async def test_what_is_refused_is_not_tried_again(services: Services, client: AsyncClient) -> None:
    services.state.fail["CreatePlan"] = [InvalidInput("no processor named 'x'", code="processor_not_found")]
    with pytest.raises(InvalidInput, match="no processor") as refusal:
        await client.plans.create("src-1")
    assert refusal.value.code == "processor_not_found"
    assert len(services.state.named("CreatePlan")) == 1


async def test_a_disk_that_is_full_is_told_at_once(services: Services, client: AsyncClient) -> None:
    services.state.fail["CreatePlan"] = [Unavailable("the disk is full", code="disk_full")]
    with pytest.raises(Unavailable, match="disk is full"):
        await client.plans.create("src-1")
    assert len(services.state.named("CreatePlan")) == 1


async def test_a_service_that_stays_away_ends_in_unavailable(services: Services) -> None:
    async with services.client(retry_seconds=3.0) as client:
        services.state.fail["GetRun"] = [away() for _ in range(100)]
        with pytest.raises(Unavailable, match="away for a moment"):
            await client.runs.get(1)
    assert len(services.state.named("GetRun")) > 1


async def test_where_nobody_listens_the_service_is_named_and_nothing_is_printed(
    services: Services, capfd: pytest.CaptureFixture[str]
) -> None:
    async with AsyncClient(endpoints=replace(services.endpoints, scheduler="127.0.0.1:9"), retry_seconds=0.5) as client:
        with pytest.raises(Unavailable, match=r"the scheduler does not answer at 127\.0\.0\.1:9"):
            await client.runs.get(1)
    assert capfd.readouterr().out == ""


async def test_a_broken_upload_is_sent_again_whole(services: Services, client: AsyncClient, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(name)
    services.state.fail["CreateSource"] = [away()]
    source = await client.sources.documents([folder])
    assert source.item_count == 2
    broken, whole = services.state.uploads
    assert not broken.ended
    assert whole.texts() == {"a.txt": b"a.txt", "b.txt": b"b.txt"}
    assert broken.header.request_id == whole.header.request_id


async def test_an_upload_that_is_refused_half_way_says_why(
    services: Services, client: AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "large.txt").write_bytes(b"x" * (8 << 20))
    services.state.fail["CreateSource"] = [TooLarge("the upload is too large")]
    with pytest.raises(TooLarge, match="too large"):
        await client.sources.documents([tmp_path / "large.txt"])


async def test_watch_goes_on_after_the_last_event_when_its_stream_breaks(
    services: Services, client: AsyncClient
) -> None:
    running = documents_run(1, state=s.RUN_STATE_RUNNING)
    services.state.runs.append(running)

    async def watch(request: s.WatchRunRequest) -> AsyncIterator[s.WatchRunResponse]:
        if request.after_number == 0:
            yield s.WatchRunResponse(run=running)
            yield s.WatchRunResponse(run=running, events=[s.Event(number=1), s.Event(number=2)])
            raise away()
        if request.after_number == 2:
            yield s.WatchRunResponse(run=running, events=[s.Event(number=3)])
            return  # the scheduler drains: the run has not ended
        yield s.WatchRunResponse(run=documents_run(1, state=s.RUN_STATE_COMPLETED), events=[s.Event(number=4)])

    services.state.watch = watch
    answers = [answer async for answer in client.runs.watch("run-1")]
    assert [event.number for answer in answers for event in answer.events] == [1, 2, 3, 4]
    assert [request.after_number for request in services.state.named("WatchRun")] == [0, 2, 3]
    assert answers[-1].run.state == s.RUN_STATE_COMPLETED


async def test_watch_of_what_is_not_there_is_not_found(client: AsyncClient) -> None:
    with pytest.raises(NotFound):
        [answer async for answer in client.runs.watch("run-9")]


async def test_watch_gives_up_when_the_scheduler_stays_away(services: Services) -> None:
    async with services.client(retry_seconds=0.3) as client:
        services.state.fail["WatchRun"] = [away() for _ in range(100)]
        with pytest.raises(Unavailable):
            [answer async for answer in client.runs.watch("run-1")]


async def test_events_are_read_page_by_page(services: Services, client: AsyncClient) -> None:
    services.state.runs.append(documents_run(1))
    services.state.events = [s.Event(number=number) for number in range(1, 2502)]
    assert [event.number async for event in client.runs.events("run-1", after=1)] == list(range(2, 2502))
    assert len(services.state.named("ListEvents")) == 3


async def test_an_unknown_state_lists_the_valid_ones(client: AsyncClient) -> None:
    with pytest.raises(InvalidInput, match="queued, running, retry, completed"):
        await client.items.page("run-1", states=["done"])


async def test_the_plain_client_answers_and_raises_the_same(services: Services) -> None:
    services.state.runs.append(documents_run(1))
    services.state.events = [s.Event(number=1), s.Event(number=2)]

    def plainly() -> None:
        with Client(endpoints=services.endpoints, retry_seconds=1.0) as client:
            assert client.runs.get(1).run_id == "run-1"
            assert [event.number for event in client.runs.events("run-1")] == [1, 2]
            assert next(iter(client.runs.watch("run-1"))).run.number == 1
            assert client.documents.wait(1)["job_id"] == 1
            with pytest.raises(NotFound):
                client.documents.status(7)

    await asyncio.to_thread(plainly)
