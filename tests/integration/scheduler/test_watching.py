"""WatchRun: one reader a run, any number of watchers, none misses an event."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from penstock.v1 import scheduler_pb2 as pb
from scheduler.watch_hub import Snapshot, WatchHub
from scheduler.watching import Watchers
from tests.integration.scheduler.world import World, completed


async def collect(world: World, run_id: str, **request: object) -> list[pb.WatchRunResponse]:
    call = world.runs.WatchRun(pb.WatchRunRequest(run_id=run_id, **request))  # type: ignore[arg-type]
    return [message async for message in call]


async def test_every_watcher_of_a_run_gets_every_event_once_and_in_order(world: World) -> None:
    run_id = await world.run(40)
    watchers = [asyncio.create_task(collect(world, run_id)) for _ in range(20)]
    worker = world.worker()
    for _ in range(4):
        leases = await worker.leases(10)
        assert await worker.report(run_id, [completed(lease) for lease in leases]) == []
    story = [event.number for event in await world.events(run_id)]
    for messages in await asyncio.wait_for(asyncio.gather(*watchers), 20):
        assert [event.number for message in messages for event in message.events] == story
        assert messages[-1].run.state == pb.RUN_STATE_COMPLETED
        numbers = [message.run.event_number for message in messages]
        assert numbers == sorted(numbers)


async def test_a_watch_of_an_ended_run_tells_its_story_and_ends(world: World) -> None:
    run_id = await world.run(1)
    worker = world.worker()
    (lease,) = await worker.leases(1)
    assert await worker.report(run_id, [completed(lease)]) == []
    story = await world.events(run_id)
    told = await collect(world, run_id)
    assert [event for message in told for event in message.events] == story
    from_now = await collect(world, run_id, from_now=True)
    assert [list(message.events) for message in from_now] == [[]]
    assert from_now[0].run.state == pb.RUN_STATE_COMPLETED
    resumed = await collect(world, run_id, after_number=story[2].number)
    assert [event for message in resumed for event in message.events] == story[3:]


async def test_an_unknown_run_is_not_found_by_a_watcher(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await collect(world, "run-nowhere")
    assert told.value.code() is grpc.StatusCode.NOT_FOUND


class Story:
    """A run that grows by hand; counts how often it is read."""

    def __init__(self) -> None:
        self.number = 0
        self.ended = False
        self.reads = 0
        self.broken = False
        self.forgotten = 0

    def read(self, number: int, after: int) -> Snapshot:
        self.reads += 1
        if self.broken:
            raise ConnectionError("gone")
        first = max(after, self.forgotten)
        events = [pb.Event(number=n) for n in range(first + 1, min(self.number, first + 1_000) + 1)]
        return Snapshot(pb.Run(event_number=self.number), events, self.ended)


class Follower:
    """A watcher of a story; `answers` counts what it got, `go_on` lets a slow one read further."""

    def __init__(self, hub: WatchHub, *, from_now: bool = False, slow: bool = False) -> None:
        self.answers = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()
        if not slow:
            self.go_on.set()
        self.task = asyncio.create_task(self._follow(hub, from_now))

    async def _follow(self, hub: WatchHub, from_now: bool) -> list[int]:
        seen: list[int] = []
        async for answer in hub.watch(1, after=0, from_now=from_now):
            seen += [event.number for event in answer.events]
            self.answers.release()
            await self.go_on.wait()
        return seen

    async def end(self) -> list[int]:
        return await asyncio.wait_for(self.task, 10)


async def test_many_watchers_cost_one_reader() -> None:
    story, wake = Story(), Watchers()
    hub = WatchHub(story.read, wake)
    story.number = 3
    watchers = [Follower(hub, from_now=True) for _ in range(100)]
    for watcher in watchers:
        await watcher.answers.acquire()
    before = story.reads
    story.number, story.ended = 8, True
    wake.wake([1])
    assert [await watcher.end() for watcher in watchers] == [[4, 5, 6, 7, 8]] * 100
    assert story.reads - before < 10


async def test_a_slow_watcher_gets_everything_it_missed_at_once() -> None:
    story, wake = Story(), Watchers()
    hub = WatchHub(story.read, wake)
    story.number = 5
    slow, quick = Follower(hub, slow=True), Follower(hub)
    await slow.answers.acquire()
    await quick.answers.acquire()
    story.number, story.ended = 7_000, True
    wake.wake([1])
    assert await quick.end() == list(range(1, 7_001))
    slow.go_on.set()
    assert await slow.end() == list(range(1, 7_001))


async def test_events_that_were_kept_for_their_time_are_passed_over() -> None:
    story = Story()
    story.number, story.forgotten, story.ended = 50, 40, True
    assert await Follower(WatchHub(story.read, Watchers())).end() == list(range(41, 51))
    story.forgotten = 50
    assert await Follower(WatchHub(story.read, Watchers())).end() == []


async def test_a_read_that_fails_ends_the_streams_and_the_next_watcher_begins_anew() -> None:
    story, wake = Story(), Watchers()
    hub = WatchHub(story.read, wake)
    story.number = 1
    watcher = Follower(hub)
    await watcher.answers.acquire()
    story.broken = True
    wake.wake([1])
    with pytest.raises(ConnectionError):
        await watcher.end()
    story.broken, story.ended = False, True
    assert await Follower(hub).end() == [1]
