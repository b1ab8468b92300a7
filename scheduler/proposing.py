"""What Redis offers a worker: seqs moved to the lease sets, with keys and groups from the windows.

A proposal is nothing yet: SQL decides. Whoever asks and then can't use what came (the call was cancelled, an item can't
be read from its plan) hands it back, so that it is ready again at its rank.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from penstock.runtime.errors import PenstockError, Unavailable
from penstock.runtime.logs import get_logger
from scheduler.ready import Lost, Ready, StageKey
from scheduler.store.items import Proposal
from scheduler.store.leases import Offer
from scheduler.windows import OpenStage, Windows

__all__ = ["Proposer"]

UNREADABLE_SECONDS = 0.2
"""Before an item that can't be read now is offered again."""

log = get_logger("proposing")


class Proposer:
    """`hand_back` makes proposals ready again; `lost` is told when Redis is not what we left it."""

    def __init__(
        self,
        windows: Windows,
        ready: Ready,
        *,
        hand_back: Callable[[Mapping[StageKey, Offer]], Awaitable[None]],
        lost: Callable[[str], None],
    ) -> None:
        self._windows = windows
        self._ready = ready
        self._hand_back = hand_back
        self._lost = lost
        self._tasks: set[asyncio.Task[None]] = set()

    async def propose(
        self, stages: Sequence[OpenStage], *, most: int, credit: Mapping[tuple[str, int], int], expiry_ms: int
    ) -> dict[StageKey, Offer]:
        """At most `most` items of these stages; `credit` is (run id, stage) -> leases that the same call reports. When
        the caller is cancelled meanwhile, what comes goes back."""
        proposing = asyncio.ensure_future(self._propose(stages, most, credit, expiry_ms))
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
        self, stages: Sequence[OpenStage], most: int, credit: Mapping[tuple[str, int], int], expiry_ms: int
    ) -> dict[StageKey, Offer]:
        if not stages:
            return {}
        limits = [(s.key, s.row.concurrency + credit.get((s.run_id, s.row.stage), 0)) for s in stages]
        try:
            found = await self._ready.propose(limits, most=most, expiry_ms=expiry_ms)
        except (Lost, Unavailable) as error:
            self._lost(str(error) or "its data is gone")
            return {}
        proposals: dict[StageKey, Offer] = {}
        for stage in stages:
            seqs = found[stage.key].seqs
            missing = self._windows.took(stage, seqs, found[stage.key].left)
            if missing:
                try:
                    await self._windows.read_missing(stage, missing)
                except PenstockError as error:
                    log.warning("items can't be read from the plan now", run_id=stage.run_id, error=error.message)
                    await self._hand_back({stage.key: Offer(stage.epoch, [Proposal(seq, "", "") for seq in missing])})
                    await asyncio.sleep(UNREADABLE_SECONDS)
                    absent = set(missing)
                    seqs = [seq for seq in seqs if seq not in absent]
            if seqs:
                items = [stage.items[seq] for seq in seqs]
                offered = [Proposal(item.seq, item.key, item.group, item.lane) for item in items]
                proposals[stage.key] = Offer(stage.epoch, offered)
        return proposals
