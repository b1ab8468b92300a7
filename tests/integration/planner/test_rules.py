"""The rules of stages: kept as given, filled in, part of the plan's id; all that is wrong is told at once."""

from __future__ import annotations

import json
import math

import pytest

from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2, rules_pb2
from planner.domain.stages import StageSettings, plan_id
from tests.integration.planner.conftest import Planner
from tests.integration.planner.test_sources_and_plans import lines


def noop(**fields: object) -> planner_pb2.StageSpec:
    return planner_pb2.StageSpec(processor="noop", **fields)  # type: ignore[arg-type]


async def test_rules_come_back_filled_in(planner: Planner) -> None:
    source = await planner.items(lines(2))
    rules = rules_pb2.StageRules(
        retry=[rules_pb2.RetryRule(kinds=["provider"], max_tries=9, first_seconds=2.5), rules_pb2.RetryRule()],
        heal=rules_pb2.HealRules(attempts=2, budget_micros=0),
        confirm=rules_pb2.ConfirmRules(processor="noop", parameters=b'{"paid": true}'),
        gate=rules_pb2.GateRules(name="go", timeout_seconds=60, default_answer=rules_pb2.GATE_ANSWER_APPROVE),
        tolerance=rules_pb2.ToleranceRules(share=0.25),
        valve=rules_pb2.ValveRules(failures=5),
        budget_micros=9_000_000_000,
    )
    plan = await planner.plan(source.source_id, stages=[noop(rules=rules, parameters=b'{"sleep_seconds": 0.5}')])
    kept = plan.stages[0].rules
    assert kept.retry == rules.retry
    assert (kept.heal.processor, kept.heal.processor_version) == ("noop", "1")
    assert json.loads(kept.heal.parameters) == {"sleep_seconds": 0.5}
    assert kept.heal.HasField("budget_micros")
    assert (kept.confirm.processor, kept.confirm.processor_version) == ("noop", "1")
    assert (kept.gate, kept.tolerance, kept.valve) == (rules.gate, rules.tolerance, rules.valve)
    assert kept.budget_micros == 9_000_000_000
    assert not kept.HasField("item_budget_micros")
    assert not plan.stages[0].paid, "what its second witness costs is another thing"
    assert (await planner.keep(plan.plan_id)).stages == plan.stages


async def test_rules_are_part_of_the_id_and_none_are_none(planner: Planner) -> None:
    source = await planner.items(lines(2))
    bare = await planner.plan(source.source_id, stages=[noop()])
    empty = await planner.plan(source.source_id, stages=[noop(rules=rules_pb2.StageRules())])
    ruled = await planner.plan(source.source_id, stages=[noop(rules=rules_pb2.StageRules(budget_micros=0))])
    again = await planner.plan(source.source_id, stages=[noop(rules=rules_pb2.StageRules(budget_micros=0))])
    assert bare.plan_id == empty.plan_id != ruled.plan_id == again.plan_id
    assert not bare.stages[0].HasField("rules")
    assert (bare.stages[0].paid, bare.stages[0].repeatable) == (False, True)
    once = await planner.plan(source.source_id, stages=[noop(parameters=b'{"paid": true, "repeatable": false}')])
    assert (once.stages[0].paid, once.stages[0].repeatable) == (True, False)
    heal = rules_pb2.HealRules(attempts=1, processor="noop", parameters=b'{"repeatable": false}')
    healed = await planner.plan(source.source_id, stages=[noop(rules=rules_pb2.StageRules(heal=heal))])
    assert not healed.stages[0].repeatable, "its healing is not"


def test_ids_of_plans_without_rules_are_what_they_were() -> None:
    stage = StageSettings("noop", "1", {"sleep_seconds": 0.0}, 64, 5, 600, "default")
    assert plan_id("source-1", "", [stage]) == "plan-5ce4b7fb910ff6a170f342d88d0ddd68"


async def test_everything_wrong_with_rules_is_told_at_once(planner: Planner) -> None:
    documents = await planner.files([("a.txt", b"x")])
    first = rules_pb2.StageRules(
        retry=[
            rules_pb2.RetryRule(kinds=["time_out", "item", "item"], max_tries=0, first_seconds=math.nan),
            rules_pb2.RetryRule(first_seconds=9, max_seconds=3, factor=0.5),
            rules_pb2.RetryRule(kinds=["budget"]),
        ],
        heal=rules_pb2.HealRules(attempts=6, processor="healer", kinds=["oops"], budget_micros=-1),
        confirm=rules_pb2.ConfirmRules(),
        gate=rules_pb2.GateRules(name="Go!", default_answer=rules_pb2.GATE_ANSWER_REJECT),
        run_when=rules_pb2.RUN_WHEN_ALL,
        tolerance=rules_pb2.ToleranceRules(failures=-1, share=1.5),
        valve=rules_pb2.ValveRules(closed_seconds=60, max_seconds=30),
        budget_micros=-5,
        item_budget_micros=10**17,
    )
    second = rules_pb2.StageRules(
        confirm=rules_pb2.ConfirmRules(processor="noop", parameters=b"[]"),
        tolerance=rules_pb2.ToleranceRules(),
        run_when=7,  # type: ignore[arg-type]
    )
    stages = [
        planner_pb2.StageSpec(processor="document", concurrency=-1, rules=first),
        planner_pb2.StageSpec(processor="collection", rules=second),
    ]
    with pytest.raises(InvalidInput) as told:
        await planner.plan(documents.source_id, stages=stages)
    for words in (
        "stage 0: concurrency is -1",
        "stage 0: retry rule 0: 'time_out' is no kind of failure; there are: item, worker_lost",
        "stage 0: retry rule 0: item is named twice",
        "stage 0: retry rule 0: max_tries is 0, it may be 1-100",
        "stage 0: retry rule 0: first_seconds is nan",
        "stage 0: retry rule 1: max_seconds 3 is below first_seconds 9",
        "stage 0: retry rule 1: factor is 0.5",
        "stage 0: retry rule 2 is never reached",
        "stage 0: heal.attempts is 6, it may be 1-5",
        "stage 0: heal: 'oops' is no kind of failure",
        "stage 0: heal: no processor named 'healer'",
        "stage 0: heal.budget_micros is -1",
        "stage 0: confirm.processor is empty",
        "stage 0: gate.name is 'Go!'",
        "stage 0: gate.default_answer needs a gate.timeout_seconds",
        "stage 0: run_when is set for the first stage",
        "stage 0: tolerance.failures is -1",
        "stage 0: tolerance.share is 1.5",
        "stage 0: valve.failures is 0, it may be 1-1000",
        "stage 0: valve.max_seconds 30 is below valve.closed_seconds 60",
        "stage 0: budget_micros is -5",
        "stage 0: item_budget_micros is 100,000,000,000,000,000",
        "stage 1: confirm.parameters are not a JSON object",
        "stage 1: tolerance says neither",
        "stage 1: run_when is 7, which is unknown",
    ):
        assert words in told.value.message, words


async def test_what_is_wrong_with_two_stages_is_told_of_both_and_names_them(planner: Planner) -> None:
    documents = await planner.files([("a.txt", b"x")])
    spec, gate = planner_pb2.StageSpec, rules_pb2.GateRules(name="go")
    first = rules_pb2.StageRules(gate=gate, item_budget_micros=-4)
    second = rules_pb2.StageRules(gate=gate, confirm=rules_pb2.ConfirmRules(processor="nix"))
    with pytest.raises(InvalidInput) as told:
        await planner.plan(
            documents.source_id,
            granularity="page",
            profile="night",
            stages=[
                spec(processor="document", parameters=b'{"nope": 1}', rules=first),
                spec(processor="collection", parameters=b'{"k": 1}', concurrency=-1, rules=second),
            ],
        )
    for words in (
        "granularity is 'page'",
        "there is no profile 'night'",
        "stage 0: parameters of processor 'document': nope: ",
        "stage 0: item_budget_micros is -4",
        "stage 1: parameters of processor 'collection': k: ",
        "stage 1: concurrency is -1",
        "stage 1: confirm: no processor named 'nix'",
        "gate 'go' stands twice in the plan",
    ):
        assert told.value.message.count(words) == 1, (words, told.value.message)
    with pytest.raises(InvalidInput) as other:
        await planner.plan(documents.source_id, stages=[spec(processor="doc", max_tries=101), spec(processor="noop")])
    for words in ("given were doc, noop", "stage 0: no processor named 'doc'", "stage 0: max_tries is 101"):
        assert words in other.value.message
    assert other.value.code == "bad_stages"
    with pytest.raises(InvalidInput, match="stage 0: parameters are not a JSON object; stage 1: parameters are not"):
        await planner.plan(
            documents.source_id,
            stages=[spec(processor="document", parameters=b"["), spec(processor="collection", parameters=b"3")],
        )


async def test_gates_of_a_plan_have_names_of_their_own(planner: Planner) -> None:
    documents = await planner.files([("a.txt", b"x")])
    gate = rules_pb2.StageRules(gate=rules_pb2.GateRules(name="go"))
    stages = [planner_pb2.StageSpec(processor=name, rules=gate) for name in ("document", "collection")]
    with pytest.raises(InvalidInput, match="gate 'go' stands twice") as told:
        await planner.plan(documents.source_id, stages=stages)
    assert told.value.code == "bad_rules"
