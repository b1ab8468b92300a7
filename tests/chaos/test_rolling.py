"""Over real processes: schedulers restarted one by one under calls, and started while PostgreSQL and Redis are away.

A client that repeats an unanswered call with its request id loses none: each has its effect once. What runs meanwhile
is executed once. Nobody has to restart anything by hand.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from tests.chaos.cluster import Cluster
from tests.chaos.gathering import executions
from tests.chaos.traffic import Traffic
from tests.servers.stack import until

ITEMS = 400

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    # No worker dies, so no lease has to end: what a machine that stands still does to a term is not told here.
    one = Cluster(tmp_path, random.Random(1), workers=2, term_seconds=20)
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture
def traffic(cluster: Cluster) -> Iterator[Traffic]:
    addresses = f"127.0.0.1:{cluster.planner_port}", f"127.0.0.1:{cluster.proxy.port}"
    one = Traffic(*addresses, random.Random(1), items=ITEMS, seconds=60)
    yield one
    one.close()


def plan(traffic: Traffic, count: int, seconds: float) -> str:
    lines = [orjson.dumps({"key": f"k{i}", "payload": {"seconds": seconds, "cost": 1}}) for i in range(count)]

    def parts() -> Iterator[planner_pb2.CreateSourceRequest]:
        header = planner_pb2.CreateSourceRequest.Header(kind=planner_pb2.SOURCE_KIND_ITEMS)
        yield planner_pb2.CreateSourceRequest(header=header)
        yield planner_pb2.CreateSourceRequest(file=planner_pb2.CreateSourceRequest.File(name="items.jsonl"))
        yield planner_pb2.CreateSourceRequest(chunk=b"\n".join(lines))

    source = traffic.insist(lambda: traffic.plans.CreateSource(parts(), timeout=30))
    spec = planner_pb2.StageSpec(processor="executed", concurrency=16)
    request = planner_pb2.CreatePlanRequest(source_id=source.source_id, stages=[spec])
    return traffic.insist(lambda: traffic.plans.CreatePlan(request, timeout=30)).plan_id


def start(traffic: Traffic, plan_id: str, request_id: str) -> pb.Run:
    request = pb.StartRunRequest(plan_id=plan_id, actor="chaos", request_id=request_id)
    return traffic.insist(lambda: traffic.runs.StartRun(request, timeout=10))


def state(traffic: Traffic, run_id: str) -> pb.Run:
    return traffic.insist(lambda: traffic.runs.GetRun(pb.GetRunRequest(run_id=run_id), timeout=5))


def completed(traffic: Traffic, run_id: str, *, seconds: float = 120.0) -> pb.Run:
    until("the run completed", lambda: state(traffic, run_id).state == pb.RUN_STATE_COMPLETED, seconds=seconds)
    return state(traffic, run_id)


def executed(cluster: Cluster, run_id: str) -> Counter[int]:
    return Counter(one.seq for one in executions(cluster.executions, {}) if one.run_id == run_id)


class Caller:
    """Starts runs and sets limits, one after another, until it is told to end; each call until it is answered."""

    def __init__(self, traffic: Traffic, plan_id: str) -> None:
        self.runs: dict[str, str] = {}
        self.limits: list[str] = []
        self._traffic = traffic
        self._plan_id = plan_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def _call(self) -> None:
        number = 0
        while not self._over.wait(0.02):
            number += 1
            name = f"call-{number}"
            if number % 10 == 0:
                self.runs[name] = start(self._traffic, self._plan_id, name).run_id
            request = pb.SetLimitRequest(
                limit=pb.Limit(key=f"project:{number}", concurrency=1), actor="chaos", request_id=f"limit-{number}"
            )
            self._traffic.insist(lambda request=request: self._traffic.limits.SetLimit(request, timeout=5))  # type: ignore[misc]
            self.limits.append(request.limit.key)

    def end(self) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a call was never answered"


def test_a_rolling_restart_of_schedulers_loses_no_call_that_a_client_retries(
    cluster: Cluster, traffic: Traffic
) -> None:
    run = start(traffic, plan(traffic, ITEMS, 0.5), "the run")
    caller = Caller(traffic, plan(traffic, 1, 0.01))
    meanwhile = 0
    for program in cluster.schedulers * 2:
        before = len(caller.limits)
        assert cluster.restart_scheduler(program)
        meanwhile += len(caller.limits) - before
        until("calls go on", lambda before=before: len(caller.limits) > before + 5, seconds=60)  # type: ignore[misc]
    caller.end()
    ended = completed(traffic, run.run_id)
    assert (ended.counts.completed, ended.counts.failed) == (ITEMS, 0)
    assert executed(cluster, run.run_id) == Counter(range(ITEMS)), "each item once: nobody's worker was touched"

    listed = traffic.insist(lambda: traffic.limits.ListLimits(pb.ListLimitsRequest(page_size=1000), timeout=5))
    assert {limit.key for limit in listed.limits} == set(caller.limits)
    known = traffic.insist(lambda: traffic.runs.ListRuns(pb.ListRunsRequest(page_size=1000), timeout=5))
    assert Counter(one.run_id for one in known.runs) == Counter([run.run_id, *caller.runs.values()]), (
        "each call has made one run"
    )
    for run_id in caller.runs.values():
        completed(traffic, run_id)
    print(f"{meanwhile} calls were answered while a scheduler restarted, {traffic.repeated} had to be made again")
    assert meanwhile > 20


@pytest.mark.parametrize("killed", [False, True], ids=["schedulers stay", "schedulers start meanwhile"])
def test_postgresql_and_redis_go_and_come_back(cluster: Cluster, traffic: Traffic, killed: bool) -> None:
    run = start(traffic, plan(traffic, ITEMS, 0.2), "the run")
    until("it moves", lambda: state(traffic, run.run_id).counts.completed > 20, seconds=60)
    cluster.postgres.kill()
    cluster.redis.kill()
    if killed:
        for program in cluster.schedulers:
            program.kill()
            program.start()
        for program in cluster.schedulers:
            until("it says why it waits", lambda program=program: "not ready to start" in program.tail(), seconds=60)  # type: ignore[misc]
    pids = [program.pid for program in cluster.schedulers]
    cluster.postgres.start()
    cluster.redis.start()
    ended = completed(traffic, run.run_id)
    assert (ended.counts.completed, ended.counts.failed) == (ITEMS, 0)
    assert all(program.alive() for program in cluster.schedulers)
    assert [program.pid for program in cluster.schedulers] == pids, "nobody had to start them again"
    assert set(executed(cluster, run.run_id)) == set(range(ITEMS))
