"""The work under chaos: runs of every kind at once, each item with an end that is known beforehand.

`insist` is how every client here calls: again and again with one request id, until somebody answers.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import orjson

from penstock.runtime.channel import OPTIONS
from penstock.v1 import planner_pb2, planner_pb2_grpc, scheduler_pb2_grpc
from penstock.v1 import scheduler_pb2 as pb
from tests.chaos.model import Asked, Kind, Pause

__all__ = ["DOMAIN_BOUND", "ENDED", "PRICE", "PROVIDER", "WEATHER", "Started", "Traffic", "now_ms"]

T = TypeVar("T")
DOMAIN_BOUND = 6
DOMAINS = 4
PROVIDER = "provider:p"
RATE_BURST = 10.0
PRICE = 5
FATAL = 99
"""Kills its worker each time."""
WEATHER = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""Of the day, and no answer."""
ENDED = {
    pb.RUN_STATE_COMPLETED,
    pb.RUN_STATE_COMPLETED_WITH_FAILURES,
    pb.RUN_STATE_FAILED,
    pb.RUN_STATE_STOPPED,
}


def now_ms() -> float:
    return time.time() * 1000


@dataclass(frozen=True)
class Shape:
    """share: of all items; pace: of the mean time of an item; odd: how many of a thousand end how at first."""

    name: str
    share: float
    concurrency: int
    pace: float = 1.0
    odd: tuple[tuple[int, str], ...] = ()


SHAPES = (
    Shape("plain", 0.30, 20, odd=((30, "fails"),)),
    Shape("domains", 0.20, 12, odd=((20, "throttles"), (20, "fails"))),
    Shape("rated", 0.08, 6, pace=0.3),
    Shape("budget", 0.12, 8, odd=((20, "fails"),)),
    Shape("healed", 0.08, 8, odd=((50, "heals"), (50, "defers"))),
    Shape("confirmed", 0.06, 8, pace=0.5),
    Shape("once", 0.05, 4),
    Shape("deadly", 0.05, 4),
    Shape("broken", 0.06, 6, odd=((40, "breaks"),)),
)


@dataclass
class Started:
    """A run, and what was asked of it."""

    run_id: str
    number: int
    shape: Shape
    kind: Kind
    concurrency: list[Asked]
    budgets: list[Asked] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    paused_ms: float | None = None
    skips: list[str] = field(default_factory=list)
    """Actions that skipped items."""
    skips_from: int = 0


class Traffic:
    def __init__(self, planner: str, scheduler: str, source: random.Random, *, items: int, seconds: float) -> None:
        self.random = source
        options = [*OPTIONS, ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 500)]
        self._channels = [grpc.insecure_channel(address, options=options) for address in (planner, scheduler)]
        self.plans = planner_pb2_grpc.PlannerServiceStub(self._channels[0])
        self.runs = scheduler_pb2_grpc.SchedulerServiceStub(self._channels[1])
        self.limits = scheduler_pb2_grpc.LimitServiceStub(self._channels[1])
        self.items = items
        self.seconds = seconds
        self.rate = 2.0 * items * next(shape.share for shape in SHAPES if shape.name == "rated") / seconds
        self.started: list[Started] = []
        self.repeated = 0
        """Calls that were made again."""
        self._lock = threading.Lock()

    def insist(self, call: Callable[[], T], *, seconds: float = 90.0) -> T:
        """Until it is answered."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                if error.code() not in WEATHER or time.monotonic() > deadline:
                    raise
                with self._lock:
                    self.repeated += 1
                time.sleep(0.2)

    def begin(self) -> None:
        """Limits, a price, and all runs."""
        domains = pb.Limit(key="domain:*", concurrency=DOMAIN_BOUND)
        provider = pb.Limit(key=PROVIDER)
        provider.rates.add(dimension="requests", per_minute=self.rate * 60, burst=RATE_BURST)
        for number, limit in enumerate((domains, provider)):
            request = pb.SetLimitRequest(limit=limit, actor="chaos", request_id=f"limit-{number}")
            self.insist(lambda request=request: self.limits.SetLimit(request, timeout=5))  # type: ignore[misc]
        price = pb.SetPriceRequest(processor="executed", micros=PRICE, actor="chaos", request_id="price")
        self.insist(lambda: self.limits.SetPrice(price, timeout=5))
        for number, shape in enumerate(SHAPES):
            self._start(number, shape)

    def _payloads(self, shape: Shape, count: int) -> list[dict[str, Any]]:
        # Together the runs have some 60 slots; their items last so long that they are done in the time that is given.
        pace = self.seconds * 35 / self.items * shape.pace
        payloads = []
        for i in range(count):
            payload: dict[str, Any] = {"seconds": round(pace * self.random.uniform(0.3, 1.7), 3), "cost": PRICE}
            if shape.name in ("domains", "broken"):
                payload["limits"] = [f"domain:d{i % DOMAINS}"]
            if shape.name == "rated":
                payload["limits"] = [PROVIDER]
            drawn = self.random.randrange(1000)
            for thousandths, what in shape.odd:
                if 0 <= drawn < thousandths:
                    payload["as"] = what
                drawn -= thousandths
            payloads.append(payload)
        if shape.name == "deadly":
            fatal, *twice = self.random.sample(range(count), min(count, 3))
            payloads[fatal] |= {"as": "kills", "times": FATAL}
            for seq in twice:
                payloads[seq] |= {"as": "kills", "times": 2}
        return payloads

    def _start(self, number: int, shape: Shape) -> None:
        count = max(int(self.items * shape.share), 8)
        payloads = self._payloads(shape, count)
        data = b"".join(
            orjson.dumps({"key": f"k{i}", "payload": payload}) + b"\n" for i, payload in enumerate(payloads)
        )

        def parts() -> Iterator[planner_pb2.CreateSourceRequest]:
            header = planner_pb2.CreateSourceRequest.Header(kind=planner_pb2.SOURCE_KIND_ITEMS)
            yield planner_pb2.CreateSourceRequest(header=header)
            yield planner_pb2.CreateSourceRequest(file=planner_pb2.CreateSourceRequest.File(name=f"{number}.jsonl"))
            for first in range(0, len(data), 1 << 20):
                yield planner_pb2.CreateSourceRequest(chunk=data[first : first + (1 << 20)])

        source = self.insist(lambda: self.plans.CreateSource(parts(), timeout=60))
        spec = planner_pb2.StageSpec(processor="executed", concurrency=shape.concurrency, max_tries=5)
        if shape.name == "once":
            spec.parameters = orjson.dumps({"repeatable": False})
        if shape.name == "healed":
            spec.rules.heal.attempts = 3
            spec.rules.heal.kinds.append("provider")
        if shape.name == "confirmed":
            spec.rules.confirm.processor = "executed"
        plan = self.insist(
            lambda: self.plans.CreatePlan(
                planner_pb2.CreatePlanRequest(source_id=source.source_id, stages=[spec]), timeout=60
            )
        )
        cap = PRICE * count // 4 if shape.name == "budget" else None
        request = pb.StartRunRequest(
            plan_id=plan.plan_id, actor=f"owner-{number % 3}", request_id=f"start-{number}", budget_micros=cap
        )
        sent = now_ms()
        run = self.insist(lambda: self.runs.StartRun(request, timeout=10))
        fails = {i: "worker_lost" for i, payload in enumerate(payloads) if payload.get("times") == FATAL}
        if shape.name == "once":
            fails = dict.fromkeys(range(count), "unknown")
        kind = Kind(
            shape.name, count, fails, confirmed=shape.name == "confirmed", once=shape.name == "once", price=PRICE
        )
        self.started.append(
            Started(
                run.run_id,
                run.number,
                shape,
                kind,
                concurrency=[Asked(sent, now_ms(), shape.concurrency)],
                budgets=[] if cap is None else [Asked(sent, now_ms(), cap)],
                skips_from=count,
            )
        )

    def named(self, name: str) -> Started:
        return next(one for one in self.started if one.shape.name == name)

    def state(self, one: Started) -> pb.Run:
        request = pb.GetRunRequest(run_id=one.run_id)
        return self.insist(lambda: self.runs.GetRun(request, timeout=5))

    def left(self) -> int:
        """Items that are not settled yet."""
        count = 0
        for one in self.started:
            run = self.state(one)
            if run.state not in ENDED:
                count += run.counts.total - run.counts.completed - run.counts.failed - run.counts.skipped
        return count

    def outcomes(self, one: Started) -> list[int]:
        """The seqs of all settled items, as their reader sees them."""

        def read() -> list[int]:
            request = pb.ReadOutcomesRequest(run_id=one.run_id, stage=0)
            return [item.seq for part in self.runs.ReadOutcomes(request, timeout=60) for item in part.items]

        return self.insist(read)

    def skipped(self, one: Started) -> int:
        """How many items its operators were told to have skipped."""
        return sum(
            self.insist(lambda x=x: self.runs.GetItemAction(pb.GetItemActionRequest(action_id=x), timeout=5)).changed  # type: ignore[misc]
            for x in one.skips
        )

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
