"""What Redis proposed and no call was granted goes back among the ready.

Where no transaction has decided, Redis is told at once. Where a commit broke, nobody knows whether it came through: so
the rows are asked, in the writer's queue, as soon as SQL answers again. Handed back unasked, a lease that was granted
all the same would be counted no longer, and its limit would let another one in.

May not decide about rows. When SQL stays away for a term, the sweep of leases that ran out does the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import sqlalchemy as sa

from penstock.runtime.errors import PenstockError
from scheduler.commit import GroupCommit, ambiguous
from scheduler.ready import Ready, StageKey
from scheduler.store import leases
from scheduler.store.effects import Effects

__all__ = ["Returning"]

PAUSE_SECONDS = 0.2

Offers = Mapping[StageKey, leases.Offer]


class Returning:
    """`apply` carries effects out; `term_seconds`: how long a proposal is held by nobody."""

    def __init__(
        self,
        commits: GroupCommit,
        ready: Ready,
        apply: Callable[[list[Effects]], Awaitable[None]],
        *,
        term_seconds: float,
    ) -> None:
        self._commits = commits
        self._ready = ready
        self._apply = apply
        self._term_seconds = term_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    async def undecided(self, proposals: Offers) -> None:
        """No transaction has seen these."""
        effects = Effects()
        for key, offer in self.known(proposals).items():
            effects.forget[key] = [(p.seq, p.lane) for p in offer.proposals]
            effects.ready[key] = [p.place for p in offer.proposals]
            effects.unused((p.lane for p in offer.proposals), offer.uses)
        await self._apply([effects])

    async def failed(self, proposals: Offers, error: PenstockError) -> None:
        """The transaction that was to grant these failed."""
        if not ambiguous(error):
            await self.undecided(proposals)
        elif proposals:
            task = asyncio.create_task(self._by_rows(proposals))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def known(self, proposals: Offers) -> dict[StageKey, leases.Offer]:
        """Those of which Redis knows still: one that was made anew from rows may have proposed them to another."""
        return {key: offer for key, offer in proposals.items() if offer.generation == self._ready.generation}

    async def _by_rows(self, proposals: Offers) -> None:
        def work(connection: sa.Connection, effects: Effects) -> None:
            leases.refuse(connection, effects, self.known(proposals))

        loop = asyncio.get_running_loop()
        until = loop.time() + self._term_seconds
        while loop.time() < until:
            try:
                await self._commits.run(work)
            except PenstockError:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return
