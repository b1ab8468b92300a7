"""Plans drawn at random: stages with every rule, items of every nature and lane.

An item's nature is its payload: how often it fails, kills its worker, is throttled, is deferred; what it costs. Workers
do what it says, attempt after attempt; after its ills an item completes, so that everything comes to an end.
"""

from __future__ import annotations

import random
from typing import Any

import orjson

from penstock.v1 import common_pb2, planner_pb2, rules_pb2
from penstock.words import lane_of

__all__ = ["ILLS", "KEYS", "PRICE", "PROCESSORS", "draw_plan"]

PROCESSORS = ("noop", "paid", "once", "healer", "witness")
PROVIDER = "provider:p"
DOMAINS = ("domain:a", "domain:b", "domain:c")
KEYS = (PROVIDER, *DOMAINS)
PRICE = 10
"""Micro-dollars that the operator says an item of `paid` costs."""
KINDS = ("item", "item", "provider", "timeout", "invalid_result")
ILLS = {"kill": 8.0, "fail": 7.0, "release": 3.0, "throttle": 9.0, "defer": 6.0, "disagree": 8.0, "slow": 14.0}
"""Seconds that an ill may hold its item, and all those behind it where one runs at a time."""


def draw_plan(source: random.Random) -> tuple[planner_pb2.Plan, list[list[common_pb2.Item]]]:
    """One or two stages; few items, so that a seed sees many runs."""
    plan = planner_pb2.Plan(name="drawn", kind=planner_pb2.SOURCE_KIND_ITEMS)
    items: list[list[common_pb2.Item]] = []
    for number in range(source.choice((1, 1, 1, 2))):
        processor = source.choice(("noop", "noop", "paid", "once"))
        count = source.choice((1, 1, 2, 3, 6, 12))
        stage = plan.stages.add(
            stage=number,
            processor=processor,
            processor_version="1",
            parameters=b"{}",
            concurrency=source.choice((1, 2, 5, 64)),
            max_tries=source.choice((1, 2, 3, 5)),
            max_run_seconds=source.choice((5, 600, 600)),
            worker_class="default",
            paid=processor == "paid",
            repeatable=processor != "once",
        )
        _rules(source, stage.rules, number, count, stage.paid)
        limited = source.random() < 0.6
        items.append([_item(source, seq, limited, stage) for seq in range(count)])
    return plan, items


def _rules(source: random.Random, rules: rules_pb2.StageRules, number: int, count: int, paid: bool) -> None:
    if source.random() < 0.2:
        rules.retry.add(kinds=["provider"], max_tries=2, first_seconds=0.5, max_seconds=2.0)
    if source.random() < 0.15:
        rules.heal.attempts = source.choice((1, 2))
        if source.random() < 0.5:
            rules.heal.processor, rules.heal.processor_version = "healer", "1"
            rules.heal.parameters = b"{}"
    if source.random() < 0.15:
        rules.confirm.processor, rules.confirm.processor_version = "witness", "1"
        rules.confirm.parameters = b"{}"
    if source.random() < 0.12:
        rules.gate.name = f"gate-{number}"
        rules.gate.timeout_seconds = source.choice((0.0, 5.0))
        rules.gate.default_answer = source.choice((rules_pb2.GATE_ANSWER_APPROVE, rules_pb2.GATE_ANSWER_REJECT))
    rules.run_when = source.choice((rules_pb2.RUN_WHEN_ANY, rules_pb2.RUN_WHEN_ALL, rules_pb2.RUN_WHEN_ALWAYS))
    if source.random() < 0.15:
        rules.tolerance.failures = source.choice((0, 1, 3))
    if source.random() < 0.15:
        rules.valve.failures, rules.valve.closed_seconds, rules.valve.max_seconds = 2, 1.0, 4.0
    if paid and source.random() < 0.6:
        rules.budget_micros = source.choice((PRICE - 1, 3 * PRICE, count * PRICE, 10 * count * PRICE))
    if paid and source.random() < 0.3:
        rules.item_budget_micros = source.choice((PRICE, 3 * PRICE, 20 * PRICE))


def _item(source: random.Random, seq: int, limited: bool, stage: planner_pb2.PlanStage) -> common_pb2.Item:
    keys = [source.choice(DOMAINS), PROVIDER][: source.choice((1, 2))] if limited else []
    nature = _nature(source, keys)
    if stage.rules.HasField("confirm") and source.random() < 0.2:
        nature["disagree"] = 1
    if stage.max_run_seconds < 10 and source.random() < 0.06:
        nature["slow"] = 1
    if stage.paid:
        nature["cost"] = PRICE
        nature["overrun"] = source.random() < 0.3
        nature["top_up"] = source.random() < 0.2
    if keys:
        nature["tokens"] = source.randint(1, 20)
    return common_pb2.Item(
        seq=seq, key=f"k{seq}", group=f"g{seq % 3}", payload=orjson.dumps(nature), lane=lane_of(keys)
    )


def _nature(source: random.Random, keys: list[str]) -> dict[str, Any]:
    draw = source.random()
    if keys and draw < 0.1:
        return {"throttle": source.randint(1, 2), "throttle_key": source.choice(keys)}
    if draw < 0.65:
        return {}
    if draw < 0.8:
        return {"fail": source.randint(1, 3), "kind": source.choice(KINDS)}
    if draw < 0.86:
        return {"kill": source.randint(1, 2)}
    if draw < 0.91:
        return {"release": 1}
    if draw < 0.96:
        return {"defer": source.randint(1, 2)}
    return {"permanent": 1}
