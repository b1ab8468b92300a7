"""Items of a run as a person sees them: rows where there are any, the plan elsewhere.

An item that was never leased has no row; its state is what its stage says. A page merges a window of the plan with the
rows of the same seqs. A page that asks for states reads rows by state, and the plan only from where rows may be
missing: so it takes no longer in a run of a million. Where what is asked for is rare a page may be short, with a token.
Of a run whose plan was removed there are rows alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

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
from scheduler.translate import ITEM_STATES, item_message

__all__ = ["ItemList"]

WINDOW = 2_000
MAX_SEQS = 5_000
MAX_BYTES = 32 << 20  # of one answer: half of what a message may have
MAX_WINDOWS = 50  # of plan items looked through for one page; the page is then short and has a token


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
        with_payload = with_payload and not run.plan_removed
        if filter_.strip():
            if seqs:
                raise InvalidInput("seqs or a filter, not both", code="bad_items")
            return await self._filtered(run, stage, filter_, states, limit, after_seq, with_payload)
        if seqs:
            if len(seqs) > MAX_SEQS:
                raise InvalidInput(f"{len(seqs)} seqs; at most {MAX_SEQS} at once", code="too_many_seqs")
            wanted = sorted({seq for seq in seqs if 0 <= seq < stage.total})
            if run.plan_removed:
                found = await asyncio.to_thread(self._named_rows, run, stage, wanted, states)
            else:
                plan_items = await self._plans.items(run.plan_id, index, wanted) if wanted else []
                found = await asyncio.to_thread(self._merged, run, stage, plan_items, states, with_payload, wanted)
            if _fitting(found) < len(found):
                raise TooLarge(f"{len(found)} items of that size do not fit one answer; ask for fewer seqs")
            return pb.ListItemsResponse(items=found)
        answer: list[pb.RunItem]
        if run.plan_removed:
            # All have rows where all were done; of what was never come to nobody knows more than how many there are.
            answer, looked = await self._from_rows(
                run,
                stage,
                states or list(ItemState),
                limit=limit,
                after_seq=after_seq,
                up_to_seq=stage.total - 1,
                with_payload=False,
            )
            return pb.ListItemsResponse(items=answer, next_page_token=str(looked) if looked < stage.total - 1 else "")
        left = left_by(StageState(stage.state))
        answer = []
        if states:
            # What has a row is found by state; what has none lies above the mark below which every seq has one.
            mark = stage.total if left not in states else await asyncio.to_thread(self._low_water, run, stage)
            answer, after_seq = await self._from_rows(
                run, stage, states, limit=limit, after_seq=after_seq, up_to_seq=mark - 1, with_payload=with_payload
            )
            if len(answer) >= limit or after_seq < mark - 1 or mark >= stage.total:
                token = str(after_seq) if after_seq < stage.total - 1 else ""
                return pb.ListItemsResponse(items=answer, next_page_token=token)
        for turn in range(MAX_WINDOWS):
            # Where states are asked for, most of the first items are in them, or few of very many.
            look = 1 if not states else 2 * limit if turn == 0 else WINDOW
            size = max(limit - len(answer), look)
            window = await self._plans.window(run.plan_id, index, after_seq, size)
            answer += await asyncio.to_thread(self._merged, run, stage, window.items, states, with_payload)
            if window.items:
                after_seq = window.items[-1].seq
            fit = _fitting(answer)
            if len(answer) > limit or fit < len(answer):
                answer = answer[: min(limit, fit)]
                after_seq = answer[-1].seq
                return pb.ListItemsResponse(items=answer, next_page_token=str(after_seq))
            if window.end or not window.items:
                return pb.ListItemsResponse(items=answer)
            if len(answer) == limit:
                break
        return pb.ListItemsResponse(items=answer, next_page_token=str(after_seq))

    async def _from_rows(
        self,
        run: RunRow,
        stage: StageRow,
        states: Sequence[ItemState],
        *,
        limit: int,
        after_seq: int,
        up_to_seq: int,
        with_payload: bool,
    ) -> tuple[list[pb.RunItem], int]:
        """Items of rows in these states, at most `limit` and what fits an answer, and up to which seq that is all."""
        if up_to_seq <= after_seq:
            return [], after_seq
        held = sorted(held_as(StageState(stage.state), states))

        def read() -> tuple[list[pb.RunItem], int]:
            rows, looked = self._rows.in_states(
                run, stage.stage, held, after_seq=after_seq, up_to_seq=up_to_seq, limit=limit
            )
            return [item_message(stage.stage, row, within=stage.state) for row in rows], looked

        return await self._with_payload(run, stage, *await asyncio.to_thread(read), with_payload=with_payload)

    async def _filtered(
        self,
        run: RunRow,
        stage: StageRow,
        text: str,
        states: Sequence[ItemState],
        limit: int,
        after_seq: int,
        with_payload: bool,
    ) -> pb.ListItemsResponse:
        chosen = Filter.parse(text, FIELDS)

        def read() -> tuple[list[pb.RunItem], int]:
            rows, looked = self._rows.matching(run, stage, chosen, states, after_seq=after_seq, limit=limit)
            return [item_message(stage.stage, row, within=stage.state) for row in rows], looked

        found, looked = await asyncio.to_thread(read)
        found, looked = await self._with_payload(run, stage, found, looked, with_payload=with_payload)
        return pb.ListItemsResponse(items=found, next_page_token=str(looked) if looked < stage.total - 1 else "")

    async def _with_payload(
        self, run: RunRow, stage: StageRow, found: list[pb.RunItem], looked: int, *, with_payload: bool
    ) -> tuple[list[pb.RunItem], int]:
        """As many as fit an answer, and up to which seq that is all."""
        if with_payload and found:
            items = await self._plans.items(run.plan_id, stage.stage, [item.seq for item in found])
            for message, item in zip(found, items, strict=True):
                message.payload = item.payload
        fit = _fitting(found)
        return (found, looked) if fit == len(found) else (found[:fit], found[fit - 1].seq)

    def _named_rows(
        self, run: RunRow, stage: StageRow, seqs: Sequence[int], states: Sequence[ItemState]
    ) -> list[pb.RunItem]:
        if not seqs:
            return []
        rows = self._rows.between(run, stage.stage, after_seq=seqs[0] - 1, up_to_seq=seqs[-1], seqs=seqs)
        within = StageState(stage.state)
        return [
            item_message(stage.stage, row, within=stage.state)
            for row in rows
            if not states or shown(within, ItemState(row.state)) in states
        ]

    def _low_water(self, run: RunRow, stage: StageRow) -> int:
        with self._database.read() as connection:
            return reads.low_water(connection, run.number, stage.stage)

    def _stage(self, number: int, index: int) -> tuple[RunRow, StageRow]:
        with self._database.read() as connection:
            run, stages = reads.load_run(connection, number)
        return run, reads.stage_of(run, stages, index)

    def _merged(
        self,
        run: RunRow,
        stage: StageRow,
        items: Sequence[common_pb2.Item],
        states: Sequence[ItemState],
        with_payload: bool,
        seqs: Sequence[int] = (),
    ) -> list[pb.RunItem]:
        if not items:
            return []
        first, last = items[0].seq, items[-1].seq
        found = self._rows.between(run, stage.stage, after_seq=first - 1, up_to_seq=last, seqs=seqs)
        rows = {row.seq: row for row in found}
        rest = left_by(StageState(stage.state))
        answer = []
        for item in items:
            row = rows.get(item.seq)
            state = rest if row is None else shown(StageState(stage.state), ItemState(row.state))
            if states and state not in states:
                continue
            payload = item.payload if with_payload else b""
            if row is not None:
                answer.append(item_message(stage.stage, row, within=stage.state, payload=payload))
            else:
                answer.append(
                    pb.RunItem(
                        seq=item.seq,
                        stage=stage.stage,
                        key=item.key,
                        group=item.group,
                        payload=payload,
                        state=ITEM_STATES[state],
                        lane=item.lane,
                    )
                )
        return answer


def _fitting(items: Sequence[pb.RunItem]) -> int:
    """How many of these fit one answer; at least one."""
    total = 0
    for count, item in enumerate(items):
        total += item.ByteSize()
        if total > MAX_BYTES and count:
            return count
    return len(items)
