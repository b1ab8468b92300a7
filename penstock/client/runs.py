"""Runs: start, look, command, and watch one to its end through restarts of the scheduler.

`watch` holds one stream; when it breaks it takes it up again after the last event that it has seen, so that no event
is told twice and none is lost. It gives up when the scheduler has not answered for the connection's `retry_seconds`.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Sequence

from penstock.client.connection import Connection, worth_another_try
from penstock.runtime.channel import calling
from penstock.runtime.clock import Clock, SystemClock
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from penstock.v1 import planner_pb2, scheduler_pb2

__all__ = ["ENDED", "ITEM_STATES", "RUN_STATES", "Runs"]

ENDED = frozenset(
    {
        scheduler_pb2.RUN_STATE_STOPPED,
        scheduler_pb2.RUN_STATE_COMPLETED,
        scheduler_pb2.RUN_STATE_COMPLETED_WITH_FAILURES,
        scheduler_pb2.RUN_STATE_FAILED,
    }
)
RUN_STATES = {
    name.removeprefix("RUN_STATE_").lower(): scheduler_pb2.RunState.Value(name)
    for name in scheduler_pb2.RunState.keys()[1:]
}
ITEM_STATES = {
    name.removeprefix("ITEM_STATE_").lower(): scheduler_pb2.ItemState.Value(name)
    for name in scheduler_pb2.ItemState.keys()[1:]
}

FIRST_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 1.0

RunRef = int | str
"""A run's id, or its number (`job_id` of the documents contract)."""


def chosen_states(names: Sequence[str]) -> list[scheduler_pb2.ItemState.ValueType]:
    """Item states by their words. Raises InvalidInput that lists the valid ones."""
    unknown = [name for name in names if name not in ITEM_STATES]
    if unknown:
        raise InvalidInput(f"no item state {unknown[0]!r}: one of {', '.join(ITEM_STATES)}", code="bad_state")
    return [ITEM_STATES[name] for name in names]


def chosen_run_states(names: Sequence[str]) -> list[scheduler_pb2.RunState.ValueType]:
    """Run states by their words. Raises InvalidInput that lists the valid ones."""
    unknown = [name for name in names if name not in RUN_STATES]
    if unknown:
        raise InvalidInput(f"no run state {unknown[0]!r}: one of {', '.join(RUN_STATES)}", code="bad_state")
    return [RUN_STATES[name] for name in names]


class Runs:
    """One execution of a plan each."""

    def __init__(self, connection: Connection, clock: Clock | None = None) -> None:
        self._connection = connection
        self._clock = clock or SystemClock.start()

    async def start(self, plan_id: str, *, name: str = "", request_id: str = "") -> scheduler_pb2.Run:
        """Durable when it answers. The same request_id answers the same run."""

        async def call(chosen: str) -> scheduler_pb2.Run:
            request = scheduler_pb2.StartRunRequest(
                plan_id=plan_id, name=name, request_id=chosen, actor=self._connection.actor
            )
            return await self._connection.scheduler.StartRun(request)

        return await self._connection.idempotent(call, request_id)

    async def get(self, run: RunRef) -> scheduler_pb2.Run:
        """By id or by number. Raises NotFound."""
        request = (
            scheduler_pb2.GetRunRequest(number=run) if isinstance(run, int) else scheduler_pb2.GetRunRequest(run_id=run)
        )
        return await self._connection.read(lambda: self._connection.scheduler.GetRun(request))

    async def list_page(
        self,
        *,
        page_size: int = 50,
        page_token: str = "",
        skip: int = 0,
        kind: planner_pb2.SourceKind.ValueType = planner_pb2.SOURCE_KIND_UNSPECIFIED,
        states: Sequence[str] = (),
    ) -> scheduler_pb2.ListRunsResponse:
        request = scheduler_pb2.ListRunsRequest(
            page_size=page_size, page_token=page_token, skip=skip, kind=kind, states=chosen_run_states(states)
        )
        return await self._connection.read(lambda: self._connection.scheduler.ListRuns(request))

    async def list(self, *, limit: int = 50, states: Sequence[str] = ()) -> builtins.list[scheduler_pb2.Run]:
        """The newest runs first."""
        return list((await self.list_page(page_size=limit, states=states)).runs)

    async def pause(self, run_id: str, *, reason: str = "", request_id: str = "") -> scheduler_pb2.RunCommandResponse:
        """After the answer nothing is granted; `run.quiesced` tells when nothing runs any more."""
        stub = self._connection.scheduler
        return await self._connection.idempotent(
            lambda chosen: stub.PauseRun(self._command(run_id, reason, chosen)), request_id
        )

    async def resume(self, run_id: str, *, reason: str = "", request_id: str = "") -> scheduler_pb2.RunCommandResponse:
        """Goes on with what is not completed."""
        stub = self._connection.scheduler
        return await self._connection.idempotent(
            lambda chosen: stub.ResumeRun(self._command(run_id, reason, chosen)), request_id
        )

    async def stop(
        self, run_id: str, *, force: bool = False, reason: str = "", request_id: str = ""
    ) -> scheduler_pb2.RunCommandResponse:
        """What runs may finish; with `force` it is revoked at once."""
        stub = self._connection.scheduler
        actor = self._connection.actor
        return await self._connection.idempotent(
            lambda chosen: stub.StopRun(
                scheduler_pb2.StopRunRequest(run_id=run_id, reason=reason, actor=actor, request_id=chosen, force=force)
            ),
            request_id,
        )

    def _command(self, run_id: str, reason: str, request_id: str) -> scheduler_pb2.RunCommand:
        return scheduler_pb2.RunCommand(
            run_id=run_id, reason=reason, actor=self._connection.actor, request_id=request_id
        )

    async def items_page(
        self,
        run_id: str,
        *,
        stage: int = 0,
        states: Sequence[str] = (),
        page_size: int = 100,
        page_token: str = "",
        seqs: Sequence[int] = (),
        with_payload: bool = False,
    ) -> scheduler_pb2.ListItemsResponse:
        request = scheduler_pb2.ListItemsRequest(
            run_id=run_id,
            stage=stage,
            states=chosen_states(states),
            page_size=page_size,
            page_token=page_token,
            seqs=seqs,
            with_payload=with_payload,
        )
        return await self._connection.read(lambda: self._connection.scheduler.ListItems(request))

    async def item_pages(
        self, run_id: str, *, stage: int = 0, states: Sequence[str] = (), page_size: int = 5000
    ) -> AsyncIterator[Sequence[scheduler_pb2.RunItem]]:
        """Every item of a stage in order of seq, page by page."""
        token = ""
        while True:
            page = await self.items_page(run_id, stage=stage, states=states, page_size=page_size, page_token=token)
            yield page.items
            token = page.next_page_token
            if not token:
                return

    async def items(
        self, run_id: str, *, stage: int = 0, states: Sequence[str] = ()
    ) -> AsyncIterator[scheduler_pb2.RunItem]:
        """Every item of a stage in order of seq."""
        async for page in self.item_pages(run_id, stage=stage, states=states, page_size=1000):
            for item in page:
                yield item

    async def events_page(
        self, run_id: str, *, after: int = 0, page_size: int = 100, types: Sequence[str] = ()
    ) -> scheduler_pb2.ListEventsResponse:
        request = scheduler_pb2.ListEventsRequest(run_id=run_id, after_number=after, page_size=page_size, types=types)
        return await self._connection.read(lambda: self._connection.scheduler.ListEvents(request))

    async def events(
        self, run_id: str, *, after: int = 0, types: Sequence[str] = ()
    ) -> AsyncIterator[scheduler_pb2.Event]:
        """What has happened so far, oldest first, after the event with number `after`."""
        while True:
            page = await self.events_page(run_id, after=after, page_size=1000, types=types)
            for event in page.events:
                yield event
            after = page.next_after_number
            if not after:
                return

    async def watch(
        self, run_id: str, *, after: int = 0, from_now: bool = False
    ) -> AsyncIterator[scheduler_pb2.WatchRunResponse]:
        """The run as it is, then its events after number `after` (from_now: only new ones) with the run as it then is.

        Ends when the run has ended. Raises NotFound, and Unavailable when the scheduler stays away.
        """
        answered = self._clock.monotonic()
        delay = FIRST_DELAY_SECONDS
        ended = False
        while True:
            request = scheduler_pb2.WatchRunRequest(run_id=run_id, after_number=after, from_now=from_now)
            call = self._connection.scheduler.WatchRun(request)
            failure: PenstockError = Unavailable("the scheduler closed the stream before the run had ended")
            try:
                with calling():
                    async for answer in call:
                        answered, delay = self._clock.monotonic(), FIRST_DELAY_SECONDS
                        if answer.events:
                            after, from_now = answer.events[-1].number, False
                        elif from_now:
                            after, from_now = answer.run.event_number, False
                        yield answer
                        ended = answer.run.state in ENDED
                    if ended:
                        return
            except PenstockError as error:
                if not worth_another_try(error):
                    raise
                failure = error
            finally:
                call.cancel()
            if self._clock.monotonic() - answered > self._connection.retry_seconds:
                raise failure
            await asyncio.sleep(delay)
            delay = min(delay * 2, MAX_DELAY_SECONDS)

    async def wait(
        self, run_id: str, *, on_change: Callable[[scheduler_pb2.Run], None] = lambda run: None
    ) -> scheduler_pb2.Run:
        """The run once it has ended; `on_change` sees it on the way."""
        last: scheduler_pb2.Run | None = None
        async for answer in self.watch(run_id, from_now=True):
            last = answer.run
            on_change(last)
        assert last is not None, "a watch begins with a snapshot"
        return last
