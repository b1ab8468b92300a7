"""One run in the hand: wait for it, follow its events, command it, act on its items."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from penstock.client.gates import Gates
from penstock.client.items import Items
from penstock.client.runs import Runs, StageChange
from penstock.v1 import scheduler_pb2

__all__ = ["RunHandle"]


class RunHandle:
    """`latest` is the run as this handle saw it last: after each call and each answer of a watch."""

    def __init__(self, run: scheduler_pb2.Run, *, runs: Runs, items: Items, gates: Gates) -> None:
        self.latest = run
        self._runs = runs
        self._items = items
        self._gates = gates

    @property
    def run_id(self) -> str:
        return self.latest.run_id

    @property
    def number(self) -> int:
        return self.latest.number

    async def refresh(self) -> scheduler_pb2.Run:
        self.latest = await self._runs.get(self.run_id)
        return self.latest

    async def wait(self, *, on_change: Callable[[scheduler_pb2.Run], None] = lambda run: None) -> scheduler_pb2.Run:
        """The run once it has ended; through restarts of the scheduler, and for as long as a gate or a cap holds it."""
        self.latest = await self._runs.wait(self.run_id, on_change=on_change)
        return self.latest

    async def events(self, *, after: int = 0, follow: bool = True) -> AsyncIterator[scheduler_pb2.Event]:
        """Every event once and in order; with `follow` new ones as they come, until the run has ended."""
        told = self._runs.follow(self.run_id, after=after) if follow else self._runs.events(self.run_id, after=after)
        async for event in told:
            yield event

    async def summary(self) -> scheduler_pb2.RunSummary:
        summary = await self._runs.summary(self.run_id)
        self.latest = summary.run
        return summary

    async def explain(self, seq: int | None = None, *, stage: int = 0) -> scheduler_pb2.Explanation:
        """Why the run, or one item of it, does not go on."""
        if seq is None:
            return await self._runs.explain(self.run_id)
        return await self._items.explain(self.run_id, seq, stage=stage)

    def items(
        self,
        *,
        stage: int = 0,
        states: Sequence[str] = (),
        filter: str = "",  # noqa: A002
    ) -> AsyncIterator[scheduler_pb2.RunItem]:
        return self._items.each(self.run_id, stage=stage, states=states, filter=filter)

    async def act(
        self,
        verb: str,
        *,
        stage: int = 0,
        seqs: Sequence[int] = (),
        filter: str = "",  # noqa: A002
        preview: bool = False,
        reason: str = "",
    ) -> scheduler_pb2.ItemAction:
        """Retry, skip, release, rerun, front or accept items; answers when all of them are done."""
        action = await self._items.act(
            self.run_id, verb, stage=stage, seqs=seqs, filter=filter, preview=preview, reason=reason
        )
        return await self._items.finished(action)

    async def pause(self, *, reason: str = "") -> bool:
        return self._seen(await self._runs.pause(self.run_id, reason=reason))

    async def resume(self, *, reason: str = "") -> bool:
        return self._seen(await self._runs.resume(self.run_id, reason=reason))

    async def stop(self, *, force: bool = False, reason: str = "") -> bool:
        return self._seen(await self._runs.stop(self.run_id, force=force, reason=reason))

    async def update(
        self,
        *,
        priority: int | None = None,
        budget_micros: int | None = None,
        stages: Sequence[StageChange] = (),
        reason: str = "",
    ) -> bool:
        return self._seen(
            await self._runs.update(
                self.run_id, priority=priority, budget_micros=budget_micros, stages=stages, reason=reason
            )
        )

    async def approve(self, gate: str, *, reason: str = "") -> bool:
        return self._seen(await self._gates.approve(self.run_id, gate, reason=reason))

    async def reject(self, gate: str, *, reason: str = "") -> bool:
        return self._seen(await self._gates.reject(self.run_id, gate, reason=reason))

    def _seen(self, answer: scheduler_pb2.RunCommandResponse) -> bool:
        """Whether the call changed anything; false: it was already so."""
        self.latest = answer.run
        return answer.changed
