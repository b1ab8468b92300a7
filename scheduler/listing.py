"""Items of a run as a person sees them: rows where there are any, the plan elsewhere.

An item that was never leased has no row; its state is what its stage says. A page merges a window of the plan with the
rows of the same seqs. A page that asks for states reads rows by state, and the plan only from where rows may be
missing: so it takes no longer in a run of a million. Where what is asked for is rare a page may be short, with a token.
Of a run whose plan was removed there are rows alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.filters import Filter
from penstock.runtime.errors import InvalidInput, TooLarge
from penstock.runtime.sql import Database
from penstock.v1 import common_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.shown import held_as, left_by, shown
from scheduler.domain.states import ItemState, StageState
from scheduler.item_rows import ItemRows
from scheduler.plans import Plans
from scheduler.store import reads
from scheduler.store.item_fields import FIELDS
from scheduler.store.rows import RunRow, StageRow
from scheduler.translate import ITEM_STATES, AnyRow, item_message

__all__ = ["ItemList"]

WINDOW = 2_000
MAX_SEQS = 5_000
MAX_BYTES = 32 << 20  # of one answer: half of what a message may have
MAX_WINDOWS = 50  # of plan items looked through for one page; the page is then short and has a token


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A page: at most `limit` items of a stage after a seq, of those that are shown in some states (none: in any)."""

    run: RunRow
    stage: StageRow
    states: Sequence[ItemState]
    limit: int
    after_seq: int
    with_payload: bool

    @property
    def last_seq(self) -> int:
        return self.stage.total - 1

    @property
    def rest(self) -> ItemState:
        """The state of items that have no row."""
        return left_by(StageState(self.stage.state))

    def takes(self, state: ItemState) -> bool:
        return not self.states or state in self.states

    def shown(self, row: AnyRow) -> ItemState:
        return shown(StageState(self.stage.state), ItemState(row.state))

    def message(self, row: AnyRow, payload: bytes = b"") -> pb.RunItem:
        return item_message(self.stage.stage, row, within=self.stage.state, payload=payload)

    def answer(self, found: Sequence[pb.RunItem], looked: int) -> pb.ListItemsResponse:
        """With a token, unless `looked`, up to which seq this is all, is the last one."""
        return pb.ListItemsResponse(items=found, next_page_token=str(looked) if looked < self.last_seq else "")


class ItemList:
    def __init__(self, database: Database, plans: Plans, rows: ItemRows) -> None:
        self._database = database
        self._rows = rows
        self._plans = plans

    async def page(
        self,
        number: int,
        index: int,
        *,
        states: Sequence[ItemState],
        limit: int,
        after_seq: int,
        seqs: Sequence[int],
        with_payload: bool,
        filter_: str = "",
    ) -> pb.ListItemsResponse:
        """Items in order of seq after `after_seq`, or exactly `seqs`; with a filter those that have a row. Raises
        NotFound for an unknown stage, InvalidInput for a filter that is wrong."""
        run, stage = await asyncio.to_thread(self._stage, number, index)
        asked = _Asked(
            run=run,
            stage=stage,
            states=states,
            limit=limit,
            after_seq=after_seq,
            with_payload=with_payload and not run.plan_removed,
        )
        if filter_.strip():
            if seqs:
                raise InvalidInput("seqs or a filter, not both", code="bad_items")
            return await self._filtered(asked, Filter.parse(filter_, FIELDS))
        if seqs:
            return await self._exactly(asked, seqs)
        if run.plan_removed:
            # All have rows where all were done; of what was never come to nobody knows more than how many there are.
            every = replace(asked, states=states or list(ItemState))
            return asked.answer(*await self._from_rows(every, up_to_seq=asked.last_seq))
        return await self._in_order(asked)

    async def _filtered(self, asked: _Asked, chosen: Filter) -> pb.ListItemsResponse:
        def read() -> tuple[list[pb.RunItem], int]:
            rows, looked = self._rows.matching(
                asked.run, asked.stage, chosen, asked.states, after_seq=asked.after_seq, limit=asked.limit
            )
            return [asked.message(row) for row in rows], looked

        return asked.answer(*await self._fitted(asked, *await asyncio.to_thread(read)))

    async def _exactly(self, asked: _Asked, seqs: Sequence[int]) -> pb.ListItemsResponse:
        """Raises TooLarge where they don't fit one answer: of what is named nothing is left out."""
        if len(seqs) > MAX_SEQS:
            raise InvalidInput(f"{len(seqs)} seqs; at most {MAX_SEQS} at once", code="too_many_seqs")
        wanted = sorted({seq for seq in seqs if 0 <= seq <= asked.last_seq})
        if asked.run.plan_removed:
            found = await asyncio.to_thread(self._named_rows, asked, wanted)
        else:
            items = await self._plans.items(asked.run.plan_id, asked.stage.stage, wanted) if wanted else []
            found = await asyncio.to_thread(self._merged, asked, items, wanted)
        if _fitting(found) < len(found):
            raise TooLarge(f"{len(found)} items of that size do not fit one answer; ask for fewer seqs")
        return pb.ListItemsResponse(items=found)

    async def _in_order(self, asked: _Asked) -> pb.ListItemsResponse:
        """What has a row is found by state; what has none lies above the mark below which every seq has one."""
        if not asked.states:
            return await self._from_plan(asked, [])
        mark = await self._mark(asked)
        found, looked = await self._from_rows(asked, up_to_seq=mark - 1)
        full = len(found) >= asked.limit or looked < mark - 1
        if full or mark > asked.last_seq:
            return asked.answer(found, looked)
        return await self._from_plan(replace(asked, after_seq=looked), found)

    async def _mark(self, asked: _Asked) -> int:
        """The first seq of which a state that is asked for may stand in no row."""
        if asked.rest not in asked.states:
            return asked.stage.total
        return await asyncio.to_thread(self._low_water, asked.run, asked.stage)

    async def _from_rows(self, asked: _Asked, *, up_to_seq: int) -> tuple[list[pb.RunItem], int]:
        """Items of rows in the states, at most `limit` and what fits an answer, and up to which seq that is all."""
        if up_to_seq <= asked.after_seq:
            return [], asked.after_seq
        held = sorted(held_as(StageState(asked.stage.state), asked.states))

        def read() -> tuple[list[pb.RunItem], int]:
            rows, looked = self._rows.in_states(
                asked.run, asked.stage.stage, held, after_seq=asked.after_seq, up_to_seq=up_to_seq, limit=asked.limit
            )
            return [asked.message(row) for row in rows], looked

        return await self._fitted(asked, *await asyncio.to_thread(read))

    async def _from_plan(self, asked: _Asked, before: Sequence[pb.RunItem]) -> pb.ListItemsResponse:
        """The items `before`, then those of the plan's windows with their rows, until the page is full. It is short
        where what is asked for is rare."""
        found, looked = list(before), asked.after_seq
        for turn in range(MAX_WINDOWS):
            # Where states are asked for, most of the first items are in them, or few of very many.
            look = 1 if not asked.states else 2 * asked.limit if turn == 0 else WINDOW
            size = max(asked.limit - len(found), look)
            window = await self._plans.window(asked.run.plan_id, asked.stage.stage, looked, size)
            found += await asyncio.to_thread(self._merged, asked, window.items)
            if window.items:
                looked = window.items[-1].seq
            kept = min(asked.limit, _fitting(found))
            if kept < len(found):
                return pb.ListItemsResponse(items=found[:kept], next_page_token=str(found[kept - 1].seq))
            if window.end or not window.items:
                return pb.ListItemsResponse(items=found)
            if len(found) == asked.limit:
                break
        return pb.ListItemsResponse(items=found, next_page_token=str(looked))

    async def _fitted(self, asked: _Asked, found: list[pb.RunItem], looked: int) -> tuple[list[pb.RunItem], int]:
        """With their payloads where these are asked for: as many as fit an answer, and up to which seq that is all."""
        if asked.with_payload and found:
            items = await self._plans.items(asked.run.plan_id, asked.stage.stage, [item.seq for item in found])
            for message, item in zip(found, items, strict=True):
                message.payload = item.payload
        fit = _fitting(found)
        return (found, looked) if fit == len(found) else (found[:fit], found[fit - 1].seq)

    def _named_rows(self, asked: _Asked, seqs: Sequence[int]) -> list[pb.RunItem]:
        if not seqs:
            return []
        rows = self._rows.between(asked.run, asked.stage.stage, after_seq=seqs[0] - 1, up_to_seq=seqs[-1], seqs=seqs)
        return [asked.message(row) for row in rows if asked.takes(asked.shown(row))]

    def _merged(self, asked: _Asked, items: Sequence[common_pb2.Item], seqs: Sequence[int] = ()) -> list[pb.RunItem]:
        """Items of the plan in the states, each with its row where it has one."""
        if not items:
            return []
        first, last = items[0].seq, items[-1].seq
        found = self._rows.between(asked.run, asked.stage.stage, after_seq=first - 1, up_to_seq=last, seqs=seqs)
        rows = {row.seq: row for row in found}
        answer = []
        for item in items:
            payload = item.payload if asked.with_payload else b""
            row = rows.get(item.seq)
            if row is None:
                if asked.takes(asked.rest):
                    answer.append(_without_row(asked, item, payload))
            elif asked.takes(asked.shown(row)):
                answer.append(asked.message(row, payload))
        return answer

    def _low_water(self, run: RunRow, stage: StageRow) -> int:
        with self._database.read() as connection:
            return reads.low_water(connection, run.number, stage.stage)

    def _stage(self, number: int, index: int) -> tuple[RunRow, StageRow]:
        with self._database.read() as connection:
            run, stages = reads.load_run(connection, number)
        return run, reads.stage_of(run, stages, index)


def _without_row(asked: _Asked, item: common_pb2.Item, payload: bytes) -> pb.RunItem:
    return pb.RunItem(
        seq=item.seq,
        stage=asked.stage.stage,
        key=item.key,
        group=item.group,
        payload=payload,
        state=ITEM_STATES[asked.rest],
        lane=item.lane,
    )


def _fitting(items: Sequence[pb.RunItem]) -> int:
    """How many of these fit one answer; at least one."""
    total = 0
    for count, item in enumerate(items):
        total += item.ByteSize()
        if total > MAX_BYTES and count:
            return count
    return len(items)
