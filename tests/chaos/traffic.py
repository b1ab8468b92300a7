"""The work under chaos: runs of every kind, and operators that pause and change them meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import orjson

from penstock.runtime.channel import OPTIONS
from penstock.v1 import planner_pb2, planner_pb2_grpc, scheduler_pb2_grpc
from penstock.v1 import scheduler_pb2 as pb

__all__ = ["DOMAIN_BOUND", "Traffic"]

T = TypeVar("T")
DOMAIN_BOUND = 6
DOMAINS = 4
PRICE = 5
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


@dataclass(frozen=True)
class Started:
    """A run: how many items, its stage's concurrency, whether its items have limits."""

    run_id: str
    number: int
    items: int
    concurrency: int
    limited: bool


class Traffic:
    """Calls every method until somebody answers, with one request id."""

    def __init__(self, planner: str, scheduler: str, source: random.Random, *, items: int, seconds: float) -> None:
        self.random = source
        options = [*OPTIONS, ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 500)]
        self._channels = [grpc.insecure_channel(address, options=options) for address in (planner, scheduler)]
        self.plans = planner_pb2_grpc.PlannerServiceStub(self._channels[0])
        self.runs = scheduler_pb2_grpc.SchedulerServiceStub(self._channels[1])
        self.limits = scheduler_pb2_grpc.LimitServiceStub(self._channels[1])
        self.items = items
        self.seconds = seconds
        self.started: list[Started] = []
        self.commands = 0
        self._paused: Started | None = None

    def insist(self, call: Callable[[], T], *, seconds: float = 60.0) -> T:
        """Until it is answered."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                if error.code() not in WEATHER or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def begin(self) -> None:
        """Limits, a price, and all runs."""
        limit = pb.Limit(key="domain:*", concurrency=DOMAIN_BOUND)
        self.insist(lambda: self.limits.SetLimit(pb.SetLimitRequest(limit=limit, actor="chaos"), timeout=5))
        price = pb.SetPriceRequest(processor="executed", micros=PRICE, actor="chaos")
        self.insist(lambda: self.limits.SetPrice(price, timeout=5))
        shares = (0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.03, 0.02)
        for number, share in enumerate(shares):
            self._start(number, max(int(self.items * share), 1))

    def _start(self, number: int, count: int) -> None:
        limited = number % 3 == 1
        # Together the runs have some 60 slots; their items last so long that they are done in the time that is given.
        pace = self.seconds * 45 / self.items
        lines = []
        for i in range(count):
            payload: dict[str, Any] = {"seconds": round(pace * self.random.uniform(0.3, 1.7), 3), "cost": PRICE}
            if limited:
                payload["limits"] = [f"domain:d{i % DOMAINS}"]
            if self.random.random() < 0.03:
                payload["fails"] = 1
            lines.append(orjson.dumps({"key": f"k{i}", "payload": payload}))
        concurrency = (40, 12, 8, 8)[number % 4]

        def parts() -> Iterator[planner_pb2.CreateSourceRequest]:
            header = planner_pb2.CreateSourceRequest.Header(kind=planner_pb2.SOURCE_KIND_ITEMS)
            yield planner_pb2.CreateSourceRequest(header=header)
            yield planner_pb2.CreateSourceRequest(file=planner_pb2.CreateSourceRequest.File(name=f"{number}.jsonl"))
            data = b"\n".join(lines) + b"\n"
            for first in range(0, len(data), 1 << 20):
                yield planner_pb2.CreateSourceRequest(chunk=data[first : first + (1 << 20)])

        source = self.insist(lambda: self.plans.CreateSource(parts(), timeout=60))
        spec = planner_pb2.StageSpec(processor="executed", concurrency=concurrency, max_tries=50)
        spec.rules.budget_micros = 100 * PRICE * count
        plan = self.insist(
            lambda: self.plans.CreatePlan(
                planner_pb2.CreatePlanRequest(source_id=source.source_id, stages=[spec]), timeout=60
            )
        )
        request = pb.StartRunRequest(
            plan_id=plan.plan_id, actor=f"owner-{number % 3}", request_id=f"start-{number}", budget_micros=10**9
        )
        run = self.insist(lambda: self.runs.StartRun(request, timeout=10))
        self.started.append(Started(run.run_id, run.number, count, concurrency, limited))

    def command(self) -> None:
        """An operator pauses a run; the next time it is told to go on."""
        one = self._paused or self.random.choice(self.started)
        self.commands += 1
        request = pb.RunCommand(run_id=one.run_id, actor="chaos", request_id=f"command-{self.commands}")
        try:
            (self.runs.ResumeRun if self._paused else self.runs.PauseRun)(request, timeout=5)
        except grpc.RpcError as error:
            if error.code() in WEATHER:  # it may be paused by now
                self._paused = one
                return
        self._paused = None if self._paused else one

    def settle(self) -> None:
        """Every run goes on."""
        for one in self.started:
            if self.state(one).state == pb.RUN_STATE_PAUSED:
                request = pb.RunCommand(run_id=one.run_id, actor="chaos")
                self.insist(lambda request=request: self.runs.ResumeRun(request, timeout=5))  # type: ignore[misc]

    def state(self, one: Started) -> pb.Run:
        request = pb.GetRunRequest(run_id=one.run_id)
        return self.insist(lambda: self.runs.GetRun(request, timeout=5))

    def left(self) -> int:
        """Items that are not settled yet."""
        count = 0
        for one in self.started:
            run = self.state(one)
            if run.state not in ENDED:
                count += run.counts.total - run.counts.completed - run.counts.failed
        return count

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
