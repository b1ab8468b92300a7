"""What the scripts propose, hold back and count, over a real Redis."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scheduler.domain.limits import LANE_VALVE, STAGE_VALVE
from scheduler.ready import Lost, Ready
from tests.integration.scheduler.redis_world import TERM_MS, RedisWorld, limit

A, B, C = (1, 0), (2, 0), (3, 0)


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[RedisWorld]:
    one = RedisWorld(redis_url)
    await one.build()
    try:
        yield one
        one.check()
    finally:
        await one.close()


async def test_items_come_in_order_of_rank_within_the_stages_concurrency(world: RedisWorld) -> None:
    await world.open(A, [(5, "", 5), (2, "", 2), (9, "", -1), (7, "", 7)])
    answer = await world.proposals(10, world.ask(A, 3))
    assert answer.stages[A].places == [(9, "", -1), (2, "", 2), (5, "", 5)]
    assert answer.stages[A].left == 1
    assert await world.seqs(10, world.ask(A, 3)) == []
    await world.forget(A, (2, ""))
    assert await world.seqs(10, world.ask(A, 3)) == [7]


async def test_what_was_moved_keeps_its_rank_when_its_page_of_the_plan_is_read(world: RedisWorld) -> None:
    await world.open(A, ["", "", ""])
    await world.apply(ready={A: [(4, "", -1)]})
    page = [(3, "", 3), (4, "", 4), (5, "", 5)]
    await world.ready.feed(A, 0, page, field="main", after=2, to=5, now_ms=world.now)
    assert await world.seqs(10) == [4, 0, 1, 2, 3, 5]


async def test_what_is_forgotten_or_renewed_twice_counts_once(world: RedisWorld) -> None:
    await world.open(A, ["d:x"] * 3)
    await world.proposals(3)
    for _ in range(2):
        await world.apply(forget={A: [(0, "d:x"), (8, "d:x")]}, renew={A: [(1, "d:x"), (2, "d:x")]})
    assert world.raw.hget("test:{s}:slots", "d:x") == "2"
    await world.apply(adopt={A: [(0, "d:x"), (0, "d:x")]})
    assert world.raw.hget("test:{s}:slots", "d:x") == "3"


async def test_a_renewal_that_comes_after_the_end_of_its_lease_takes_nothing(world: RedisWorld) -> None:
    """Another scheduler has ended it meanwhile: it is ready again."""
    await world.open(A, ["d:x"] * 2)
    await world.proposals(1)
    await world.apply(forget={A: [(0, "d:x")]}, ready={A: [(0, "d:x", 0)]})
    await world.apply(renew={A: [(0, "d:x")]})
    assert world.raw.hget("test:{s}:slots", "d:x") is None
    assert await world.seqs(10) == [0, 1]


async def test_a_key_without_room_holds_its_items_back_and_lets_others_pass(world: RedisWorld) -> None:
    await world.limits(limit("d:x", 2))
    await world.open(A, ["d:x", "d:x", "d:x", "d:y", "d:x", "d:y"])
    answer = await world.proposals(10)
    assert [place[0] for place in answer.stages[A].places] == [0, 1, 3, 5]
    assert answer.stages[A].waiting == {"d:x": 2}
    await world.forget(A, (1, "d:x"))
    assert await world.seqs(10) == [2]
    await world.forget(A, (0, "d:x"), (2, "d:x"))
    assert await world.seqs(10) == [4]


async def test_order_holds_where_a_key_gets_free_before_a_later_item(world: RedisWorld) -> None:
    await world.limits(limit("d:x", 1))
    await world.open(A, ["d:x", "d:x", "", "d:x", "d:x"])
    assert await world.seqs(10, world.ask(A, 2)) == [0, 2]
    await world.forget(A, (0, "d:x"), (2, ""))
    await world.apply(ready={A: [(2, "", 2)]})
    assert await world.seqs(1) == [1]
    assert await world.seqs(1) == [2]


async def test_two_keys_must_both_have_room(world: RedisWorld) -> None:
    await world.limits(limit("a:1", 2), limit("b:1", 1))
    await world.open(A, ["a:1 b:1", "a:1 b:1", "a:1", "a:1", "b:1"])
    assert await world.seqs(10) == [0, 2]
    await world.forget(A, (0, "a:1 b:1"))
    assert await world.seqs(10) == [1]
    await world.forget(A, (2, "a:1"), (1, "a:1 b:1"))
    assert await world.seqs(10) == [3, 4]


async def test_a_closed_key_opens_at_its_time_and_the_answer_tells_when(world: RedisWorld) -> None:
    await world.limits(limit("d:x", closed=world.now + 500), limit("d:y", closed=None))
    await world.open(A, ["d:x", "d:y", "d:x"])
    answer = await world.proposals(10)
    assert not answer.stages[A].places
    assert answer.next_ms == world.now + 500
    world.now += 499
    assert await world.seqs(10) == []
    world.now += 1
    assert await world.seqs(10) == [0, 2]
    await world.limits(limit("d:y"))
    assert await world.seqs(10) == [1]


async def test_a_limit_that_is_gone_or_wider_lets_go_at_once(world: RedisWorld) -> None:
    await world.limits(limit("d:x", 1))
    await world.open(A, ["d:x"] * 6)
    assert await world.seqs(10) == [0]
    await world.limits(limit("d:x", 3))
    assert await world.seqs(10) == [1, 2]
    await world.limits({"d:x": None})
    assert await world.seqs(10) == [3, 4, 5]


async def test_a_pattern_bounds_every_key_of_its_kind_and_the_key_itself_goes_before(world: RedisWorld) -> None:
    await world.limits(limit("d:*", 1), limit("d:big*", 2), limit("d:big-one", 3))
    await world.open(A, ["d:x", "d:x", "d:y", "d:big2", "d:big2", "d:big2", *["d:big-one"] * 4])
    assert await world.seqs(20) == [0, 2, 3, 4, 6, 7, 8]
    await world.limits({"d:*": None})
    assert await world.seqs(20) == [1]


async def test_rates_are_reserved_by_estimate_and_corrected_by_use(world: RedisWorld) -> None:
    world.now += 60_000  # buckets are empty when Redis is made anew
    await world.limits(limit("p:x", tokens=(600, 100, 30), requests=(6_000, 10, 1)))
    await world.open(A, ["p:x"] * 20)
    answer = await world.proposals(20)
    assert [place[0] for place in answer.stages[A].places] == [0, 1, 2]
    assert answer.stages[A].uses in ('{"tokens":30,"requests":1}', '{"requests":1,"tokens":30}')
    assert answer.next_ms == world.now + 2_000  # 20 of 30 are lacking, 10 flow in a second
    world.now += 1_999
    assert await world.seqs(20) == []
    world.now += 1
    assert await world.seqs(20) == [3]
    await world.apply(used={"p:x": {"tokens": -30.0}})
    assert await world.seqs(20) == [4], "nothing was used of what was reserved"
    await world.apply(used={"p:x": {"tokens": 50.0}})
    world.now += 7_999
    assert await world.seqs(20) == [], "80 are lacking"
    world.now += 1
    assert await world.seqs(20) == [5]


async def test_no_rate_is_passed_in_any_minute(world: RedisWorld) -> None:
    await world.limits(limit("p:x", requests=(120, 5, 1)))
    await world.open(A, ["p:x"] * 600)
    started: list[int] = []
    randomness = random.Random(1)
    for _ in range(2_000):
        world.now += randomness.choice([1, 20, 97, 400])
        started += [world.now] * len(await world.seqs(randomness.choice([1, 3, 50])))
    assert len(started) > 300
    for i, first in enumerate(started):
        assert sum(first <= at < first + 60_000 for at in started[i : i + 200]) <= 125


async def test_learned_use_takes_the_place_of_the_estimate(world: RedisWorld) -> None:
    world.now += 60_000
    await world.limits(limit("p:x", tokens=(600, 100, 30)))
    await world.open(A, ["p:x"] * 20)
    assert await world.seqs(20, world.ask(A, uses={"tokens": 10.0})) == list(range(10))


async def test_an_item_above_the_burst_waits_for_a_full_bucket_and_starts(world: RedisWorld) -> None:
    await world.limits(limit("p:x", tokens=(600, 100, 250)))
    await world.open(A, ["p:x"] * 3)
    world.now += 9_999
    assert await world.seqs(5) == []
    world.now += 1
    assert await world.seqs(5) == [0]
    world.now += 24_999
    assert await world.seqs(5) == []
    world.now += 1
    assert await world.seqs(5) == [1]


async def test_owners_share_alike_then_priority_then_runs(world: RedisWorld) -> None:
    for key, owner in ((A, "x"), (B, "x"), (C, "y")):
        await world.open(key, [""] * 100, owner=owner)
    answer = await world.proposals(40)
    assert {key: len(one.places) for key, one in answer.stages.items()} == {A: 10, B: 10, C: 20}
    asks = [world.ask(A), world.ask(B, priority=1), world.ask(C, weight=2.0)]
    answer = await world.proposals(20, *asks)
    assert {key: len(one.places) for key, one in answer.stages.items() if one.places} == {C: 20}
    answer = await world.proposals(30, *asks)
    assert len(answer.stages[B].places) == 10
    assert len(answer.stages[C].places) == 20


async def test_ten_runs_of_one_item_are_not_starved_by_a_large_one(world: RedisWorld) -> None:
    await world.open(A, [""] * 1_000)
    await world.proposals(100)
    for number in range(10):
        await world.open((10 + number, 0), [""])
    answer = await world.proposals(10)
    assert sorted(key for key, one in answer.stages.items() if one.places) == [(10 + n, 0) for n in range(10)]


async def test_a_stage_valve_and_a_lane_valve_hold_back_their_own_alone(world: RedisWorld) -> None:
    await world.open(A, ["d:x", "d:y", "d:x", "d:y"])
    await world.open(B, ["d:x"] * 2)
    stage, lane = STAGE_VALVE.format(run=2, stage=0), LANE_VALVE.format(run=1, stage=0, lane="d:x")
    await world.limits(limit(stage, closed=world.now + 100), limit(lane, closed=world.now + 50))
    answer = await world.proposals(10)
    assert [place[0] for place in answer.stages[A].places] == [1, 3]
    assert not answer.stages[B].places
    world.now += 50
    await world.limits(limit(lane, 1))
    assert await world.seqs(10) == [0]
    await world.limits(limit(stage, 1))
    world.now += 50
    assert await world.seqs(10) == [0]
    await world.forget(B, (0, "d:x"))
    await world.forget(A, (0, "d:x"))
    answer = await world.proposals(10)
    assert [place[0] for place in answer.stages[A].places] == [2]
    assert [place[0] for place in answer.stages[B].places] == [1]
    await world.limits({stage: None, lane: None})


async def test_a_call_looks_at_a_bounded_number_and_says_that_there_is_more(world: RedisWorld) -> None:
    await world.limits(limit("d:x", closed=None))
    await world.open(A, ["d:x"] * 9_000 + [""])
    calls = 0
    while not (answer := await world.proposals(10)).stages[A].places:
        calls += 1
        assert answer.again
    assert 2 <= calls <= 6
    assert answer.stages[A].places == [(9_000, "", 9_000)]


async def test_a_stage_is_opened_and_fed_once_whoever_does_it(world: RedisWorld) -> None:
    other = Ready(world.url, "test")
    assert await other.adopt("one")
    await world.open(A, [""] * 3)
    again = await other.open(A, 0, owner="me", cursors={"main": 1}, places=[(0, "", 0)], now_ms=world.now)
    assert (again.done, again.cursors) == (False, {"main": 2})
    new = [(3, "", 3), (4, "", 4)]
    fed = await other.feed(A, 0, new, field="main", after=2, to=4, now_ms=world.now)
    assert (fed.done, fed.left) == (True, 5)
    late = await world.ready.feed(A, 0, new, field="main", after=2, to=4, now_ms=world.now)
    assert (late.done, late.cursors) == (False, {"main": 4})
    apart = await other.split(A, 0, "lane:d:x", now_ms=world.now)
    assert (apart.done, apart.cursors) == (True, {"main": 4, "lane:d:x": 4})
    lane = await other.feed(A, 0, [(9, "d:x", 9)], field="lane:d:x", after=4, to=9, now_ms=world.now)
    assert (lane.done, lane.cursors) == (True, {"main": 4, "lane:d:x": 9})
    again = await world.ready.split(A, 0, "lane:d:x", now_ms=world.now)
    assert (again.done, again.cursors) == (False, {"main": 4, "lane:d:x": 9})
    await other.close()


async def test_a_lane_is_read_apart_from_where_redis_stands_whatever_its_reader_saw(world: RedisWorld) -> None:
    """Made anew while a lane was being split off, Redis begins at the mark again: so does the lane (seed 1257)."""
    await world.open(A, ["d:x"] * 10)
    await world.open(A, [], epoch=1)
    assert (await world.ready.split(A, 1, "lane:d:x", now_ms=world.now)).cursors == {"main": -1, "lane:d:x": -1}
    read = await world.ready.feed(A, 1, [(9, "d:x", 9)], field="lane:d:x", after=8, to=9, now_ms=world.now)
    assert not read.done, "what lies before it was read by nobody"
    left_out = await world.ready.feed(A, 1, [], field="main", after=-1, to=9, without=["d:y"], now_ms=world.now)
    assert not left_out.done, "a lane was left out that nobody reads apart"
    assert (await world.ready.feed(A, 1, [], field="main", after=-1, to=9, without=["d:x"], now_ms=world.now)).done


async def test_an_older_epoch_neither_feeds_nor_drops_nor_is_proposed(world: RedisWorld) -> None:
    await world.limits(limit("d:x", 0))
    await world.open(A, ["", "d:x"], epoch=3)
    assert not (await world.ready.add(A, 2, [(5, "", 5)], now_ms=world.now)).done
    await world.ready.drop(A, 2, now_ms=world.now)
    assert (await world.ready.add(A, 2, [], now_ms=world.now)).epoch == 3
    world.epochs[A] = 2
    assert (await world.proposals(5)).closed == [A]
    world.epochs[A] = 3
    assert await world.seqs(5) == [0]
    await world.open(A, ["", "d:x", ""], epoch=4)
    assert await world.seqs(5) == [2], "what is leased is not fed"
    await world.ready.drop(A, 4, now_ms=world.now)
    assert not world.raw.keys("test:{s}:parked:*")
    await world.apply(ready={A: [(2, "", 2)]})
    assert not world.raw.keys("test:{s}:ready:*"), "of a stage that is not open"


async def test_a_lost_or_rolled_back_redis_is_noticed(world: RedisWorld) -> None:
    await world.open(A, [""] * 10)
    before = {key: world.raw.dump(key) for key in world.raw.keys("*")}
    await world.proposals(2)
    await world.proposals(2)
    world.raw.flushall()
    with pytest.raises(Lost):
        await world.ready.propose([world.ask(A)], most=1, now_ms=world.now, expiry_ms=world.now + TERM_MS)
    with pytest.raises(Lost):
        await world.forget(A, (1, ""))
    with pytest.raises(Lost):
        await world.ready.expired([A], world.now + TERM_MS, 10)
    assert not world.raw.keys("*"), "nothing is written to what is not ours"
    for key, value in before.items():
        world.raw.restore(key, 0, value, replace=True)
    with pytest.raises(Lost):
        await world.ready.expired([A], world.now + TERM_MS, 10)
    with pytest.raises(Lost):
        await world.ready.propose([world.ask(A)], most=1, now_ms=world.now, expiry_ms=world.now + TERM_MS)


async def test_an_older_copy_of_what_another_made_is_not_adopted_by_who_saw_more(world: RedisWorld) -> None:
    await world.open(A, ["d:x"] * 10)
    before = {key: world.raw.dump(key) for key in world.raw.keys("*")}
    other = Ready(world.url, "test")
    assert await other.adopt("one")
    await world.proposals(2)
    world.raw.flushall()
    for key, value in before.items():
        world.raw.restore(key, 0, value, replace=True)
    assert not await world.ready.adopt("one"), "two leases are missing there"
    assert await other.adopt("one"), "it saw no more than this"
    await other.close()


async def test_a_rebuild_counts_what_runs_and_another_scheduler_adopts_it(world: RedisWorld) -> None:
    await world.open(A, ["d:x"] * 5)
    await world.proposals(2)
    leased = {A: [(0, "d:x"), (1, "d:x")], B: [(7, "d:x p:y")]}
    await world.ready.rebuild(
        "two", leased, owners={1: "x", 2: "y"}, limits=limit("d:x", 3), now_ms=world.now, expiry_ms=world.now + 5
    )
    world.check()
    assert world.raw.hgetall("test:{s}:slots") == {"d:x": "3", "p:y": "1"}
    assert world.raw.hgetall("test:{s}:shares") == {"run:1": "2", "run:2": "1", "owner:x": "2", "owner:y": "1"}
    await world.open(A, ["d:x"] * 5, owner="x")
    assert await world.seqs(5, world.ask(A)) == []
    other = Ready(world.url, "test")
    assert not await other.adopt("one")
    assert await other.adopt("two")
    assert await other.expired([A, B], world.now + 5, 10) == leased
    assert await other.unknown(A, [(0, "d:x"), (4, "d:x")]) == [(4, "d:x")]
    await other.close()


async def test_a_redis_that_another_has_made_anew_is_not_told_of_leases_that_ended(world: RedisWorld) -> None:
    """What is leased there now may be a later attempt of the same item."""
    await world.open(A, ["d:x"] * 5)
    await world.proposals(2)
    other = Ready(world.url, "test")
    await other.rebuild(
        "two", {A: [(0, "d:x")]}, owners={1: "me"}, limits={}, now_ms=world.now, expiry_ms=world.now + 5
    )
    with pytest.raises(Lost):
        await world.apply(forget={A: [(0, "d:x"), (1, "d:x")]})
    assert await other.leased([A], 9) == {A: [(0, "d:x")]}
    assert world.raw.hgetall("test:{s}:slots") == {"d:x": "1"}
    await other.close()


@pytest.mark.parametrize("moment", ["emptied", "begun", "whole"])
async def test_an_older_copy_that_comes_back_while_redis_is_made_anew_is_not_taken_for_it(
    world: RedisWorld, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Its slots and leases would stay beside the new ones for ever."""
    await world.open(A, ["d:x"] * 5)
    await world.proposals(2)
    copy = {key: world.raw.dump(key) for key in world.raw.keys()}  # noqa: SIM118  # it is no dict
    came: list[str] = []

    def comes_back(where: str) -> None:
        if where == moment and not came:
            came.append(where)
            world.raw.flushall()
            for key, value in copy.items():
                world.raw.restore(key, 0, value)

    server, run = world.ready._redis.scan_iter, world.ready._run

    async def scanned(**options: Any) -> AsyncIterator[bytes]:
        async for key in server(**options):
            yield key
        comes_back("emptied")

    async def told(name: str, *arguments: Any) -> Any:
        comes_back("whole" if "named" in arguments[-1] else "begun")
        return await run(name, *arguments)

    monkeypatch.setattr(world.ready._redis, "scan_iter", scanned)
    monkeypatch.setattr(world.ready, "_run", told)

    async def made() -> None:
        await world.ready.rebuild("two", {}, owners={}, limits={}, now_ms=world.now, expiry_ms=world.now + 5)

    with pytest.raises(Lost):
        await made()
    await made()
    assert came == [moment]
    assert set(world.raw.keys()) == {"test:{s}:meta"}


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_counts_are_true_order_holds_and_nothing_is_lost(world: RedisWorld, seed: int) -> None:
    randomness = random.Random(seed)
    keys = ["d:1", "d:2", "d:3", "p:1"]
    lanes = ["", "d:1", "d:2 p:1", "d:3 p:1", "d:1 p:1"]
    await world.limits(limit("d:*", 2), limit("p:1", requests=(600, 4, 1)))
    places = {key: [(seq, randomness.choice(lanes), seq) for seq in range(60)] for key in (A, B)}
    for key, some in places.items():
        await world.open(key, some, owner=str(key[0]))
    held: dict[tuple[int, int], set[tuple[int, str]]] = {A: set(), B: set()}
    done: Counter[tuple[int, int]] = Counter()
    for step in range(4_000):
        world.now += randomness.choice([1, 30, 300])
        answer = await world.proposals(randomness.choice([1, 5, 20]), world.ask(A, 12), world.ask(B, 12))
        for key, one in answer.stages.items():
            ranks = [rank for _, _, rank in one.places]
            assert ranks == sorted(ranks)
            held[key] |= {(seq, lane) for seq, lane, _ in one.places}
        for key in (A, B):
            ending = [slot for slot in held[key] if randomness.random() < 0.3]
            back = [(seq, lane, seq) for seq, lane in ending if randomness.random() < 0.3]
            await world.apply(forget={key: ending}, ready={key: back})
            held[key] -= set(ending)
            done[key] += len(ending) - len(back)
        if randomness.random() < 0.1 and step < 300:
            until = randomness.choice([0, world.now + 200, None])
            await world.limits(limit(randomness.choice(keys[:3]), randomness.choice([1, 3]), closed=until))
        if step == 300:
            await world.limits(dict.fromkeys(keys[:3]))
        if done[A] == done[B] == 60:
            break
    assert done == {A: 60, B: 60}
