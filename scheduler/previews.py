"""What an action on items would do now: counted, and nothing changed.

Rows are counted by SQL, in groups; items that were never leased by their plan, window by window, unless the filter says
all or none of them without it. A preview is bounded: where it gives up it says that it has not counted everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson
import sqlalchemy as sa

from penstock.filter_sql import condition
from penstock.filters import Filter
from penstock.runtime.errors import InvalidInput
from penstock.runtime.sql import Database
from penstock.v1 import common_pb2
from scheduler.domain.shown import WAITING_ITEMS, left_by, shown
from scheduler.domain.states import ENDED_STAGES, ItemState, StageState
from scheduler.domain.verbs import UNKNOWN, UNTOUCHED, Verb, Verdict, judge
from scheduler.plans import Plans
from scheduler.store import reads
from scheduler.store.actions import ActionRow
from scheduler.store.item_fields import FIELDS, columns, never_leased
from scheduler.store.reading import with_rows
from scheduler.store.reopening import refuse_read_only
from scheduler.store.rows import RunRow, StageRow
from scheduler.store.schema import items

__all__ = ["CHUNK", "Asked", "Previews", "new_action"]

CHUNK = 2_000
"""Rows of one statement or transaction: grants and reports wait behind those that write."""
MAX_SEQS = 100_000
WINDOW = 10_000
MAX_WINDOWS = 200
"""Windows of a plan that a preview looks through; it then answers what it has counted so far."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be done to which items: `seqs`, or `filter`."""

    stage: int
    verb: Verb
    seqs: Sequence[int]
    filter: str


class Previews:
    def __init__(self, database: Database, plans: Plans, *, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._plans = plans
        self._now_ms = now_ms

    async def preview(self, run_id: str, asked: Asked) -> ActionRow:
        """What an action would do now; `done` is false where not everything could be counted."""
        run, stage = await self.checked(run_id, asked)
        chosen = Filter.parse(asked.filter, FIELDS)
        within = StageState(stage.state)
        action = new_action(run, asked, self._now_ms())
        named = bool(asked.seqs) or chosen.asks_for("kind", UNKNOWN)
        counts, rows = await asyncio.to_thread(self._counted, stage, asked, chosen)
        for (held, unknown), count in counts.items():
            verdict, why = judge(
                asked.verb,
                shown(within, held),
                kind=UNKNOWN if unknown else "",
                named=named,
                left=held in WAITING_ITEMS and within in ENDED_STAGES,
            )
            action = _add(action, verdict, count, why)
        fresh, complete = await self._fresh(run, stage, asked, chosen, rows)
        verdict, why = judge(asked.verb, left_by(within), kind="", named=named, left=within in ENDED_STAGES)
        return replace(_add(action, verdict, fresh, why), done=complete)

    async def checked(self, run_id: str, asked: Asked) -> tuple[RunRow, StageRow]:
        """The run and stage that are meant. Raises InvalidInput, NotFound, Conflict for a run that is only read."""
        if bool(asked.seqs) == bool(asked.filter.strip()):
            raise InvalidInput(
                "say which items, by seqs or by a filter, and not by both; all of them: seq >= 0", code="bad_items"
            )
        if len(asked.seqs) > MAX_SEQS:
            raise InvalidInput(f"{len(asked.seqs):,} seqs; at most {MAX_SEQS:,} at once", code="too_many_seqs")
        Filter.parse(asked.filter, FIELDS)

        def read() -> tuple[RunRow, list[StageRow]]:
            with self._database.read() as connection:
                return reads.load_run(connection, reads.find_run(connection, run_id=run_id))

        run, stages = await asyncio.to_thread(read)
        refuse_read_only(run)
        stage = reads.stage_of(run, stages, asked.stage)
        for seq in asked.seqs:
            reads.check_seq(run, stage, seq)
        return run, stage

    def _counted(self, stage: StageRow, asked: Asked, chosen: Filter) -> tuple[dict[tuple[ItemState, bool], int], int]:
        """Rows that are named, by state and whether they ended unknown; and how many rows there are at all."""
        mine = (items.c.run == stage.run, items.c.stage == stage.stage)
        unknown = sa.func.coalesce(items.c.error_kind == UNKNOWN, sa.false())
        taken = condition(chosen, columns(StageState(stage.state)))
        counts: dict[tuple[ItemState, bool], int] = {}
        rows = 0
        with self._database.read() as connection:
            parts: list[Sequence[int]] = [asked.seqs[at : at + CHUNK] for at in range(0, len(asked.seqs), CHUNK)]
            for some in parts or [()]:
                # How many of the named rows are in each state.
                query = sa.select(items.c.state, unknown, sa.func.count()).where(*mine, taken)
                if some:
                    query = query.where(items.c.seq.in_(some))
                for state, odd, count in connection.execute(query.group_by(items.c.state, unknown)):
                    key = ItemState(state), bool(odd)
                    counts[key] = counts.get(key, 0) + count
            rows = connection.execute(sa.select(sa.func.count()).select_from(items).where(*mine)).scalar_one()
        return counts, rows

    async def _fresh(self, run: RunRow, stage: StageRow, asked: Asked, chosen: Filter, rows: int) -> tuple[int, bool]:
        """How many items without a row are named, and whether all were counted."""
        if asked.seqs:
            touched = await asyncio.to_thread(self._touched, stage, sorted(set(asked.seqs)))
            return len(set(asked.seqs)) - touched, True
        if asked.verb not in UNTOUCHED:
            return 0, True
        fresh = never_leased(StageState(stage.state))
        takes = chosen.decide(fresh)
        if takes is not None:
            return (stage.total - rows if takes else 0), True
        after, count = -1, 0
        for _ in range(MAX_WINDOWS):
            window = await self._plans.window(run.plan_id, stage.stage, after, WINDOW)
            count += await asyncio.to_thread(self._fresh_in, stage, chosen, fresh, window.items)
            if window.end or not window.items:
                return count, True
            after = window.items[-1].seq
        return count, False

    def _fresh_in(
        self, stage: StageRow, chosen: Filter, fresh: dict[str, object], window: Sequence[common_pb2.Item]
    ) -> int:
        """How many items of a window are taken and have no row."""
        known = dict(fresh)
        matching = []
        for item in window:
            known["seq"], known["key"], known["group"], known["lane"] = item.seq, item.key, item.group, item.lane
            if chosen.matches(known):
                matching.append(item.seq)
        return len(matching) - self._touched(stage, matching)

    def _touched(self, stage: StageRow, seqs: Sequence[int]) -> int:
        count = 0
        with self._database.read() as connection:
            for first in range(0, len(seqs), CHUNK):
                count += len(with_rows(connection, stage.run, stage.stage, seqs[first : first + CHUNK]))
        return count


def new_action(run: RunRow, asked: Asked, now_ms: int) -> ActionRow:
    """An action of which nothing is done yet, without id and actor."""
    return ActionRow(
        action_id="",
        run=run.number,
        stage=asked.stage,
        verb=asked.verb,
        seqs=orjson.dumps(sorted(set(asked.seqs))) if asked.seqs else b"",
        filter=asked.filter,
        actor="",
        reason="",
        cursor=-1,
        matched=0,
        changed=0,
        already=0,
        refused=0,
        example="",
        done=False,
        create_ms=now_ms,
        rank=0,
    )


def _add(action: ActionRow, verdict: Verdict, count: int, why: str) -> ActionRow:
    field = {Verdict.CHANGE: "changed", Verdict.ALREADY: "already", Verdict.REFUSED: "refused"}[verdict]
    example = why if count and verdict is Verdict.REFUSED and not action.example else action.example
    more = {field: getattr(action, field) + count}
    return replace(action, matched=action.matched + count, example=example, **more)
