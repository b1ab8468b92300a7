"""What Redis offers a worker: items moved to the lease sets, with keys and groups from the windows.

A proposal is nothing yet: SQL decides. Whoever asks and then can't use what came (the call was cancelled, an item can't
be read from its plan) hands it back, so that it is ready again at its rank and what it took of rates is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson

from penstock.runtime import metrics, tracing
from penstock.runtime.errors import PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from scheduler.domain.prices import mean_uses
from scheduler.open_stage import OpenStage
from scheduler.proposals import Proposals, Proposed, StageAsk
from scheduler.ready import Lost, Ready, StageKey
from scheduler.store.items import Proposal
from scheduler.store.leases import Offer
from scheduler.windows import Windows

__all__ = ["Proposer"]

UNREADABLE_SECONDS = 0.2
"""Before an item that can't be read now is offered again."""
LOOKS = 100
"""Calls in a row that find nothing but what limits hold back."""

log = get_logger("proposing")


class Proposer:
    """`hand_back` makes proposals ready again; `lost` is told when Redis is not what we left it, `moved` which runs'
    stages are not open as we know them, `look_at` when something that limits hold back is worth a look."""

    def __init__(
        self,
        windows: Windows,
        ready: Ready,
        *,
        hand_back: Callable[[Mapping[StageKey, Offer]], Awaitable[None]],
        lost: Callable[[Exception], None],
        moved: Callable[[int], None],
        look_at: Callable[[int], None],
        weights: Mapping[str, float],
    ) -> None:
        self._windows = windows
        self._ready = ready
        self._hand_back = hand_back
        self._lost = lost
        self._moved = moved
        self._look_at = look_at
        self._weights = weights
        self._tasks: set[asyncio.Task[None]] = set()

    async def propose(
        self,
        stages: Sequence[OpenStage],
        *,
        most: int,
        credit: Mapping[tuple[str, int], int],
        now_ms: int,
        expiry_ms: int,
    ) -> dict[StageKey, Offer]:
        """At most `most` items of these stages; `credit` is (run id, stage) -> leases that the same call reports. When
        the caller is cancelled meanwhile, what comes goes back."""
        proposing = asyncio.ensure_future(self._propose(stages, most, credit, now_ms, expiry_ms))
        try:
            return await asyncio.shield(proposing)
        except asyncio.CancelledError:

            async def undo() -> None:
                await self._hand_back(await proposing)

            task = asyncio.create_task(undo())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            raise

    async def _propose(
        self,
        stages: Sequence[OpenStage],
        most: int,
        credit: Mapping[tuple[str, int], int],
        now_ms: int,
        expiry_ms: int,
    ) -> dict[StageKey, Offer]:
        if not stages:
            return {}
        asks = [self._ask(stage, credit.get((stage.run_id, stage.row.stage), 0)) for stage in stages]
        try:
            found = await self._look(asks, most, now_ms, expiry_ms)
        except (Lost, Unavailable) as error:
            self._lost(error)
            return {}
        self._windows.reopen(found.closed)
        for run, _ in found.closed:
            self._moved(run)
        if found.next_ms is not None:
            self._look_at(found.next_ms)
        offers: dict[StageKey, Offer] = {}
        for stage in stages:
            if stage.key in found.stages:
                offer = await self._offer(stage, found.stages[stage.key], found.generation)
                if offer.proposals:
                    offers[stage.key] = offer
        return offers

    async def _look(self, asks: Sequence[StageAsk], most: int, now_ms: int, expiry_ms: int) -> Proposals:
        for _ in range(LOOKS):
            with metrics.PROPOSE_SECONDS.time(), tracing.step("propose"):
                found = await self._ready.propose(asks, most=most, now_ms=now_ms, expiry_ms=expiry_ms)
            if not found.again or any(one.places for one in found.stages.values()):
                break
        return found

    def _ask(self, stage: OpenStage, credit: int) -> StageAsk:
        row = stage.row
        return StageAsk(
            key=stage.key,
            epoch=stage.epoch,
            most=row.concurrency + credit,
            owner=stage.owner,
            weight=self._weights.get(stage.owner, 1.0),
            priority=stage.priority,
            uses=mean_uses(orjson.loads(row.uses)) if row.uses else {},
        )

    async def _offer(self, stage: OpenStage, proposed: Proposed, generation: str) -> Offer:
        places = proposed.places
        missing = set(self._windows.took(stage, proposed))
        items = {seq: stage.items[seq] for seq, _, _ in places if seq not in missing}
        if missing:
            try:
                await self._windows.read_missing(stage, sorted(missing))
                items.update((seq, stage.items[seq]) for seq in missing)
            except PenstockError as error:
                log.warning("items can't be read from the plan now", run_id=stage.run_id, error=error.message)
                back = [Proposal(seq, "", "", lane, rank) for seq, lane, rank in places if seq in missing]
                await self._hand_back({stage.key: Offer(stage.epoch, back, proposed.uses, generation)})
                await asyncio.sleep(UNREADABLE_SECONDS)
                places = [place for place in places if place[0] not in missing]
        offered = [
            Proposal(seq, items[seq].key, items[seq].group, lane, None if rank == seq else rank)
            for seq, lane, rank in places
        ]
        return Offer(stage.epoch, offered, proposed.uses, generation)
