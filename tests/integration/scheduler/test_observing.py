"""Every decision is counted: leases and how long they took, reports, events, money, sweeps, what stands where."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from scheduler.observing import Gauges
from scheduler.store.items import Stale
from scheduler.store.schema import events
from scheduler.store.statements import Asked, finish
from tests.integration.scheduler.world import World, completed, failed


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_decisions_are_counted(world: World) -> None:
    names = {
        "granted": ("penstock_leases_granted_total", {"processor": "noop"}),
        "batches": ("penstock_grant_items_count", {}),
        "leases": ("penstock_lease_seconds_count", {}),
        "queue": ("penstock_queue_seconds_count", {}),
        "reports": ("penstock_report_items_sum", {}),
        "proposals": ("penstock_propose_seconds_count", {}),
        "retries": ("penstock_events_total", {"type": "item.retry"}),
        "ends": ("penstock_events_total", {"type": "run.state"}),
        "due": ("penstock_sweep_items_total", {"sweep": "due"}),
    }
    before = {name: value(metric, **labels) for name, (metric, labels) in names.items()}
    run_id = await world.run(10)
    worker = world.worker()
    leases = await worker.leases(10)
    assert await worker.report(run_id, [completed(lease) for lease in leases[1:]] + [failed(leases[0])]) == []
    (again,) = await worker.leases(1)
    assert await worker.report(run_id, [completed(again)]) == []
    assert (await world.get(run_id)).state == pb.RUN_STATE_COMPLETED
    grown = {name: value(metric, **labels) - before[name] for name, (metric, labels) in names.items()}
    assert grown["granted"] == 11
    assert (grown["batches"], grown["leases"], grown["queue"]) == (2, 2, 2)
    assert grown["reports"] == 11
    assert grown["proposals"] >= 2
    assert grown["retries"] == 1
    assert grown["ends"] == 2
    assert grown["due"] == 1
    assert value("penstock_sweep_seconds_count", sweep="due") > 0


async def test_what_a_fallen_transaction_did_is_counted_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "retries": ("penstock_events_total", {"type": "item.retry"}),
        "spent": ("penstock_spent_micros_total", {"processor": "noop"}),
        "retry": ("penstock_attempts_ended_total", {"state": "retry"}),
        "completed": ("penstock_attempts_ended_total", {"state": "completed"}),
    }
    run_id = await world.run(2)
    worker = world.worker()
    bad, good = await worker.leases(2)
    before = {name: value(metric, **labels) for name, (metric, labels) in names.items()}
    fell = False

    def falling(connection: sa.Connection, writes: Sequence[Asked]) -> None:
        nonlocal fell
        finish(connection, writes)
        retries = sa.select(sa.func.count()).select_from(events).where(events.c.type == "item.retry")
        if not fell and connection.execute(retries).scalar_one():
            fell = True
            raise Stale

    monkeypatch.setattr("scheduler.commit.finish", falling)
    paid = completed(good)
    paid.cost_micros = 7
    assert await worker.report(run_id, [failed(bad), paid]) == []
    assert fell
    grown = {name: value(metric, **labels) - before[name] for name, (metric, labels) in names.items()}
    assert grown == {"retries": 1, "spent": 7, "retry": 1, "completed": 1}


async def test_what_is_decided_about_no_one_run_is_counted(world: World) -> None:
    types = (
        "limit.set",
        "limit.closed",
        "limit.open",
        "limit.deleted",
        "price.set",
        "retries.stopped",
        "retries.allowed",
    )
    before = [value("penstock_limit_events_total", type=one) for one in types]
    await world.limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key="domain:a", concurrency=2)))
    for _ in range(2):  # the second time it is so already
        await world.limits.CloseLimit(pb.CloseLimitRequest(key="domain:a"))
    await world.limits.OpenLimit(pb.OpenLimitRequest(key="domain:a"))
    await world.limits.DeleteLimit(pb.DeleteLimitRequest(key="domain:a"))
    await world.limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=5))
    for allowed in (False, False, True):
        await world.runs.SetRetries(pb.SetRetriesRequest(allowed=allowed))
    assert [value("penstock_limit_events_total", type=one) for one in types] == [count + 1 for count in before]


async def test_gauges_say_what_stands_where(world: World) -> None:
    run_id = await world.run(10)
    worker = world.worker()
    leases = await worker.leases(4)
    assert await worker.report(run_id, [completed(lease) for lease in leases[:3]]) == []
    database = Database(world.settings.scheduler.database_url, "scheduler")
    try:
        Gauges(database, seconds=1).read()
    finally:
        database.close()
    assert value("penstock_runs", state="running") == 1
    states = ("queued", "running", "completed", "failed")
    assert [value("penstock_items", state=state) for state in states] == [6, 1, 3, 0]
