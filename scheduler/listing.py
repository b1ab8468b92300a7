"""Items of a run as a person sees them: rows where there are any, the plan elsewhere.

An item that was never leased has no row; its state is what its stage says. A page merges a window of the plan with the
rows of the same seqs; a page that asks for states that only rows can have is read from SQL alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.runtime.errors import InvalidInput, NotFound, TooLarge
from penstock.runtime.sql import Database
from penstock.v1 import common_pb2
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.shown import held_as, left_by, shown
from scheduler.domain.states import ItemState, StageState
from scheduler.plans import Plans
from scheduler.store import reads
from scheduler.store.unit import RunRow, StageRow
from scheduler.translate import ITEM_STATES, item_message

__all__ = ["ItemList"]

WINDOW = 2_000
MAX_SEQS = 5_000
MAX_BYTES = 32 << 20  # of one answer: half of what a message may have
MAX_WINDOWS = 50  # of plan items looked through for one page; the page is then short and has a token


class ItemList:
    def __init__(self, database: Database, plans: Plans) -> None:
        self._database = database
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
    ) -> pb.ListItemsResponse:
        """Items in order of seq after `after_seq`, or exactly `seqs`. Raises NotFound for an unknown stage."""
        run, stage = await asyncio.to_thread(self._stage, number, index)
        if seqs:
            if len(seqs) > MAX_SEQS:
                raise InvalidInput(f"{len(seqs)} seqs; at most {MAX_SEQS} at once", code="too_many_seqs")
            wanted = sorted({seq for seq in seqs if 0 <= seq < stage.total})
            plan_items = await self._plans.items(run.plan_id, index, wanted) if wanted else []
            found = await asyncio.to_thread(self._merged, number, stage, plan_items, states, with_payload, wanted)
            if _fitting(found) < len(found):
                raise TooLarge(f"{len(found)} items of that size do not fit one answer; ask for fewer seqs")
            return pb.ListItemsResponse(items=found)
        if states and left_by(StageState(stage.state)) not in states:
            return await self._from_rows(run, stage, states, limit, after_seq, with_payload)
        answer: list[pb.RunItem] = []
        for _ in range(MAX_WINDOWS):
            size = max(limit - len(answer), WINDOW if states else 1)
            window = await self._plans.window(run.plan_id, index, after_seq, size)
            answer += await asyncio.to_thread(self._merged, number, stage, window.items, states, with_payload)
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
        limit: int,
        after_seq: int,
        with_payload: bool,
    ) -> pb.ListItemsResponse:
        def read() -> list[pb.RunItem]:
            with self._database.read() as connection:
                held = sorted(held_as(StageState(stage.state), states))
                rows = reads.item_rows(
                    connection, stage.run, stage.stage, after_seq=after_seq, states=held, limit=limit + 1
                )
                return [item_message(stage.stage, row, within=stage.state) for row in rows]

        found = await asyncio.to_thread(read)
        if with_payload and found:
            items = await self._plans.items(run.plan_id, stage.stage, [item.seq for item in found])
            for message, item in zip(found, items, strict=True):
                message.payload = item.payload
        fit = min(limit, _fitting(found))
        more = len(found) > fit
        found = found[:fit]
        return pb.ListItemsResponse(items=found, next_page_token=str(found[-1].seq) if more else "")

    def _stage(self, number: int, index: int) -> tuple[RunRow, StageRow]:
        with self._database.read() as connection:
            run, stages = reads.load_run(connection, number)
        if not 0 <= index < len(stages):
            raise NotFound(
                f"run {run.run_id} has no stage {index}; its stages are 0 to {len(stages) - 1}", code="stage_not_found"
            )
        return run, stages[index]

    def _merged(
        self,
        number: int,
        stage: StageRow,
        items: Sequence[common_pb2.Item],
        states: Sequence[ItemState],
        with_payload: bool,
        seqs: Sequence[int] = (),
    ) -> list[pb.RunItem]:
        if not items:
            return []
        with self._database.read() as connection:
            rows = {
                row.seq: row
                for row in reads.item_rows(
                    connection,
                    number,
                    stage.stage,
                    after_seq=items[0].seq - 1,
                    up_to_seq=items[-1].seq,
                    seqs=seqs,
                    limit=items[-1].seq - items[0].seq + 1,
                )
            }
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
