"""WatchRun: one reader a run, however many watch it.

A *feed* follows one run while somebody watches it: it reads the run and its new events when a commit woke it, or once
a tick (another scheduler may have committed; phases live in memory), and keeps the latest events. Each watcher takes
from the feed what is newer than what it has seen, all of it at once: who reads slowly gets the run as it is then, and
every event. Events that the feed keeps no more are read from SQL, page by page.

The more watch, the longer changes are gathered before they are sent, so that watching costs a bounded share of the
scheduler. A feed may not decide or change anything. When SQL can't be read, every watcher's stream ends with that
error; it comes back with the number of the last event that it saw, and a new feed begins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from penstock.runtime import metrics
from penstock.v1 import scheduler_pb2 as pb
from scheduler.watching import Watchers

__all__ = ["EVENT_PAGE", "Snapshot", "WatchHub"]

EVENT_PAGE = 1_000
KEPT_EVENTS = 2_000
TICK_SECONDS = 1.0
GATHER_SECONDS = 0.1
GATHER_SECONDS_A_WATCHER = 0.01
GATHER_MOST_SECONDS = 2.0


@dataclass(frozen=True)
class Snapshot:
    """A run as one transaction saw it, with the first page of its events after a number."""

    run: pb.Run
    events: list[pb.Event]
    ended: bool


Read = Callable[[int, int], Snapshot]
"""(run number, after event number) -> snapshot; blocking, called in a thread."""


class _Feed:
    """The one reader of a run. `version` grows with everything that watchers have not seen."""

    def __init__(self) -> None:
        self.watchers = 0
        self.version = 0
        self.latest: Snapshot | None = None
        self.events: deque[pb.Event] = deque(maxlen=KEPT_EVENTS)
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._answer: tuple[Snapshot, int, int, pb.WatchRunResponse] | None = None

    def answer(self, snapshot: Snapshot, events: list[pb.Event]) -> pb.WatchRunResponse:
        """The run with these events. Most watchers are told the same: it is made once for all of them."""
        first, last = (events[0].number, events[-1].number) if events else (0, 0)
        made = self._answer
        if made is None or made[0] is not snapshot or made[1:3] != (first, last):
            response = pb.WatchRunResponse(run=snapshot.run, events=events)
            self._answer = made = (snapshot, first, last, response)
        return made[3]

    async def newer(self, version: int) -> None:
        """Returns once there is more than `version`. Raises what ended the feed."""
        while self.version <= version:
            if self.error is not None:
                raise self.error
            await self._news.wait()

    def tell(self) -> None:
        self.version += 1
        self._wake()

    def fail(self, error: Exception) -> None:
        self.error = error
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class WatchHub:
    """All watched runs of this scheduler. `watchers` wakes a feed after a commit that changed its run."""

    def __init__(self, read: Read, watchers: Watchers) -> None:
        self._read = read
        self._watchers = watchers
        self._feeds: dict[int, _Feed] = {}
        self._count = 0

    async def watch(self, number: int, *, after: int, from_now: bool) -> AsyncIterator[pb.WatchRunResponse]:
        """The run, then it again with every change, and all its events after `after`; ends when the run has ended."""
        feed = self._feeds.get(number)
        if feed is None or feed.error is not None:
            feed = self._feeds[number] = _Feed()
            feed.task = asyncio.create_task(self._follow(number, feed))
        feed.watchers += 1
        self._count += 1
        metrics.WATCHERS.set(self._count)
        try:
            version = 0
            while True:
                await feed.newer(version)
                version = feed.version
                snapshot = feed.latest
                assert snapshot is not None, number
                if from_now:
                    after, from_now = snapshot.run.event_number, False
                events = await self._after(number, feed, after)
                while len(events) == EVENT_PAGE and events[-1].number < snapshot.run.event_number:
                    yield pb.WatchRunResponse(run=snapshot.run, events=events)
                    after = events[-1].number
                    events = await self._after(number, feed, after)
                # Events that are told of and not there any more were kept for their time.
                after = events[-1].number if events else max(after, snapshot.run.event_number)
                # The feed may have gone on meanwhile: what is sent is the latest.
                version, snapshot = feed.version, feed.latest or snapshot
                yield feed.answer(snapshot, events)
                if snapshot.ended and after >= snapshot.run.event_number:
                    return
                if after < snapshot.run.event_number:
                    version = 0
        finally:
            feed.watchers -= 1
            self._count -= 1
            metrics.WATCHERS.set(self._count)
            if not feed.watchers:
                if self._feeds.get(number) is feed:
                    del self._feeds[number]
                if feed.task is not None:
                    feed.task.cancel()

    async def _after(self, number: int, feed: _Feed, after: int) -> list[pb.Event]:
        """At most a page of events with a number > `after`: kept ones where they reach back so far, else from SQL."""
        kept = feed.events
        if not kept or after >= kept[-1].number:
            last = feed.latest.run.event_number if feed.latest is not None else 0
            if after >= last:
                return []
        elif after >= kept[0].number - 1:
            first = after - kept[0].number + 1
            return [kept[i] for i in range(first, min(len(kept), first + EVENT_PAGE))]
        return (await asyncio.to_thread(self._read, number, after)).events

    async def _follow(self, number: int, feed: _Feed) -> None:
        seen = b""
        after = -1
        try:
            with self._watchers.watching(number) as changed:
                while True:
                    changed.clear()
                    # The first look takes no events: who wants old ones reads them for itself.
                    snapshot = await asyncio.to_thread(self._read, number, after if after >= 0 else 2**62)
                    if after < 0:
                        after = snapshot.run.event_number
                    now = snapshot.run.SerializeToString(deterministic=True)
                    if snapshot.events or now != seen:
                        seen = now
                        feed.events.extend(snapshot.events)
                        after = snapshot.events[-1].number if snapshot.events else after
                        feed.latest = snapshot
                        feed.tell()
                    if after < snapshot.run.event_number:
                        continue
                    await _wait(changed, TICK_SECONDS)
                    gather = GATHER_SECONDS + GATHER_SECONDS_A_WATCHER * self._count
                    await asyncio.sleep(min(gather, GATHER_MOST_SECONDS))
        except Exception as error:
            feed.fail(error)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
