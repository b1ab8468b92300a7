"""Operators and limits: set, listed, closed and opened while everything goes on; bad input told whole."""

from __future__ import annotations

import time
from typing import TypeAlias

import grpc
import orjson
import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from penstock.runtime.errors import AlreadyExists, Conflict, InvalidInput, NotFound, PenstockError, from_rpc_error
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from scheduler.store.schema import limit_events
from tests.integration.scheduler.world import World, completed, in_vain

Stub: TypeAlias = "scheduler_pb2_grpc.LimitServiceAsyncStub"


@pytest.fixture
def limits(world: World) -> Stub:
    return world.limits


async def refused(call: object) -> PenstockError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return from_rpc_error(error.value)


def limit(key: str, **settings: object) -> pb.SetLimitRequest:
    return pb.SetLimitRequest(limit=pb.Limit(key=key, **settings), actor="ann", reason="because")  # type: ignore[arg-type]


async def listed(limits: Stub, **query: object) -> list[str]:
    keys, token = [], ""
    while True:
        page = await limits.ListLimits(pb.ListLimitsRequest(page_token=token, **query))  # type: ignore[arg-type]
        keys += [one.key for one in page.limits]
        token = page.next_page_token
        if not token:
            return keys


async def test_a_limit_is_set_seen_replaced_and_deleted(limits: Stub) -> None:
    rate = pb.Rate(dimension="tokens", per_minute=6_000)
    made = await limits.SetLimit(limit("provider:x", concurrency=5, rates=[rate], cooldown_seconds=7))
    assert (made.state, made.etag, made.cooldown_seconds, made.reason) == ("open", "1", 7, "because")
    assert (made.rates[0].burst, made.rates[0].estimate) == (600, 60)
    assert not made.HasField("closed_until_time")
    replaced = await limits.SetLimit(limit("provider:x", concurrency=6, etag="1"))
    assert (replaced.concurrency, list(replaced.rates), replaced.etag, replaced.cooldown_seconds) == (6, [], "2", 30)
    error = await refused(limits.SetLimit(limit("provider:x", concurrency=7, etag="1")))
    assert isinstance(error, Conflict)
    assert error.code == "etag_mismatch"
    assert await listed(limits) == ["provider:x"]
    gone = pb.DeleteLimitRequest(key="provider:x")
    assert (await limits.DeleteLimit(gone)).changed
    assert not (await limits.DeleteLimit(gone)).changed
    assert await listed(limits) == []


async def test_everything_wrong_is_told_at_once(limits: Stub) -> None:
    rates = [
        pb.Rate(dimension="Requests!", per_minute=5),
        pb.Rate(dimension="tokens", per_minute=-1),
        pb.Rate(dimension="tokens", per_minute=60, burst=10, estimate=11),
    ]
    error = await refused(limits.SetLimit(limit("nokind", concurrency=0, cooldown_seconds=-3, rates=rates)))
    assert isinstance(error, InvalidInput)
    for part in (
        "limit key 'nokind' is not `kind:name`",
        "concurrency 0 is not within 1 to 1,000,000; to let nothing through, close the key",
        "cooldown_seconds -3",
        "rate 'tokens' is there twice",
        "rate dimension 'Requests!'",
        "per_minute -1 of tokens",
        "estimate 11 of tokens is not within 0 and the burst of 10",
    ):
        assert part in error.message
    assert await listed(limits) == []


@pytest.mark.parametrize("key", ["stage:1:0", "lane:1:0:x", "a b:c", "*", "domain", "d:*x", "x" * 300 + ":y"])
async def test_keys_that_are_none_are_refused(limits: Stub, key: str) -> None:
    assert isinstance(await refused(limits.SetLimit(limit(key))), InvalidInput)


async def test_keys_close_and_open(limits: Stub) -> None:
    await limits.SetLimit(limit("domain:a", concurrency=5))
    closed = await limits.CloseLimit(pb.CloseLimitRequest(key="domain:a", reason="down"))
    assert (closed.state, closed.reason, closed.HasField("closed_until_time")) == ("closed", "down", False)
    request = pb.CloseLimitRequest(key="domain:a")
    request.until_time.FromSeconds(int(time.time()) + 3600)
    closed = await limits.CloseLimit(request)
    assert closed.closed_until_time == request.until_time
    opened = await limits.OpenLimit(pb.OpenLimitRequest(key="domain:a"))
    assert (opened.state, opened.cap, opened.HasField("closed_until_time")) == ("open", 0, False)
    request.until_time.FromSeconds(5)
    assert "give a later time" in (await refused(limits.CloseLimit(request))).message


async def test_a_key_that_nobody_declared_can_be_closed_and_is_gone_when_it_is_opened(limits: Stub) -> None:
    await limits.CloseLimit(pb.CloseLimitRequest(key="domain:a"))
    assert await listed(limits) == ["domain:a"]
    await limits.OpenLimit(pb.OpenLimitRequest(key="domain:a"))
    assert await listed(limits) == []
    await limits.SetLimit(limit("domain:b"))
    error = await refused(limits.OpenLimit(pb.OpenLimitRequest(key="domain:a")))
    assert isinstance(error, NotFound)
    assert "there is: domain:b" in error.message


async def test_a_closed_pattern_says_so_for_keys_of_its_own_and_opens_by_itself(world: World, limits: Stub) -> None:
    await limits.SetLimit(limit("domain:*", concurrency=5))
    await limits.CloseLimit(pb.CloseLimitRequest(key="domain:a"))
    request = pb.CloseLimitRequest(key="domain:*")
    request.until_time.FromMilliseconds(int(time.time() * 1000) + 3_000)
    await limits.CloseLimit(request)
    deadline = time.monotonic() + 20
    while (await limits.ListLimits(pb.ListLimitsRequest(prefix="domain:*"))).limits[0].state != "open":
        assert time.monotonic() < deadline
    assert (await limits.ListLimits(pb.ListLimitsRequest(prefix="domain:a"))).limits[0].state == "closed"


async def test_the_same_request_gets_the_same_answer(limits: Stub) -> None:
    request = limit("provider:x", concurrency=5)
    request.request_id = "r1"
    first = await limits.SetLimit(request)
    await limits.SetLimit(limit("provider:x", concurrency=9))
    assert await limits.SetLimit(request) == first
    assert (await limits.ListLimits(pb.ListLimitsRequest())).limits[0].concurrency == 9
    request.limit.concurrency = 6
    error = await refused(limits.SetLimit(request))
    assert isinstance(error, AlreadyExists)
    assert error.code == "request_id_reused"


async def test_limits_are_listed_in_pages(limits: Stub) -> None:
    keys = [f"domain:{letter}{n}" for letter in "aA" for n in range(4)] + ["domain:*", "provider:x_%"]
    for key in keys:
        await limits.SetLimit(limit(key))
    assert sorted(await listed(limits, page_size=3)) == sorted(keys)
    assert sorted(await listed(limits, page_size=3, prefix="domain:A")) == [f"domain:A{n}" for n in range(4)]
    assert await listed(limits, prefix="provider:x_") == ["provider:x_%"]


async def test_every_decision_is_an_event_with_actor_and_reason(world: World, limits: Stub) -> None:
    await limits.SetLimit(limit("domain:a", concurrency=5))
    await limits.CloseLimit(pb.CloseLimitRequest(key="domain:a", actor="bob", reason="down"))
    await limits.OpenLimit(pb.OpenLimitRequest(key="domain:a", actor="cleo"))
    await limits.DeleteLimit(pb.DeleteLimitRequest(key="domain:a", actor="dan"))
    database = Database(world.settings.scheduler.database_url, "scheduler")
    c = limit_events.c
    with database.read() as connection:
        query = sa.select(c.number, c.type, c.actor, c.reason, c.old_state, c.new_state).order_by(c.number)
        told = [tuple(row) for row in connection.execute(query)]
    database.close()
    assert told == [
        (1, "limit.set", "ann", "because", "open", "open"),
        (2, "limit.closed", "bob", "down", "open", "closed"),
        (3, "limit.open", "cleo", "", "closed", "open"),
        (4, "limit.deleted", "dan", "", "open", "open"),
    ]


async def test_a_setting_is_an_event_with_what_it_changed(limits: Stub) -> None:
    await limits.SetLimit(limit("domain:a", concurrency=5))
    rate = pb.Rate(dimension="requests", per_minute=50, burst=5, estimate=1)
    await limits.SetLimit(limit("domain:a", concurrency=2, rates=[rate]))
    second, first = (await limits.ListLimitEvents(pb.ListLimitEventsRequest(key="domain:a"))).events
    assert orjson.loads(first.data) == {"until_ms": 0, "concurrency": [None, 5]}
    told = {"dimension": "requests", "per_minute": 50.0, "burst": 5.0, "estimate": 1.0}
    assert orjson.loads(second.data) == {"until_ms": 0, "concurrency": [5, 2], "rates": [[], [told]]}


async def test_prices_are_set_listed_and_forgotten(limits: Stub) -> None:
    await limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=250))
    price = await limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=300))
    assert (price.processor, price.micros, price.HasField("learned_micros"), price.samples) == ("noop", 300, False, 0)
    assert list((await limits.ListPrices(pb.ListPricesRequest())).prices) == [price]
    assert "is no price" in (await refused(limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=-2)))).message
    forgotten = await limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=-1))
    assert forgotten.micros == -1
    assert not (await limits.ListPrices(pb.ListPricesRequest())).prices


async def test_a_price_lets_a_run_go_on_that_waited_for_one_and_history_is_shown(world: World, limits: Stub) -> None:
    plan_id = await world.plan(30, parameters={"paid": True})
    run = await world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, budget_micros=100_000))
    worker = world.worker()
    run = await in_vain(world, worker, run.run_id, lambda one: one.state == pb.RUN_STATE_WAITING)
    assert "nobody knows what an item of noop costs" in run.waiting
    await limits.SetPrice(pb.SetPriceRequest(processor="noop", micros=1_000))
    leases = await worker.leases(30)
    assert [lease.reserved_micros for lease in leases] == [1_000] * 30
    outcomes = [completed(lease) for lease in leases]
    for outcome in outcomes:
        outcome.cost_micros = 700
    await worker.report(run.run_id, outcomes)
    price = (await limits.ListPrices(pb.ListPricesRequest())).prices[0]
    assert (price.micros, price.samples) == (1_000, 30)
    assert 700 <= price.learned_micros <= 770


async def test_events_of_limits_tell_who_did_what_and_why_the_latest_first(limits: Stub) -> None:
    await limits.SetLimit(limit("provider:x", concurrency=5))
    await limits.CloseLimit(pb.CloseLimitRequest(key="provider:x", actor="ada", reason="their bill"))
    await limits.CloseLimit(pb.CloseLimitRequest(key="domain:y", actor="bob"))
    await limits.OpenLimit(pb.OpenLimitRequest(key="provider:x", actor="ada"))
    await limits.DeleteLimit(pb.DeleteLimitRequest(key="provider:x", actor="ada", reason="gone"))
    told = (await limits.ListLimitEvents(pb.ListLimitEventsRequest(key="provider:x"))).events
    assert [(one.type, one.actor) for one in told] == [
        ("limit.deleted", "ada"), ("limit.open", "ada"), ("limit.closed", "ada"), ("limit.set", "ann"),
    ]  # fmt: skip
    closed = told[2]
    assert (closed.key, closed.old_state, closed.new_state, closed.reason) == (
        "provider:x", "open", "closed", "their bill",
    )  # fmt: skip
    assert [one.number for one in told] == [4, 3, 2, 1]
    everything, token = [], ""
    for _ in range(10):
        page = await limits.ListLimitEvents(pb.ListLimitEventsRequest(page_size=2, page_token=token))
        everything += [(one.key, one.number) for one in page.events]
        token = page.next_page_token
        if not token:
            break
    assert sorted(everything) == [("domain:y", 1), *(("provider:x", n) for n in range(1, 5))]
    error = await refused(limits.ListLimitEvents(pb.ListLimitEventsRequest(page_token="nonsense here")))
    assert error.code == "bad_page_token"


async def test_limits_are_listed_by_state_also_where_their_pattern_is_closed(limits: Stub) -> None:
    for key in ("provider:a", "provider:b", "domain:c"):
        await limits.SetLimit(limit(key, concurrency=5))
    await limits.CloseLimit(pb.CloseLimitRequest(key="provider:b"))
    assert await listed(limits, states=["closed", "probing"]) == ["provider:b"]
    assert await listed(limits, states=["open"], page_size=1) == ["domain:c", "provider:a"]
    await limits.CloseLimit(pb.CloseLimitRequest(key="domain:*"))
    assert await listed(limits, states=["closed"]) == ["domain:*", "provider:b"]
    error = await refused(limits.ListLimits(pb.ListLimitsRequest(states=["ajar"])))
    assert "one of open, closed, probing, ramping" in error.message


async def test_a_closure_until_no_time_is_bad_input(limits: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="until_time is no time") as refused:
        await limits.CloseLimit(pb.CloseLimitRequest(key="domain:x", until_time=Timestamp(seconds=2**60)), timeout=10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_events_of_the_longest_key_are_listed_in_pages(limits: Stub) -> None:
    key = "domain:" + "x" * 193
    for concurrency in (1, 2):
        await limits.SetLimit(pb.SetLimitRequest(limit=pb.Limit(key=key, concurrency=concurrency)), timeout=10)
    page = await limits.ListLimitEvents(pb.ListLimitEventsRequest(page_size=1), timeout=10)
    rest = await limits.ListLimitEvents(pb.ListLimitEventsRequest(page_token=page.next_page_token), timeout=10)
    assert [event.number for event in [*page.events, *rest.events]] == [2, 1]


async def test_keys_that_are_in_use_are_listed_whether_or_not_anybody_declared_them(world: World, limits: Stub) -> None:
    await limits.SetLimit(limit("domain:*", concurrency=5))
    await limits.SetLimit(limit("provider:x", concurrency=9))
    keys = ["domain:a", "domain:b", "other:c", "provider:x"]
    run_id = await world.run(4, payload=lambda i: {"limits": [keys[i]]})
    worker = world.worker()
    leases = await worker.leases(4)
    assert await listed(limits) == ["domain:*", *keys]
    assert await listed(limits, page_size=2) == ["domain:*", *keys]
    assert await listed(limits, page_size=1, prefix="domain:") == ["domain:*", "domain:a", "domain:b"]
    one, other = [
        (await limits.ListLimits(pb.ListLimitsRequest(prefix=prefix))).limits[0] for prefix in ("domain:a", "o")
    ]
    assert (one.pattern, one.concurrency, one.held, one.state, one.etag) == ("domain:*", 5, 1, "open", "")
    assert (other.pattern, other.HasField("concurrency"), other.held) == ("", False, 1)
    await worker.report(run_id, [completed(lease) for lease in leases])
    assert await listed(limits) == ["domain:*", "provider:x"]
