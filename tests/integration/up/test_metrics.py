"""What /metrics of a real scheduler tells after a run that met limits, budgets, failures and a gate: every decision, by
the names that docs/operating.md lists."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import prometheus_client.parser
import pytest

from penstock import Client
from penstock.client.limits import RateOptions
from penstock.client.resources import StageOptions
from penstock.runtime import metrics
from tests.conftest import StackFactory
from tests.servers.ports import free_port
from tests.servers.stack import until

OPERATING = Path(__file__).parents[3] / "docs" / "operating.md"
MOVED = (
    "penstock_queue_seconds_count",
    "penstock_propose_seconds_count",
    "penstock_lease_seconds_count",
    "penstock_leases_granted_total",
    "penstock_grant_items_sum",
    "penstock_report_items_sum",
    "penstock_attempts_ended_total",
    "penstock_commit_seconds_count",
    "penstock_commit_calls_sum",
    "penstock_events_total",
    "penstock_spent_micros_total",
    "penstock_overrun_micros_total",
    "penstock_throttles_total",
    "penstock_valve_moves_total",
    "penstock_sweep_seconds_count",
    "penstock_redis_rebuilds_total",
    "penstock_workers",
    "penstock_rpc_seconds_count",
)
EVENTS = ("run.created", "run.state", "stage.state", "gate.approved", "item.retry", "item.failed", "limit.closed")


def names() -> list[str]:
    """Of all metrics that programs have, without what a kind of metric adds."""
    found = [getattr(metrics, name) for name in metrics.__all__ if name.isupper()]
    return [metric._name for metric in found]


@pytest.mark.parametrize("name", names())
def test_every_metric_is_documented(name: str) -> None:
    table = set(re.findall(r"`(penstock_[a-z_]+)", OPERATING.read_text()))
    assert {name, f"{name}_total"} & table, f"docs/operating.md does not tell of {name}"


def samples(port: int) -> dict[str, list[prometheus_client.samples.Sample]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found: dict[str, list[prometheus_client.samples.Sample]] = {}
    for family in prometheus_client.parser.text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def carried_out(client: Client, items: Path) -> None:
    """A run that waits at a gate, is throttled, fails and is retried, and costs more than it reserved."""
    payloads = [{"limits": ["provider:metered"], "cost_micros": 20, "used": {"tokens": 5}} for _ in range(40)]
    payloads[20] |= {"fail": "throttled", "wait_seconds": 0.2}
    payloads[5] |= {"fail": "provider", "fail_attempts": 1}
    payloads[6] |= {"fail": "provider", "permanent": True}
    items.write_text("".join(json.dumps({"key": f"k{n}", "payload": one}) + "\n" for n, one in enumerate(payloads)))
    client.limits.set("provider:metered", concurrency=4, rates=[RateOptions(dimension="tokens", per_minute=1e6)])
    client.prices.set("noop", 7)
    stage = StageOptions(processor="noop", parameters={"paid": True}, rules={"gate": {"name": "ship"}})
    plan = client.plans.create(client.sources.items(items).source_id, stages=[stage])
    run = client.run(client.runs.start(plan.plan_id, budget_micros=10**9))
    run.approve("ship")
    done = run.wait()
    assert (done.counts.completed, done.counts.failed) == (39, 1), done


def test_every_decision_is_told_at_metrics(fresh_stack: StackFactory, tmp_path: Path) -> None:
    port = free_port()
    stack = fresh_stack(environment={"PENSTOCK_SCHEDULER__METRICS_PORT": str(port)})
    stack.start()
    carried_out(stack.client, tmp_path / "items.jsonl")
    told = samples(port)
    still = [name for name in MOVED if not sum(sample.value for sample in told.get(name, ()))]
    assert not still, f"{', '.join(still)}: nothing was told of a run that moved all of it"
    types = {sample.labels["type"] for sample in told["penstock_events_total"]}
    assert types >= set(EVENTS)
    assert sum(sample.value for sample in told["penstock_spent_micros_total"]) >= 40 * 20
    until("what stands where is told", lambda: samples(port).get("penstock_runs"))
    told = samples(port)
    assert {sample.labels["state"] for sample in told["penstock_items"]} >= {"queued", "running", "failed"}
    assert {sample.labels["state"] for sample in told["penstock_valves"]} == {"closed", "probing", "ramping"}
