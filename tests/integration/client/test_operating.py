"""What operators do through the client: each call says who and why, carries a request id, and leaves alone what was
not named."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest

from penstock import Client
from penstock.client import AsyncClient
from penstock.client.limits import FORGET, RateOptions
from penstock.client.money import NO_CAP
from penstock.client.resources import StageOptions
from penstock.client.runs import StageChange
from penstock.runtime.errors import Conflict, InvalidInput, NotFound
from penstock.v1 import rules_pb2
from penstock.v1 import scheduler_pb2 as s
from tests.integration.client.services import Services, away, documents_run


@pytest.fixture
def run(services: Services) -> s.Run:
    run = documents_run(1, state=s.RUN_STATE_RUNNING, total=9)
    services.state.runs.append(run)
    return run


async def test_a_start_names_owner_priority_budget_and_exclusive_keys(services: Services, client: AsyncClient) -> None:
    await client.runs.start("plan-1", owner="ada", priority=5, budget_micros=0, exclusive_keys=["project:x"])
    await client.runs.start("plan-1")
    first, second = services.state.named("StartRun")
    assert (first.owner, first.priority, first.budget_micros) == ("ada", 5, 0)
    assert list(first.exclusive_keys) == ["project:x"]
    assert first.actor == "sdk"
    assert not second.HasField("budget_micros"), "no cap is not a cap of nothing"


async def test_an_update_sends_only_what_changes(services: Services, client: AsyncClient, run: s.Run) -> None:
    services.state.fail["UpdateRun"] = [away()]
    answer = await client.runs.update(
        run.run_id, budget_micros=5_000_000, stages=[StageChange(stage=1, concurrency=7)], reason="more of it"
    )
    assert answer.run.money.budget_micros == 5_000_000
    asked, again = services.state.named("UpdateRun")
    assert asked.request_id == again.request_id != ""
    assert not asked.HasField("priority")
    (stage,) = asked.stages
    assert (stage.stage, stage.concurrency) == (1, 7)
    assert not any(stage.HasField(name) for name in ("max_tries", "budget_micros", "item_budget_micros"))
    answer = await client.runs.update(run.run_id, budget_micros=NO_CAP)
    assert not answer.run.money.HasField("budget_micros")


async def test_a_gate_is_answered_once(services: Services, client: AsyncClient, run: s.Run) -> None:
    services.state.operated.gates.append(s.Gate(run_id=run.run_id, stage=1, name="ship"))
    assert [gate.name for gate in await client.gates.list()] == ["ship"]
    answer = await client.gates.approve(run.run_id, "ship", reason="looks right")
    assert answer.run.state == s.RUN_STATE_RUNNING
    (asked,) = services.state.named("AnswerGate")
    assert (asked.answer, asked.reason, asked.actor) == (rules_pb2.GATE_ANSWER_APPROVE, "looks right", "sdk")
    with pytest.raises(Conflict, match="ship"):
        await client.gates.reject(run.run_id, "ship")
    assert await client.gates.list(run_id=run.run_id) == []


async def test_items_are_acted_on_by_number_or_filter(services: Services, client: AsyncClient, run: s.Run) -> None:
    preview = await client.items.act(run.run_id, "retry", filter="state = failed", preview=True)
    assert (preview.matched, preview.changed, preview.action_id) == (7, 7, "")
    assert await client.items.finished(preview) == preview
    services.state.operated.actions["act-1"] = [
        s.ItemAction(action_id="act-1", changed=3),
        s.ItemAction(action_id="act-1", changed=7, done=True),
    ]
    seen: list[int] = []
    action = await client.items.act(run.run_id, "retry", filter="state = failed", reason="mended")
    assert not action.done
    done = await client.items.finished(action, on_change=lambda one: seen.append(one.changed))
    assert (done.changed, seen) == (7, [3, 7])
    asked = services.state.named("ActOnItems")[-1]
    assert (asked.verb, asked.filter, asked.reason) == (s.ITEM_VERB_RETRY, "state = failed", "mended")
    with pytest.raises(InvalidInput, match="front"):
        await client.items.act(run.run_id, "undo", seqs=[1])


async def test_limits_are_set_whole_closed_and_opened(services: Services, client: AsyncClient) -> None:
    rates = [RateOptions(dimension="tokens", per_minute=40_000, estimate=900)]
    limit = await client.limits.set("provider:anthropic", concurrency=8, rates=rates, adaptive=True, reason="theirs")
    assert (limit.concurrency, limit.adaptive, limit.rates[0].estimate) == (8, True, 900)
    await client.limits.set("domain:*", rates=rates)
    assert not services.state.named("SetLimit")[-1].limit.HasField("concurrency")
    assert [one.key for one in await client.limits.list()] == ["domain:*", "provider:anthropic"]
    assert [one.key for one in await client.limits.list(prefix="pro")] == ["provider:anthropic"]
    until = dt.datetime(2027, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    closed = await client.limits.close("provider:anthropic", until=until, reason="their outage")
    assert closed.closed_until_time.ToDatetime(tzinfo=dt.UTC) == until
    await client.limits.close("provider:anthropic")
    assert not services.state.named("CloseLimit")[-1].HasField("until_time")
    assert [one.key for one in await client.limits.list(states=["closed"])] == ["provider:anthropic"]
    assert [one.number for one in await client.limits.events("provider:anthropic", limit=1)] == [2]
    assert (await client.limits.open("provider:anthropic")).state == "open"
    with pytest.raises(NotFound, match="provider:anthropic"):
        await client.limits.get("provider:openai")
    assert await client.limits.delete("domain:*")
    assert not await client.limits.delete("domain:*")
    with pytest.raises(InvalidInput, match="time zone"):
        await client.limits.close("provider:anthropic", until=until.replace(tzinfo=None))


async def test_prices_and_the_switch_of_retries(services: Services, client: AsyncClient) -> None:
    await client.prices.set("summarise", 12_000)
    await client.prices.set("summarise", FORGET, reason="unknown again")
    assert [one.micros for one in await client.prices.list()] == [-1]
    assert (await client.retries.get()).allowed
    stopped = await client.retries.set(allowed=False, reason="incident 7")
    assert (stopped.allowed, stopped.changed, stopped.reason) == (False, True, "incident 7")
    assert not (await client.retries.get()).allowed, "looking changes nothing"


async def test_rules_travel_with_their_stage(services: Services, client: AsyncClient) -> None:
    rules = {
        "retry": [{"kinds": ["timeout"], "max_tries": 2}, {"max_tries": 4, "first_seconds": 5}],
        "heal": {"attempts": 2, "parameters": {"depth": 1}},
        "gate": {"name": "ship", "timeout_seconds": 60, "default_answer": "approve"},
        "run_when": "always",
        "tolerance": {"share": 0.1},
        "item_budget_micros": 0,
    }
    await client.plans.create("src-1", stages=[StageOptions(processor="noop", rules=rules)])
    sent = services.state.named("CreatePlan")[-1].stages[0].rules
    assert [(list(rule.kinds), rule.max_tries) for rule in sent.retry] == [(["timeout"], 2), ([], 4)]
    assert (sent.heal.attempts, sent.heal.parameters) == (2, b'{"depth":1}')
    assert (sent.gate.name, sent.gate.default_answer) == ("ship", rules_pb2.GATE_ANSWER_APPROVE)
    assert sent.run_when == rules_pb2.RUN_WHEN_ALWAYS
    assert (sent.tolerance.share, sent.tolerance.HasField("failures")) == (0.1, False)
    assert sent.HasField("item_budget_micros")
    assert not sent.HasField("budget_micros")
    assert not sent.HasField("confirm")
    wrong = {"gate": {"name": 3}, "run_when": "never", "colour": "red"}
    with pytest.raises(InvalidInput) as told:
        await client.plans.create("src-1", stages=[StageOptions(processor="noop", rules=wrong)])
    for name in ("gate.name", "run_when", "colour"):
        assert name in told.value.message


async def test_following_tells_each_event_once_also_those_that_a_stream_left_out(
    services: Services, client: AsyncClient, run: s.Run
) -> None:
    services.state.events = [s.Event(number=number, type="item.failed") for number in range(1, 8)]
    ended = documents_run(1)

    async def coalesced(request: s.WatchRunRequest) -> AsyncIterator[s.WatchRunResponse]:
        yield s.WatchRunResponse(run=run, events=services.state.events[:2])
        yield s.WatchRunResponse(run=ended, events=services.state.events[5:])

    services.state.watch = coalesced
    assert [event.number async for event in client.runs.follow(run.run_id)] == list(range(1, 8))


async def test_a_run_in_the_hand(services: Services, run: s.Run) -> None:
    """Plain code: `run.wait()`, `run.events()`, and commands whose answer is whether they changed anything."""
    services.state.events = [s.Event(number=1, type="run.created"), s.Event(number=2, type="run.state")]

    async def to_its_end(request: s.WatchRunRequest) -> AsyncIterator[s.WatchRunResponse]:
        left = [event for event in services.state.events if event.number > request.after_number]
        yield s.WatchRunResponse(run=run)
        yield s.WatchRunResponse(run=documents_run(1, completed=9, total=9), events=left)

    def plain() -> None:
        with Client(endpoints=services.endpoints) as penstock:
            one = penstock.run(1)
            assert one.pause(reason="lunch")
            assert one.update(priority=3)
            assert one.latest.priority == 3
            assert one.act("skip", seqs=[4, 5]).changed == 2
            assert one.explain().state == "running"
            assert one.explain(5).ahead == 5
            assert one.summary().run.run_id == "run-1"
            services.state.watch = to_its_end
            assert [event.type for event in one.events()] == ["run.created", "run.state"]
            assert [event.number for event in one.events(after=1, follow=False)] == [2]
            seen: list[int] = []
            assert one.wait(on_change=lambda now: seen.append(now.state)).state == s.RUN_STATE_COMPLETED
            assert seen == [s.RUN_STATE_RUNNING, s.RUN_STATE_COMPLETED]
            assert penstock.run(penstock.runs.clone(one.run_id, failed=True)).latest.cloned_from == "run-1"
            assert penstock.limits.set("domain:*", concurrency=2).concurrency == 2
            assert penstock.retries.get().allowed

    await asyncio.to_thread(plain)


async def test_the_ledger_is_read_to_its_end(services: Services, client: AsyncClient, run: s.Run) -> None:
    services.state.operated.ledger = [
        s.LedgerEntry(number=number, kind="settled", micros=10) for number in range(1, 2502)
    ]
    assert sum([entry.micros async for entry in client.runs.ledger(run.run_id)]) == 25_010
    assert len(services.state.named("ListLedger")) == 3
