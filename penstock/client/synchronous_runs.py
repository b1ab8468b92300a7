"""Runs and items for code without an event loop; what each call does is told by the class of the same name that it
hands over to (`penstock.client.runs`, `items`, `handle`)."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence

from penstock.client import handle
from penstock.client.asynchronous import AsyncClient
from penstock.client.blocking import Loop
from penstock.client.runs import RunRef, StageChange
from penstock.v1 import scheduler_pb2

__all__ = ["Items", "RunHandle", "Runs"]


class Runs:
    """See `penstock.client.runs.Runs`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.runs

    def start(
        self,
        plan_id: str,
        *,
        name: str = "",
        owner: str = "",
        priority: int = 0,
        budget_micros: int | None = None,
        exclusive_keys: Sequence[str] = (),
        confirm: bool = False,
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.Run:
        return self._loop.run(
            self._it.start(
                plan_id,
                name=name,
                owner=owner,
                priority=priority,
                budget_micros=budget_micros,
                exclusive_keys=exclusive_keys,
                confirm=confirm,
                reason=reason,
                request_id=request_id,
            )
        )

    def get(self, run: RunRef) -> scheduler_pb2.Run:
        return self._loop.run(self._it.get(run))

    def list(self, *, limit: int = 50, states: Sequence[str] = ()) -> builtins.list[scheduler_pb2.Run]:
        return self._loop.run(self._it.list(limit=limit, states=states))

    def pause(self, run_id: str, *, reason: str = "", request_id: str = "") -> scheduler_pb2.RunCommandResponse:
        return self._loop.run(self._it.pause(run_id, reason=reason, request_id=request_id))

    def resume(self, run_id: str, *, reason: str = "", request_id: str = "") -> scheduler_pb2.RunCommandResponse:
        return self._loop.run(self._it.resume(run_id, reason=reason, request_id=request_id))

    def stop(
        self, run_id: str, *, force: bool = False, reason: str = "", request_id: str = ""
    ) -> scheduler_pb2.RunCommandResponse:
        return self._loop.run(self._it.stop(run_id, force=force, reason=reason, request_id=request_id))

    def update(
        self,
        run_id: str,
        *,
        priority: int | None = None,
        budget_micros: int | None = None,
        stages: Sequence[StageChange] = (),
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.RunCommandResponse:
        return self._loop.run(
            self._it.update(
                run_id,
                priority=priority,
                budget_micros=budget_micros,
                stages=stages,
                reason=reason,
                request_id=request_id,
            )
        )

    def clone(
        self,
        run_id: str,
        *,
        failed: bool = False,
        unfinished: bool = False,
        name: str = "",
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.Run:
        return self._loop.run(
            self._it.clone(
                run_id, failed=failed, unfinished=unfinished, name=name, reason=reason, request_id=request_id
            )
        )

    def summary(self, run_id: str) -> scheduler_pb2.RunSummary:
        return self._loop.run(self._it.summary(run_id))

    def explain(self, run_id: str) -> scheduler_pb2.Explanation:
        return self._loop.run(self._it.explain(run_id))

    def ledger(self, run_id: str, *, after: int = 0) -> Iterator[scheduler_pb2.LedgerEntry]:
        return self._loop.each(self._it.ledger(run_id, after=after))

    def items(
        self,
        run_id: str,
        *,
        stage: int = 0,
        states: Sequence[str] = (),
        filter: str = "",  # noqa: A002
    ) -> Iterator[scheduler_pb2.RunItem]:
        return self._loop.each(self._it.items(run_id, stage=stage, states=states, filter=filter))

    def events(
        self, run_id: str, *, after: int = 0, types: Sequence[str] = (), subject: str = ""
    ) -> Iterator[scheduler_pb2.Event]:
        return self._loop.each(self._it.events(run_id, after=after, types=types, subject=subject))

    def follow(self, run_id: str, *, after: int = 0) -> Iterator[scheduler_pb2.Event]:
        return self._loop.each(self._it.follow(run_id, after=after))

    def watch(self, run_id: str, *, after: int = 0, from_now: bool = False) -> Iterator[scheduler_pb2.WatchRunResponse]:
        return self._loop.each(self._it.watch(run_id, after=after, from_now=from_now))

    def wait(
        self, run_id: str, *, on_change: Callable[[scheduler_pb2.Run], None] = lambda run: None
    ) -> scheduler_pb2.Run:
        """`on_change` is called on the client's own thread."""
        return self._loop.run(self._it.wait(run_id, on_change=on_change))


class Items:
    """See `penstock.client.items.Items`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.items

    def each(
        self,
        run_id: str,
        *,
        stage: int = 0,
        states: Sequence[str] = (),
        filter: str = "",  # noqa: A002
        with_payload: bool = False,
    ) -> Iterator[scheduler_pb2.RunItem]:
        items = self._it.each(run_id, stage=stage, states=states, filter=filter, with_payload=with_payload)
        return self._loop.each(items)

    def get(self, run_id: str, seq: int, *, stage: int = 0) -> scheduler_pb2.RunItem:
        return self._loop.run(self._it.get(run_id, seq, stage=stage))

    def explain(self, run_id: str, seq: int, *, stage: int = 0) -> scheduler_pb2.Explanation:
        return self._loop.run(self._it.explain(run_id, seq, stage=stage))

    def act(
        self,
        run_id: str,
        verb: str,
        *,
        stage: int = 0,
        seqs: Sequence[int] = (),
        filter: str = "",  # noqa: A002
        preview: bool = False,
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.ItemAction:
        return self._loop.run(
            self._it.act(
                run_id,
                verb,
                stage=stage,
                seqs=seqs,
                filter=filter,
                preview=preview,
                reason=reason,
                request_id=request_id,
            )
        )

    def action(self, action_id: str) -> scheduler_pb2.ItemAction:
        return self._loop.run(self._it.action(action_id))

    def finished(self, action: scheduler_pb2.ItemAction) -> scheduler_pb2.ItemAction:
        return self._loop.run(self._it.finished(action))


class RunHandle:
    """See `penstock.client.handle.RunHandle`."""

    def __init__(self, loop: Loop, run: handle.RunHandle) -> None:
        self._loop, self._it = loop, run

    @property
    def latest(self) -> scheduler_pb2.Run:
        return self._it.latest

    @property
    def run_id(self) -> str:
        return self._it.run_id

    @property
    def number(self) -> int:
        return self._it.number

    def refresh(self) -> scheduler_pb2.Run:
        return self._loop.run(self._it.refresh())

    def wait(self, *, on_change: Callable[[scheduler_pb2.Run], None] = lambda run: None) -> scheduler_pb2.Run:
        """`on_change` is called on the client's own thread."""
        return self._loop.run(self._it.wait(on_change=on_change))

    def events(self, *, after: int = 0, follow: bool = True) -> Iterator[scheduler_pb2.Event]:
        return self._loop.each(self._it.events(after=after, follow=follow))

    def summary(self) -> scheduler_pb2.RunSummary:
        return self._loop.run(self._it.summary())

    def explain(self, seq: int | None = None, *, stage: int = 0) -> scheduler_pb2.Explanation:
        return self._loop.run(self._it.explain(seq, stage=stage))

    def items(
        self,
        *,
        stage: int = 0,
        states: Sequence[str] = (),
        filter: str = "",  # noqa: A002
    ) -> Iterator[scheduler_pb2.RunItem]:
        return self._loop.each(self._it.items(stage=stage, states=states, filter=filter))

    def act(
        self,
        verb: str,
        *,
        stage: int = 0,
        seqs: Sequence[int] = (),
        filter: str = "",  # noqa: A002
        preview: bool = False,
        reason: str = "",
    ) -> scheduler_pb2.ItemAction:
        return self._loop.run(self._it.act(verb, stage=stage, seqs=seqs, filter=filter, preview=preview, reason=reason))

    def pause(self, *, reason: str = "") -> bool:
        return self._loop.run(self._it.pause(reason=reason))

    def resume(self, *, reason: str = "") -> bool:
        return self._loop.run(self._it.resume(reason=reason))

    def stop(self, *, force: bool = False, reason: str = "") -> bool:
        return self._loop.run(self._it.stop(force=force, reason=reason))

    def update(
        self,
        *,
        priority: int | None = None,
        budget_micros: int | None = None,
        stages: Sequence[StageChange] = (),
        reason: str = "",
    ) -> bool:
        return self._loop.run(
            self._it.update(priority=priority, budget_micros=budget_micros, stages=stages, reason=reason)
        )

    def approve(self, gate: str, *, reason: str = "") -> bool:
        return self._loop.run(self._it.approve(gate, reason=reason))

    def reject(self, gate: str, *, reason: str = "") -> bool:
        return self._loop.run(self._it.reject(gate, reason=reason))
