"""Operators under chaos: in a thread of their own they pause, change, skip, retry and raise while everything breaks.

What they were answered is kept: an acknowledged word must hold (`validator`). A refusal that fits the state of the run
is no fault; any other is kept in `problems`.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from penstock.v1 import scheduler_pb2 as pb
from tests.chaos.executed import MENDED
from tests.chaos.model import Asked, Closure, Pause
from tests.chaos.traffic import ENDED, PRICE, Started, Traffic, now_ms

__all__ = ["Operators"]

UNFIT = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED, grpc.StatusCode.ALREADY_EXISTS}
"""The run has ended meanwhile, or is as it was."""


class Operators:
    """`start`, `stop`, then `settle` until all is done. done: how often each kind of call was acknowledged."""

    def __init__(self, traffic: Traffic, folder: Path, source: random.Random) -> None:
        self.traffic = traffic
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.problems: list[str] = []
        self.closures: list[Closure] = []
        self._folder = folder
        self._random = source
        self._number = 0
        self._closed: tuple[str, float] | None = None
        self._over = threading.Event()
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "paused, resumed": (4, self._pause),
            "concurrency changed": (3, self._concurrency),
            "budget raised": (4, self._raise),
            "failed items retried": (3, self._retry),
            "items skipped": (2, self._skip),
            "waiting items released": (2, self._release),
            "limit closed, opened": (2, self._close),
            "priority changed": (1, self._priority),
        }
        self._thread = threading.Thread(target=self._act, name="operators", daemon=True)

    @property
    def kinds(self) -> list[str]:
        return list(self._kinds)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(180)
        if self._thread.is_alive():
            self.problems.append("an operator's call was not answered in 180 s")

    def settle(self) -> None:
        """Everything goes on: nothing is paused, closed, short of money or broken any more."""
        (self._folder / MENDED).touch()
        if self._closed is not None:
            self._close()
        for one in self.traffic.started:
            run = self.traffic.state(one)
            if one.paused_ms is not None:
                self._resume(one)
            if one.shape.name == "budget" and run.state not in ENDED:
                self._budget(one, one.budgets[0].value * 8)
            if one.shape.name == "broken" and run.counts.failed:
                self._items(one, pb.ITEM_VERB_RETRY, filter="state = failed")

    # -- what they do

    def _act(self) -> None:
        names = list(self._kinds)
        first = self._random.sample(names, len(names))
        while not self._over.wait(self._random.uniform(0.5, 3.0)):
            name = first.pop() if first else ""
            if not name:
                (name,) = self._random.choices(names, [self._kinds[name][0] for name in names])
            try:
                self._kinds[name][1]()
                self.done[name] += 1
            except grpc.RpcError as error:
                if error.code() in UNFIT:
                    self.refused[name] += 1
                else:
                    self.problems.append(f"{name}: {error.code().name}: {error.details()}")

    def _who(self) -> dict[str, Any]:
        self._number += 1
        return {"actor": "chaos", "reason": "drawn", "request_id": f"operator-{self._number}"}

    def _live(self, *names: str) -> Started:
        found = [one for one in self.traffic.started if not names or one.shape.name in names]
        return self._random.choice(found)

    def _pause(self) -> None:
        """Each run that is paused goes on, then another one pauses."""
        for one in self.traffic.started:
            if one.paused_ms is not None:
                self._resume(one)
                return
        one = self._live("plain", "domains", "rated", "budget", "healed", "confirmed")
        request = pb.RunCommand(run_id=one.run_id, **self._who())
        self.traffic.insist(lambda: self.traffic.runs.PauseRun(request, timeout=5))
        one.paused_ms = now_ms()

    def _resume(self, one: Started) -> None:
        request = pb.RunCommand(run_id=one.run_id, **self._who())
        assert one.paused_ms is not None
        one.pauses.append(Pause(one.paused_ms, now_ms()))
        one.paused_ms = None
        self.traffic.insist(lambda: self.traffic.runs.ResumeRun(request, timeout=5))

    def _update(self, one: Started, **changes: Any) -> None:
        request = pb.UpdateRunRequest(run_id=one.run_id, **self._who(), **changes)
        self.traffic.insist(lambda: self.traffic.runs.UpdateRun(request, timeout=5))

    def _concurrency(self) -> None:
        one = self._live("plain", "budget", "healed")
        value = self._random.randint(one.shape.concurrency // 2, one.shape.concurrency)
        sent = now_ms()
        self._update(one, stages=[pb.StageUpdate(stage=0, concurrency=value)])
        one.concurrency.append(Asked(sent, now_ms(), value))

    def _priority(self) -> None:
        self._update(self._live(), priority=self._random.randint(-3, 3))

    def _raise(self) -> None:
        one = self._live("budget")
        self._budget(one, one.budgets[-1].value + one.kind.items * PRICE // 12)

    def _budget(self, one: Started, micros: int) -> None:
        sent = now_ms()
        self._update(one, budget_micros=micros)
        one.budgets.append(Asked(sent, now_ms(), micros))

    def _items(self, one: Started, verb: pb.ItemVerb.ValueType, **which: Any) -> pb.ItemAction:
        request = pb.ActOnItemsRequest(run_id=one.run_id, stage=0, verb=verb, **which, **self._who())
        action = self.traffic.insist(lambda: self.traffic.runs.ActOnItems(request, timeout=10))
        ask = pb.GetItemActionRequest(action_id=action.action_id)
        while not action.done and not self._over.wait(0.2):
            action = self.traffic.insist(lambda: self.traffic.runs.GetItemAction(ask, timeout=5))
        return action

    def _retry(self) -> None:
        if self._random.random() < 0.3:
            (self._folder / MENDED).touch()
        self._items(self._live("broken"), pb.ITEM_VERB_RETRY, filter="state = failed")

    def _skip(self) -> None:
        """The last few that nobody has skipped yet."""
        one = self._live("broken")
        last, one.skips_from = one.skips_from, one.skips_from - 3
        if one.skips_from > one.kind.items * 0.9:
            action = self._items(one, pb.ITEM_VERB_SKIP, seqs=range(one.skips_from, last))
            one.skips.append(action.action_id)

    def _release(self) -> None:
        self._items(self._live("healed", "plain"), pb.ITEM_VERB_RELEASE, filter="state = deferred OR state = retry")

    def _close(self) -> None:
        """A domain that is closed is opened, then another one closes."""
        if self._closed is not None:
            key, since = self._closed
            self.closures.append(Closure(key, since, now_ms()))
            self._closed = None
            opened = pb.OpenLimitRequest(key=key, **self._who())
            self.traffic.insist(lambda: self.traffic.limits.OpenLimit(opened, timeout=5))
            return
        key = f"domain:d{self._random.randrange(4)}"
        closed = pb.CloseLimitRequest(key=key, **self._who())
        self.traffic.insist(lambda: self.traffic.limits.CloseLimit(closed, timeout=5))
        self._closed = (key, now_ms())
