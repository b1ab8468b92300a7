"""gRPC of what people and programs see of runs. Validate, read, translate; nothing here changes anything.

Every read is one snapshot and bounded by its page; while SQL can't be read the call fails as `sql_unavailable`, and a
stream ends so: whoever reads comes back with the last number that it saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from penstock.filters import MAX_CHARACTERS
from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import InvalidInput
from penstock.runtime.paging import page_position
from penstock.runtime.plain_text import plain_text
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from penstock.words import event_types_problem
from scheduler.domain.states import ENDED_RUNS, ItemState, RunState
from scheduler.engine import Engine
from scheduler.explaining import Explainer
from scheduler.item_rows import ItemRows
from scheduler.listing import ItemList
from scheduler.plans import PLAN
from scheduler.run_calls import Context, RunCalls, page_size
from scheduler.store import reads
from scheduler.summary import Summary, held_up, run_summary
from scheduler.translate import (
    AnyRow,
    event_message,
    item_message,
    item_states,
    ledger_messages,
    run_message,
    run_states,
)
from scheduler.watch_hub import EVENT_PAGE, Snapshot, WatchHub

__all__ = ["SeeingCalls"]

OUTCOME_PAGE = 500
FINAL_MS = 3_600_000
"""Numbers of runs are taken at their start and seen at its commit: after so long all lower ones are."""
LEDGER_PAGE = 1_000
LEDGER_ROWS = 20


class SeeingCalls(RunCalls):
    """The methods of SchedulerService that only read."""

    def __init__(
        self, engine: Engine, database: Database, items: ItemList, rows: ItemRows, explainer: Explainer
    ) -> None:
        RunCalls.__init__(self, engine, database)
        self._items = items
        self._rows = rows
        self._explainer = explainer
        self._hub = WatchHub(self._snapshot, engine.watchers)

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.Run:
        return await self._read_run(run_id=plain_text(request.run_id, "run_id"), number=request.number)

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        limit = page_size(request.page_size, 50, 1_000)
        if request.skip < 0:
            raise InvalidInput(f"skip {request.skip} is negative", code="bad_skip")
        states = run_states(list(request.states))
        before, plan_id = page_position(request.page_token), plain_text(request.plan_id, "plan_id")
        if plan_id and not plan_id.startswith(PLAN):
            raise InvalidInput(
                f"plan_id is {plan_id[:80]!r}: runs are listed by the id of their plan, {PLAN}…", code="bad_plan_id"
            )

        def read() -> list[pb.Run]:
            with self._database.read() as connection:
                found = reads.list_runs(
                    connection,
                    before=before,
                    skip=request.skip,
                    limit=limit + 1,
                    kind=request.kind,
                    states=states,
                    plan_id=plan_id,
                )
                keys = reads.exclusive_keys_of(connection, [run.number for run, _ in found])
                return [
                    run_message(run, stages, self._engine.phases, exclusive_keys=keys.get(run.number, ()))
                    for run, stages in found
                ]

        runs = await asyncio.to_thread(read)
        more = len(runs) > limit
        return pb.ListRunsResponse(runs=runs[:limit], next_page_token=str(runs[limit - 1].number) if more else "")

    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> pb.ListItemsResponse:
        number = await self._find(request.run_id)
        return await self._items.page(
            number,
            request.stage,
            states=item_states(list(request.states)),
            limit=page_size(request.page_size, 100, 5_000),
            after_seq=-1 if (last := page_position(request.page_token)) is None else last,
            seqs=list(request.seqs),
            with_payload=request.with_payload,
            filter_=plain_text(request.filter, "filter", most=MAX_CHARACTERS),
        )

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        limit = page_size(request.page_size, 100, EVENT_PAGE)
        number = await self._find(request.run_id)
        types = [plain_text(name, "types") for name in request.types]
        if problem := event_types_problem(types):
            raise InvalidInput(problem, code="bad_type")
        subject = plain_text(request.subject, "subject")
        after = max(request.after_number, page_position(request.page_token) or 0)
        found = await asyncio.to_thread(self._events, number, after, types, limit + 1, subject)
        more = len(found) > limit
        return pb.ListEventsResponse(events=found[:limit], next_page_token=str(found[limit - 1].number) if more else "")

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        number = await self._find(request.run_id)
        after = max(0, request.after_number)
        async for answer in self._hub.watch(number, after=after, from_now=request.from_now):
            yield answer

    async def GetRunSummary(self, request: pb.GetRunSummaryRequest, context: Context) -> pb.RunSummary:
        run_id = plain_text(request.run_id, "run_id")

        now = self._engine.now_ms()

        def read() -> Summary:
            with self._database.read() as connection:
                return run_summary(connection, run_id, self._engine.phases, now)

        summary = await asyncio.to_thread(read)
        holds = list(summary.waits)
        if summary.closed:
            holds += await self._explainer.closures(summary.message.run.number)
        if holds:
            held_up(summary.message, holds, now)
        return summary.message

    async def ExplainRun(self, request: pb.ExplainRunRequest, context: Context) -> pb.Explanation:
        return await self._explainer.run(await self._find(request.run_id))

    async def ExplainItem(self, request: pb.ExplainItemRequest, context: Context) -> pb.Explanation:
        return await self._explainer.item(await self._find(request.run_id), request.stage, request.seq)

    async def ListLedger(self, request: pb.ListLedgerRequest, context: Context) -> pb.ListLedgerResponse:
        limit = page_size(request.page_size, 100, LEDGER_PAGE)
        number = await self._find(request.run_id)
        after, skip = _ledger_position(request.page_token)
        if after < request.after_number:
            after, skip = request.after_number, 0

        def read() -> pb.ListLedgerResponse:
            # A row has the entries of one transaction, thousands where many slots report at once.
            answer, at, passed = pb.ListLedgerResponse(), after, skip
            while rows := self._rows.ledger(number, after=at, limit=LEDGER_ROWS):
                for row in rows:
                    left = limit - len(answer.entries)
                    entries = ledger_messages(row)
                    answer.entries.extend(entries[passed : passed + left])
                    if passed + left < len(entries):
                        answer.next_page_token = f"{at}.{passed + left}"
                        return answer
                    at, passed = row.number, 0
            return answer

        return await asyncio.to_thread(read)

    async def ReadOutcomes(
        self, request: pb.ReadOutcomesRequest, context: Context
    ) -> AsyncIterator[pb.ReadOutcomesResponse]:
        number = await self._find(request.run_id)
        states = item_states(list(request.states)) or [ItemState.COMPLETED, ItemState.FAILED]
        after = request.after_settle_number

        def read() -> list[pb.RunItem]:
            rows = self._rows.outcomes(number, request.stage, after=after, states=states, limit=OUTCOME_PAGE)
            return [item_message(request.stage, row) for row in rows]

        while items := await asyncio.to_thread(read):
            after = items[-1].settle_number
            yield pb.ReadOutcomesResponse(items=items)

    async def ListSettledRuns(self, request: pb.ListSettledRunsRequest, context: Context) -> pb.ListSettledRunsResponse:
        limit = page_size(request.page_size, 1_000, 5_000)
        recent_ms = self._engine.now_ms() - FINAL_MS

        def read() -> pb.ListSettledRunsResponse:
            with self._database.read() as connection:
                rows = reads.settled_runs(connection, after=request.after_number, limit=limit + 1)
                final_below = reads.final_below(connection, recent_ms=recent_ms)
            runs = [
                pb.SettledRun(
                    run_id=row.run_id,
                    number=row.number,
                    plan_id=row.plan_id,
                    stage_count=row.stage_count,
                    settle_number=row.settle_number,
                    start_time=to_timestamp(row.start_ms),
                    ended=RunState(row.state) in ENDED_RUNS,
                )
                for row in rows[:limit]
            ]
            after = runs[-1].number if len(rows) > limit else 0
            return pb.ListSettledRunsResponse(runs=runs, next_after_number=after, final_below=final_below)

        return await asyncio.to_thread(read)

    def _snapshot(self, number: int, after: int) -> Snapshot:
        with self._database.read() as connection:
            run = self._message(connection, number=number)
            rows: Sequence[AnyRow] = reads.list_events(connection, number, after=after, types=[], limit=EVENT_PAGE)
        if run.archived and after < run.event_number and (not rows or rows[0].number != after + 1):
            # Of its oldest events, those that were forgotten stand in its archive alone.
            rows = self._rows.events(number, after=after, limit=EVENT_PAGE)
        return Snapshot(run, [event_message(row) for row in rows], run.state in _ENDED and run.quiesced)

    def _events(self, number: int, after: int, types: list[str], limit: int, subject: str = "") -> list[pb.Event]:
        rows = self._rows.events(number, after=after, types=types, subject=subject, limit=limit)
        return [event_message(row) for row in rows]


_ENDED = {pb.RunState.Value(f"RUN_STATE_{RunState(state).upper()}") for state in ENDED_RUNS}


def _ledger_position(token: str) -> tuple[int, int]:
    """After which batch a page begins, and how many entries of the next one were told. Raises InvalidInput."""
    after, _, told = token.partition(".")
    return page_position(after) or 0, page_position(told) or 0
