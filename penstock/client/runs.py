"""Runs: start, look, command, and watch one to its end through restarts of the scheduler.

`watch` holds one stream; when it breaks it takes it up again after the last event that it has seen, so that no event
is told twice and none is lost. It gives up when the scheduler has not answered for the connection's `retry_seconds`.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from penstock.client.connection import Connection, worth_another_try
from penstock.client.filling import filled
from penstock.client.items import Items
from penstock.runtime.channel import calling
from penstock.runtime.clock import Clock, SystemClock
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from penstock.v1 import planner_pb2, scheduler_pb2

__all__ = ["ENDED", "RUN_STATES", "RunRef", "Runs", "StageChange"]

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

FIRST_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 1.0
CLONE_SECONDS = 300.0  # the plan of what is left is written within the call

RunRef = int | str
"""A run's id, or its number (`job_id` of the documents contract)."""


def chosen_run_states(names: Sequence[str]) -> list[scheduler_pb2.RunState.ValueType]:
    """Run states by their words. Raises InvalidInput that lists the valid ones."""
    unknown = [name for name in names if name not in RUN_STATES]
    if unknown:
        raise InvalidInput(f"no run state {unknown[0]!r}: one of {', '.join(RUN_STATES)}", code="bad_state")
    return [RUN_STATES[name] for name in names]


@dataclass(frozen=True, kw_only=True)
class StageChange:
    """What changes of a stage of a live run; None stays as it is, NO_CAP takes a cap away."""

    stage: int = 0
    concurrency: int | None = None
    max_tries: int | None = None
    max_run_seconds: int | None = None
    budget_micros: int | None = None
    item_budget_micros: int | None = None

    def message(self) -> scheduler_pb2.StageUpdate:
        return filled(
            scheduler_pb2.StageUpdate,
            stage=self.stage,
            concurrency=self.concurrency,
            max_tries=self.max_tries,
            max_run_seconds=self.max_run_seconds,
            budget_micros=self.budget_micros,
            item_budget_micros=self.item_budget_micros,
        )


class Runs:
    """One execution of a plan each."""

    def __init__(self, connection: Connection, clock: Clock | None = None) -> None:
        self._connection = connection
        self._clock = clock or SystemClock.start()
        self._items = Items(connection)

    async def start(
        self,
        plan_id: str,
        *,
        name: str = "",
        owner: str = "",
        priority: int = 0,
        budget_micros: int | None = None,
        exclusive_keys: Sequence[str] = (),
        confirm: bool = False,
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.Run:
        """Durable when it answers. The same request_id answers the same run.

        confirm: whoever asks knows what the plan warns of; without it raises Conflict (`confirm_required`) for a plan
        that says `needs_confirm`.

        owner: whom its slots are counted for; default the actor. priority: higher goes first among the owner's runs.
        exclusive_keys: each is held by one live run; raises AlreadyExists or Conflict that names the holder.
        """
        request = filled(
            scheduler_pb2.StartRunRequest,
            plan_id=plan_id,
            name=name,
            actor=self._connection.actor,
            owner=owner,
            priority=priority,
            budget_micros=budget_micros,
            exclusive_keys=exclusive_keys,
            confirm=confirm,
            reason=reason,
        )

        async def call(chosen: str) -> scheduler_pb2.Run:
            request.request_id = chosen
            return await self._connection.scheduler.StartRun(request)

        return await self._connection.idempotent(call, request_id)

    async def get(self, run: RunRef) -> scheduler_pb2.Run:
        """By id or by number. Raises NotFound."""
        named: dict[str, object] = {"number": run} if isinstance(run, int) else {"run_id": run}
        request = filled(scheduler_pb2.GetRunRequest, **named)
        return await self._connection.read(lambda: self._connection.scheduler.GetRun(request))

    async def list_page(
        self,
        *,
        page_size: int = 50,
        page_token: str = "",
        skip: int = 0,
        kind: planner_pb2.SourceKind.ValueType = planner_pb2.SOURCE_KIND_UNSPECIFIED,
        states: Sequence[str] = (),
        plan_id: str = "",
    ) -> scheduler_pb2.ListRunsResponse:
        request = filled(
            scheduler_pb2.ListRunsRequest,
            page_size=page_size,
            page_token=page_token,
            skip=skip,
            kind=kind,
            states=chosen_run_states(states),
            plan_id=plan_id,
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

    async def update(
        self,
        run_id: str,
        *,
        priority: int | None = None,
        budget_micros: int | None = None,
        stages: Sequence[StageChange] = (),
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.RunCommandResponse:
        """Changes a live run; what is None stays. Budgets: NO_CAP takes a cap away."""
        request = filled(
            scheduler_pb2.UpdateRunRequest,
            run_id=run_id,
            actor=self._connection.actor,
            reason=reason,
            priority=priority,
            budget_micros=budget_micros,
            stages=[stage.message() for stage in stages],
        )

        async def call(chosen: str) -> scheduler_pb2.RunCommandResponse:
            request.request_id = chosen
            return await self._connection.scheduler.UpdateRun(request)

        return await self._connection.idempotent(call, request_id)

    async def clone(
        self,
        run_id: str,
        *,
        failed: bool = False,
        unfinished: bool = False,
        name: str = "",
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.Run:
        """A new run of only the failed or unfinished items of this one; neither chosen: of both."""
        actor = self._connection.actor
        return await self._connection.idempotent(
            lambda chosen: self._connection.scheduler.CloneRun(
                scheduler_pb2.CloneRunRequest(
                    run_id=run_id,
                    failed=failed,
                    unfinished=unfinished,
                    name=name,
                    actor=actor,
                    reason=reason,
                    request_id=chosen,
                ),
                timeout=CLONE_SECONDS,
            ),
            request_id,
        )

    def items(
        self,
        run_id: str,
        *,
        stage: int = 0,
        states: Sequence[str] = (),
        filter: str = "",  # noqa: A002
    ) -> AsyncIterator[scheduler_pb2.RunItem]:
        """Every item of a stage in order of seq: `Items.each`."""
        return self._items.each(run_id, stage=stage, states=states, filter=filter)

    async def summary(self, run_id: str) -> scheduler_pb2.RunSummary:
        """Counts, throughput, ETA, what runs, failures grouped, money; in constant time."""
        request = scheduler_pb2.GetRunSummaryRequest(run_id=run_id)
        return await self._connection.read(lambda: self._connection.scheduler.GetRunSummary(request))

    async def explain(self, run_id: str) -> scheduler_pb2.Explanation:
        """Why it does not go on, what would change that, and since when."""
        request = scheduler_pb2.ExplainRunRequest(run_id=run_id)
        return await self._connection.read(lambda: self._connection.scheduler.ExplainRun(request))

    async def ledger_page(
        self, run_id: str, *, after: int = 0, page_size: int = 100, page_token: str = ""
    ) -> scheduler_pb2.ListLedgerResponse:
        request = filled(
            scheduler_pb2.ListLedgerRequest,
            run_id=run_id,
            after_number=after,
            page_size=page_size,
            page_token=page_token,
        )
        return await self._connection.read(lambda: self._connection.scheduler.ListLedger(request))

    async def ledger(self, run_id: str, *, after: int = 0) -> AsyncIterator[scheduler_pb2.LedgerEntry]:
        """Every entry of money in order; their micros sum up to what the run has spent."""
        token = ""
        while True:
            page = await self.ledger_page(run_id, after=after, page_size=1000, page_token=token)
            for entry in page.entries:
                yield entry
            token = page.next_page_token
            if not token:
                return

    async def events_page(
        self,
        run_id: str,
        *,
        after: int = 0,
        page_size: int = 100,
        page_token: str = "",
        types: Sequence[str] = (),
        subject: str = "",
    ) -> scheduler_pb2.ListEventsResponse:
        request = filled(
            scheduler_pb2.ListEventsRequest,
            run_id=run_id,
            after_number=after,
            page_size=page_size,
            page_token=page_token,
            types=types,
            subject=subject,
        )
        return await self._connection.read(lambda: self._connection.scheduler.ListEvents(request))

    async def events(
        self, run_id: str, *, after: int = 0, types: Sequence[str] = (), subject: str = ""
    ) -> AsyncIterator[scheduler_pb2.Event]:
        """What has happened so far, oldest first, after the event with number `after`.

        subject: only of `stage:0`, `item:0/17`, …
        """
        token = ""
        while True:
            page = await self.events_page(
                run_id, after=after, page_size=1000, page_token=token, types=types, subject=subject
            )
            for event in page.events:
                yield event
            token = page.next_page_token
            if not token:
                return

    async def follow(self, run_id: str, *, after: int = 0) -> AsyncIterator[scheduler_pb2.Event]:
        """Every event once and in order, past ones first, then new ones as they come; ends when the run has ended."""
        async for answer in self.watch(run_id, after=after):
            for event in answer.events:
                if event.number > after + 1:  # what a coalesced stream left out
                    async for missed in self.events(run_id, after=after):
                        if missed.number >= event.number:
                            break
                        yield missed
                yield event
                after = event.number

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
