"""DeletePlan after the wire: a plan goes once no run needs it, and takes along what nobody else has.

    marked here ──let go of by the scheduler──▶ its results copied ──▶ removed here
       └── a run needs it: kept as it was, and the caller is told which run

The mark comes first: from then on nobody starts the plan here. A start that asked before is refused by the scheduler,
which makes no run of a plan that it has let go of. Every step can be done again. A planner that dies in between, or
can't reach the scheduler, leaves the mark: the plan is read as before and not started, and the next sweep (at the
start, then every five minutes) or the next DeletePlan goes on from there, by force where that was asked for: a call
that the scheduler still works at may let go by force at any time.
"""

from __future__ import annotations

import asyncio

from penstock.runtime.clock import Clock
from penstock.runtime.errors import Conflict, NotFound, PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from penstock.v1 import scheduler_pb2
from penstock.words import counted
from planner.removals.plan_uses import PlanUses, Uses
from planner.removals.rows import RemovalRows
from planner.results.copying import Results
from planner.store import PlanRow, Store, refuse_etag

__all__ = ["Removing"]

log = get_logger("planner")

_BY_HAND = {
    scheduler_pb2.RUN_STATE_PAUSED: "resume or stop what is paused",
    scheduler_pb2.RUN_STATE_WAITING: "answer or pay what waits for it, or stop it",
}
"""What to do about runs that do not end by themselves."""


class Removing:
    """uses: None where nobody said where the scheduler is; then drafts alone can be removed."""

    def __init__(
        self, *, rows: RemovalRows, uses: PlanUses | None, results: Results, store: Store, clock: Clock
    ) -> None:
        self._rows = rows
        self._uses = uses
        self._results = results
        self._store = store
        self._clock = clock
        self._turn = asyncio.Lock()

    async def remove(self, plan_id: str, *, change: int | None, force: bool, look: bool) -> tuple[PlanRow, int]:
        """The plan as it was, and how many runs it had. look: refuses what it would refuse, and removes nothing.

        Raises NotFound, Conflict (`plan_needed`, `etag_mismatch`), Unavailable (the removal goes on later).
        """
        async with self._turn:
            row = await asyncio.to_thread(self._store.plan, plan_id, now_ms=self._clock.now_ms())
            if look:
                if change is not None:
                    refuse_etag(row.plan_id, row.name, row.change, change)
                return row, 0 if row.draft else await self._asked(row, force=force)
            if not row.draft:
                self._scheduler()
            now_ms = self._clock.now_ms()
            if not await asyncio.to_thread(self._rows.mark, row, change=change, force=force, now_ms=now_ms):
                return row, 0
            try:
                return row, await self._finish(row, force=force)
            except Conflict:
                raise
            except PenstockError as error:
                raise Unavailable(
                    f"plan {row.plan_id} starts no more, and its removal goes on by itself as soon as that is "
                    f"possible: {error.message}",
                    code="plan_removing",
                ) from error

    async def sweep(self) -> int:
        """Goes on with removals that were begun and not ended; answers how many plans went."""
        count = 0
        for plan_id, uid in await asyncio.to_thread(self._rows.marked):
            async with self._turn:
                try:
                    row = await asyncio.to_thread(self._store.plan, plan_id, now_ms=self._clock.now_ms())
                    if row.uid != uid or row.remove_ms is None:
                        continue
                    await self._finish(row, force=row.remove_force)
                    count += 1
                except NotFound:
                    continue
                except Conflict as error:
                    log.warning("a plan whose removal was begun is kept", plan=plan_id, why=error.message)
                except PenstockError as error:
                    log.warning("a plan can't be removed now", plan=plan_id, error=error.message)
                    if isinstance(error, Unavailable):
                        break  # the others would wait for the same
        return count

    async def _finish(self, row: PlanRow, *, force: bool) -> int:
        uses = await self._scheduler().release(row, force=force)
        if uses.needs:
            await asyncio.to_thread(self._rows.keep, row)
            raise _needed(row, uses)
        if uses.runs:
            # What they recorded is copied with what their items were, which the plan's file alone says.
            await self._results.catch_up()
        await asyncio.to_thread(self._rows.remove, row)
        return uses.runs

    async def _asked(self, row: PlanRow, *, force: bool) -> int:
        uses = await self._scheduler().release(row, force=force, look=True)
        if uses.needs:
            raise _needed(row, uses)
        return uses.runs

    def _scheduler(self) -> PlanUses:
        if self._uses is None:
            raise Unavailable(
                "this planner knows no scheduler, so it can't tell which runs need the plan: set scheduler_address",
                code="no_scheduler",
            )
        return self._uses


def _needed(row: PlanRow, uses: Uses) -> Conflict:
    told = [_told(need) for need in uses.needs]
    if uses.more:
        told.append(f"{uses.more:,} more")
    left = any(need.left and _ended(need) for need in uses.needs)
    by_state = {need.state for need in uses.needs if not _ended(need)}
    rights = [words for state, words in _BY_HAND.items() if state in by_state]
    if by_state - set(_BY_HAND):
        rights.append("wait for the end of what runs, or stop it")
    if left:
        rights.append("run what is left, or remove the plan with force: what is left can't be run or cloned then")
    called = f" ({row.name})" if row.name else ""
    count = len(uses.needs) + uses.more
    return Conflict(
        f"plan {row.plan_id}{called} is needed by {counted(count, 'run')}: {'; '.join(told)}. "
        f"What would do: {'; '.join(rights)}",
        code="plan_needed",
        runs=",".join(need.run_id for need in uses.needs),
    )


def _told(need: scheduler_pb2.PlanNeed) -> str:
    state = scheduler_pb2.RunState.Name(need.state).removeprefix("RUN_STATE_").lower().replace("_", " ")
    called = f" ({need.name})" if need.name else ""
    left = f", {counted(need.left, 'item')} not completed" if _ended(need) else ""
    return f"run {need.number}{called} is {state}{left}"


def _ended(need: scheduler_pb2.PlanNeed) -> bool:
    return need.state in (
        scheduler_pb2.RUN_STATE_COMPLETED,
        scheduler_pb2.RUN_STATE_COMPLETED_WITH_FAILURES,
        scheduler_pb2.RUN_STATE_FAILED,
        scheduler_pb2.RUN_STATE_STOPPED,
    )
