"""ReadPlanItems: windows of a plan, from blocks that are kept decoded in bounded memory.

A block is cut when the source is made (planner.spool). Blocks and plans never change, so they are cached without
further thought; the least recently read go first. Two readers of the same block share one load.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import common_pb2
from planner.parquet import Parquet
from planner.store import PlanRow, StageRow, Store

__all__ = ["MAX_LIMIT", "PlanReader", "Window"]

MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1_000
ANSWER_BYTES = 16 << 20
"""Payload of one answer: it ends early, and the caller asks again for what comes after."""

_CACHE_BYTES = 48 << 20
_ITEM_BYTES = 400  # what an item takes in memory beside its payload
_CACHED_PLANS = 256
_PLAN_SECONDS = 60.0  # a draft may end: its row is read again after this


@dataclass(frozen=True)
class Window:
    items: Sequence[common_pb2.Item]
    end: bool


@dataclass(frozen=True)
class _Block:
    items: list[common_pb2.Item]
    weight: int


_BlockKey = tuple[str, int, int]
"""Hash of the items file, stage, number of the block."""


class PlanReader:
    def __init__(self, *, store: Store, blobs: BlobStore, parquet: Parquet, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._parquet = parquet
        self._clock = clock
        self._plans: OrderedDict[str, tuple[float, PlanRow]] = OrderedDict()
        self._blocks: OrderedDict[_BlockKey, _Block] = OrderedDict()
        self._loading: dict[_BlockKey, asyncio.Task[_Block]] = {}
        self._weight = 0

    async def window(self, plan_id: str, *, stage: int, after_seq: int, limit: int) -> Window:
        """Up to `limit` items after `after_seq`, fewer where their payloads are large."""
        if limit < 0 or limit > MAX_LIMIT:
            raise InvalidInput(f"limit is {limit}, it may be 1-{MAX_LIMIT:,} (0: {DEFAULT_LIMIT:,})", code="bad_limit")
        if after_seq < -1:
            raise InvalidInput(f"after_seq is {after_seq}, it may be -1 (the start) or more", code="bad_seq")
        plan, row = await self._stage(plan_id, stage)
        first, size, items = after_seq + 1, 0, list[common_pb2.Item]()
        end = min(first + (limit or DEFAULT_LIMIT), row.item_count)
        while first < end:
            number = bisect_right(row.blocks, first) - 1
            start = row.blocks[number]
            block = await self._block(plan, row, stage, number)
            part = block.items[first - start : end - start]
            if size + block.weight > ANSWER_BYTES:
                part, size = _bounded(part, size)
                items += part
                if size > ANSWER_BYTES:
                    break
            else:
                size += sum(len(item.payload) for item in part)
                items += part
            first += len(part)
        return Window(items, end=after_seq + 1 + len(items) >= row.item_count)

    async def exactly(self, plan_id: str, *, stage: int, seqs: Sequence[int]) -> Window:
        """These items, in this order; the first of them, at least one, where their payloads are large.

        Raises NotFound for a seq that the stage has not.
        """
        if len(seqs) > MAX_LIMIT:
            raise InvalidInput(f"{len(seqs):,} seqs are asked for, at most {MAX_LIMIT:,} are read", code="bad_limit")
        plan, row = await self._stage(plan_id, stage)
        items, size, current, block = list[common_pb2.Item](), 0, -1, None
        for seq in seqs:
            if not 0 <= seq < row.item_count:
                raise NotFound(
                    f"stage {stage} of plan {plan_id} has no item {seq}: it has {row.item_count:,}, from 0",
                    code="item_not_found",
                )
            number = bisect_right(row.blocks, seq) - 1
            if number != current or block is None:
                block, current = await self._block(plan, row, stage, number), number
            item = block.items[seq - row.blocks[number]]
            size += len(item.payload)
            if items and size > ANSWER_BYTES:
                break
            items.append(item)
        return Window(items, end=bool(items) and items[-1].seq == row.item_count - 1)

    def forget(self) -> None:
        """Plans are read anew (drafts were swept)."""
        self._plans.clear()

    async def _stage(self, plan_id: str, stage: int) -> tuple[PlanRow, StageRow]:
        plan = await self._plan(plan_id)
        if not 0 <= stage < len(plan.stages):
            raise NotFound(
                f"plan {plan_id} has no stage {stage}: it has {len(plan.stages)}, from 0", code="stage_not_found"
            )
        return plan, plan.stages[stage]

    async def _plan(self, plan_id: str) -> PlanRow:
        cached = self._plans.get(plan_id)
        if cached is not None and (not cached[1].draft or self._clock.monotonic() - cached[0] < _PLAN_SECONDS):
            self._plans.move_to_end(plan_id)
            return cached[1]
        plan = await asyncio.to_thread(self._store.plan, plan_id, now_ms=self._clock.now_ms())
        self._plans[plan_id] = (self._clock.monotonic(), plan)
        while len(self._plans) > _CACHED_PLANS:
            self._plans.popitem(last=False)
        return plan

    async def _block(self, plan: PlanRow, row: StageRow, stage: int, number: int) -> _Block:
        key = (plan.items_sha256, stage, number)
        block = self._blocks.get(key)
        if block is not None:
            self._blocks.move_to_end(key)
            return block
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key, row))
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        # One caller that gives up must not take the load from the others.
        return await asyncio.shield(task)

    async def _load(self, key: _BlockKey, row: StageRow) -> _Block:
        sha256, stage, number = key
        first = row.blocks[number]
        end = row.blocks[number + 1] if number + 1 < len(row.blocks) else row.item_count
        block = await asyncio.to_thread(self._decoded, sha256, stage, first, end)
        self._blocks[key] = block
        self._weight += block.weight
        while self._weight > _CACHE_BYTES and len(self._blocks) > 1:
            _, gone = self._blocks.popitem(last=False)
            self._weight -= gone.weight
        return block

    def _decoded(self, sha256: str, stage: int, first: int, end: int) -> _Block:
        make = common_pb2.Item
        rows = self._parquet.read_items(self._blobs.path(sha256), stage=stage, first=first, end=end)
        items = [make(seq=seq, key=key, group=group, payload=payload) for seq, key, group, payload in rows]
        if len(items) != end - first:
            raise NotFound(f"the plan's file {sha256} has lost items of stage {stage}", code="plan_damaged")
        return _Block(items, sum(len(item.payload) for item in items) + _ITEM_BYTES * len(items))


def _bounded(items: Sequence[common_pb2.Item], size: int) -> tuple[list[common_pb2.Item], int]:
    """As many as fit into the answer, at least one in all; a size past the bound says that there were more."""
    taken: list[common_pb2.Item] = []
    for item in items:
        size += len(item.payload)
        if size > ANSWER_BYTES and (taken or size > len(item.payload)):
            return taken, size
        taken.append(item)
    return taken, size
