"""ReadPlanItems: windows of a plan, from blocks that are kept decoded in bounded memory.

A block is cut when the source is made (planner.spool). Blocks and plans never change, so they are cached without
further thought; the least recently read go first. Two readers of the same block share one load. Of some lanes,
blocks begin where a reader came to, and are read ahead of it: what it leaves out is never decoded, and who follows
behind finds them.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from penstock.runtime.blobs import BlobStore
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput, NotFound
from planner.parquet import ItemTuple, LaneFilter, Parquet
from planner.store import PlanRow, StageRow, Store

__all__ = ["MAX_LIMIT", "PlanReader", "Window"]

MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1_000
ANSWER_BYTES = 16 << 20
"""Payload of one answer: it ends early, and the caller asks again for what comes after."""

_CACHE_BYTES = 48 << 20
_ITEM_BYTES = 400  # what an item takes in memory beside its payload
_CACHED_PLANS = 256
MAX_LANES = 10_000
"""Lanes that one window may take or leave out."""

_AHEAD_ITEMS = 8_192
_AHEAD_BYTES = 8 << 20
_SPARSE, _SPARSE_BLOCKS = 16, 4
"""Items of which fewer than one of so many is asked for, over so many blocks, are read by themselves."""

_SELDOM, _ASKED_BLOCKS = 3, 10_000
_FIRST_SPAN = 1 << 17  # seqs that are searched first for items of some lanes; doubles
_PLAN_SECONDS = 60.0  # a draft may end: its row is read again after this


@dataclass(frozen=True)
class Window:
    """last: all up to this seq was looked at, lanes left out included; -1: nothing was.

    Items stay rows: a message is made of each where it is sent, and copying messages costs more than all the rest.
    """

    items: Sequence[ItemTuple]
    end: bool
    last: int = -1


@dataclass(frozen=True)
class _Block:
    """Items in order. Of some lanes: all of theirs from where the block begins up to `last`, whose seqs are `seqs`."""

    items: list[ItemTuple]
    weight: int
    last: int = -1
    seqs: Sequence[int] = ()


_LanesKey = tuple[str, int, LaneFilter]
"""Hash of the items file, stage, lanes."""
_BlockKey = tuple[str, int, LaneFilter | None, int]
"""The same, with the number of the block, or of some lanes the seq after which it begins."""


class PlanReader:
    def __init__(self, *, store: Store, blobs: BlobStore, parquet: Parquet, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._parquet = parquet
        self._clock = clock
        self._plans: OrderedDict[str, tuple[float, PlanRow]] = OrderedDict()
        self._blocks: OrderedDict[_BlockKey, _Block] = OrderedDict()
        self._begins: dict[_LanesKey, list[int]] = {}  # where the blocks of some lanes begin, rising
        self._loading: dict[_BlockKey, asyncio.Task[_Block]] = {}
        self._asked: Counter[_BlockKey] = Counter()
        self._weight = 0

    async def window(
        self,
        plan_id: str,
        *,
        stage: int,
        after_seq: int,
        limit: int,
        only: Sequence[str] = (),
        without: Sequence[str] = (),
    ) -> Window:
        """Up to `limit` items after `after_seq`, fewer where their payloads are large: of all lanes, or of some."""
        if limit < 0 or limit > MAX_LIMIT:
            raise InvalidInput(f"limit is {limit}, it may be 1-{MAX_LIMIT:,} (0: {DEFAULT_LIMIT:,})", code="bad_limit")
        if after_seq < -1:
            raise InvalidInput(f"after_seq is {after_seq}, it may be -1 (the start) or more", code="bad_seq")
        lanes = _lane_filter(only, without)
        plan, row = await self._stage(plan_id, stage)
        limit = limit or DEFAULT_LIMIT
        if lanes is not None and plan.laned:
            return await self._filtered(plan, row, stage, after_seq, limit, lanes)
        if lanes is not None and ("" in lanes.lanes) == lanes.without:
            # No item has keys, and those without keys are not asked for.
            return Window((), end=True, last=row.item_count - 1)
        first, size, items = after_seq + 1, 0, list[ItemTuple]()
        end = min(first + limit, row.item_count)
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
                size += sum(len(item[3]) for item in part)
                items += part
            first += len(part)
        last = after_seq + len(items)
        return Window(items, end=last + 1 >= row.item_count, last=min(last, row.item_count - 1))

    async def _filtered(
        self, plan: PlanRow, row: StageRow, stage: int, after: int, limit: int, lanes: LaneFilter
    ) -> Window:
        items, size = list[ItemTuple](), 0
        while after < row.item_count - 1 and len(items) < limit and size <= ANSWER_BYTES:
            block = await self._ahead(plan, row, stage, after, limit, lanes)
            first = bisect_right(block.seqs, after)
            whole = block.items[first : first + limit - len(items)]
            if size + block.weight > ANSWER_BYTES:
                part, size = _bounded(whole, size)
            else:
                part, size = whole, size + sum(len(item[3]) for item in whole)
            items += part
            if len(part) < len(whole) or first + len(part) < len(block.items):
                after = part[-1][0] if part else after
                break
            after = block.last
        last = min(after, row.item_count - 1)
        return Window(items, end=last == row.item_count - 1, last=last)

    async def exactly(self, plan_id: str, *, stage: int, seqs: Sequence[int]) -> Window:
        """These items, in this order; the first of them, at least one, where their payloads are large.

        Raises NotFound for a seq that the stage has not.
        """
        if len(seqs) > MAX_LIMIT:
            raise InvalidInput(f"{len(seqs):,} seqs are asked for, at most {MAX_LIMIT:,} are read", code="bad_limit")
        plan, row = await self._stage(plan_id, stage)
        wrong = next((seq for seq in seqs if not 0 <= seq < row.item_count), None)
        if wrong is not None:
            raise NotFound(
                f"stage {stage} of plan {plan_id} has no item {wrong}: it has {row.item_count:,}, from 0",
                code="item_not_found",
            )
        items, size = list[ItemTuple](), 0
        async for some in self._chosen(plan, row, stage, seqs):
            part, size = _bounded(some, size)
            items += part
            if len(part) < len(some):
                break
        return Window(items, end=bool(items) and items[-1][0] == row.item_count - 1)

    async def _chosen(
        self, plan: PlanRow, row: StageRow, stage: int, seqs: Sequence[int]
    ) -> AsyncIterator[list[ItemTuple]]:
        """These items, a few blocks at a time; where they are few of many, without making items of the others."""
        first = 0
        while first < len(seqs):
            number = bisect_right(row.blocks, seqs[first]) - 1
            start, end = row.blocks[number], _end(row, number + _SPARSE_BLOCKS - 1)
            count = _rising(seqs, first, end)
            if count * _SPARSE < end - start and self._seldom((plan.items_sha256, stage, None, number)):
                some = list(seqs[first : first + count])
                file = await asyncio.to_thread(self._blobs.path, plan.items_sha256)
                rows = await asyncio.to_thread(self._parquet.read_seqs, file, stage=stage, seqs=some, laned=plan.laned)
                if len(rows) != len(some):
                    raise _damaged(plan, stage)
            else:
                end = _end(row, number)
                block = await self._block(plan, row, stage, number)
                count = 0
                while first + count < len(seqs) and start <= seqs[first + count] < end:
                    count += 1
                rows = [block.items[seq - start] for seq in seqs[first : first + count]]
            yield rows
            first += count

    def _seldom(self, key: _BlockKey) -> bool:
        """Whether a block is not at hand and was not asked for often."""
        if key in self._blocks:
            return False
        if len(self._asked) > _ASKED_BLOCKS:
            self._asked.clear()
        self._asked[key] += 1
        return self._asked[key] <= _SELDOM

    async def lanes(self, plan_id: str, *, stage: int, after: int, limit: int) -> Sequence[tuple[str, int, int]]:
        """(lane, count, first seq) of a stage's lanes in the order of their first seqs, from after a seq on."""
        plan, row = await self._stage(plan_id, stage)
        if not plan.laned:
            return [("", row.item_count, 0)] if row.item_count and after < 0 else []
        file = await asyncio.to_thread(self._blobs.path, plan.lanes_sha256)
        return await asyncio.to_thread(self._parquet.read_lanes, file, stage=stage, after=after, limit=limit)

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
        key = (plan.items_sha256, stage, None, number)
        block = self._blocks.get(key)
        if block is not None:
            self._blocks.move_to_end(key)
            return block
        first, end = row.blocks[number], _end(row, number)
        return await self._shared(key, lambda: self._decoded(plan, stage, first, end))

    async def _ahead(
        self, plan: PlanRow, row: StageRow, stage: int, after: int, limit: int, lanes: LaneFilter
    ) -> _Block:
        """The lanes' block in which what comes after a seq begins."""
        of = (plan.items_sha256, stage, lanes)
        begins = self._begins.get(of, [])
        nearest = bisect_right(begins, after) - 1
        if nearest >= 0:
            key = (*of, begins[nearest])
            block = self._blocks[key]
            if after < block.last:
                self._blocks.move_to_end(key)
                return block
        count = min(max(4 * limit, DEFAULT_LIMIT), _AHEAD_ITEMS)
        return await self._shared((*of, after), lambda: self._found(plan, row, stage, after, count, lanes))

    async def _shared(self, key: _BlockKey, load: Callable[[], _Block]) -> _Block:
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key, load))
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        # One caller that gives up must not take the load from the others.
        return await asyncio.shield(task)

    async def _load(self, key: _BlockKey, load: Callable[[], _Block]) -> _Block:
        block = await asyncio.to_thread(load)
        self._drop(key)
        self._blocks[key] = block
        self._weight += block.weight
        sha256, stage, lanes, begin = key
        if lanes is not None:
            insort(self._begins.setdefault((sha256, stage, lanes), []), begin)
        while self._weight > _CACHE_BYTES and len(self._blocks) > 1:
            self._drop(next(iter(self._blocks)))
        return block

    def _drop(self, key: _BlockKey) -> None:
        block = self._blocks.pop(key, None)
        if block is None:
            return
        self._weight -= block.weight
        sha256, stage, lanes, begin = key
        if lanes is not None:
            begins = self._begins[sha256, stage, lanes]
            begins.remove(begin)
            if not begins:
                del self._begins[sha256, stage, lanes]

    def _decoded(self, plan: PlanRow, stage: int, first: int, end: int) -> _Block:
        file = self._blobs.path(plan.items_sha256)
        items = self._parquet.read_items(file, stage=stage, first=first, end=end, laned=plan.laned)
        if len(items) != end - first:
            raise _damaged(plan, stage)
        return _Block(items, _weight(items))

    def _found(self, plan: PlanRow, row: StageRow, stage: int, after: int, count: int, lanes: LaneFilter) -> _Block:
        """Up to `count` items of the lanes after a seq. First their seqs and sizes, which costs little however many
        others stand between them, then they themselves.
        """
        file = self._blobs.path(plan.items_sha256)
        found: list[int] = []
        first, span, size = after + 1, _FIRST_SPAN, 0
        last = row.item_count - 1
        while first < row.item_count:
            end = min(first + span, row.item_count)
            for seq, item_bytes in self._parquet.find_items(
                file, stage=stage, first=first, end=end, lanes=lanes, limit=count - len(found)
            ):
                size += item_bytes
                if found and size > _AHEAD_BYTES:
                    break
                found.append(seq)
            if len(found) == count or size > _AHEAD_BYTES:
                last = found[-1]
                break
            first, span = end, span * 2
        items = []
        if found:
            items = self._parquet.read_filtered(file, stage=stage, first=found[0], end=found[-1] + 1, lanes=lanes)
        if len(items) != len(found):
            raise _damaged(plan, stage)
        return _Block(items, _weight(items), last, found)


def _lane_filter(only: Sequence[str], without: Sequence[str]) -> LaneFilter | None:
    """Raises InvalidInput."""
    if only and without:
        raise InvalidInput("a window takes only_lanes or without_lanes, not both", code="bad_lanes")
    if len(only) + len(without) > MAX_LANES:
        raise InvalidInput(
            f"{len(only) + len(without):,} lanes are named, at most {MAX_LANES:,} are taken", code="bad_lanes"
        )
    if only:
        return LaneFilter(tuple(sorted(set(only))))
    return LaneFilter(tuple(sorted(set(without))), without=True) if without else None


def _end(row: StageRow, number: int) -> int:
    """The first seq after a block."""
    return row.blocks[number + 1] if number + 1 < len(row.blocks) else row.item_count


def _rising(seqs: Sequence[int], first: int, end: int) -> int:
    """How many of these from a place on rise and are below `end`: at least one."""
    at = first + 1
    while at < len(seqs) and seqs[at - 1] < seqs[at] < end:
        at += 1
    return at - first


def _damaged(plan: PlanRow, stage: int) -> NotFound:
    return NotFound(f"the plan's file {plan.items_sha256} has lost items of stage {stage}", code="plan_damaged")


def _weight(items: Sequence[ItemTuple]) -> int:
    return sum(len(item[3]) for item in items) + _ITEM_BYTES * len(items)


def _bounded(items: Sequence[ItemTuple], size: int) -> tuple[list[ItemTuple], int]:
    """As many as fit into the answer, at least one in all; a size past the bound says that there were more."""
    taken: list[ItemTuple] = []
    for item in items:
        payload_bytes = len(item[3])
        size += payload_bytes
        if size > ANSWER_BYTES and (taken or size > payload_bytes):
            return taken, size
        taken.append(item)
    return taken, size
