"""Estimates: their ranges hold the truth as often as they say, and say what they rest on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.domain.estimate_words import cost_words, rest_words, runtime_words, total_words
from planner.domain.estimates import Range, estimate, estimate_profiles
from planner.domain.history import History, HistoryKey, Outcomes
from planner.domain.judging import Comparison, compare, goodness
from planner.domain.resting import Basis, Rest
from planner.domain.tries import Backoff
from planner.domain.work import REQUESTS, Limit, StageWork
from planner.estimate_making import nearest
from scheduler.domain.limit_settings import rate_of
from scheduler.domain.limits import RateState, flow_of
from tests.unit.planner.families import FAMILIES, Family, judged
from tests.unit.planner.simulated import Processor, measured

RUNS = 200
LEAST = 0.72
WORDS = HistoryKey("word-count", "2")


def held(comparisons: Sequence[Comparison]) -> float:
    return sum(one.within for one in comparisons) / len(comparisons)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_four_of_five_ranges_hold_the_truth(family: Family) -> None:
    found = judged(family, RUNS, seed=7)
    assert LEAST <= held(found.runtime) <= family.most
    assert LEAST <= held(found.cost) <= family.most
    if found.of_groups:
        assert LEAST <= held(found.of_groups) <= family.most


def known(items: int = 400, **processor: float) -> Mapping[HistoryKey, History]:
    random = np.random.default_rng(3)
    return {WORDS: measured(Processor(**processor), random, [["a", "b"] * (items // 8)] * 4)}  # type: ignore[arg-type]


def work(items: Mapping[str, int] | None = None, *, concurrency: int = 8, **more: object) -> StageWork:
    return StageWork(key=WORDS, items=items or {"a": 600, "b": 300}, concurrency=concurrency, **more)  # type: ignore[arg-type]


def middle(told: Range | None) -> float:
    assert told is not None
    assert told.low <= told.middle <= told.high
    return told.middle


def test_the_same_plan_has_the_same_estimate_and_another_one_other_draws() -> None:
    first = estimate("plan-1", [work()], known())
    assert first == estimate("plan-1", [work()], known())
    assert first.runtime != estimate("plan-2", [work()], known()).runtime


def test_no_history_means_no_number() -> None:
    told = estimate("plan-1", [work()], {})
    assert (told.runtime, told.cost) == (None, None)
    assert told.stages[0].runtime_rest == told.stages[0].cost_rest == Rest(Basis.NONE)
    assert [(group.runtime, group.cost) for group in told.stages[0].groups] == [(None, None)] * 2


def test_one_stage_without_history_leaves_no_total_and_the_others_their_own() -> None:
    other = StageWork(key=HistoryKey("new", "1"), items={"a": 3}, concurrency=1, paid=False)
    told = estimate("plan-1", [work(), other], known())
    assert told.runtime is None
    assert told.stages[0].runtime is not None
    assert told.cost == told.stages[0].cost
    assert told.stages[1].cost_rest.basis is Basis.FREE
    assert "runtime: not known (no history of stage 1)" in total_words(told)


def test_the_price_table_tells_what_no_history_does() -> None:
    told = estimate("plan-1", [work(price_micros=2_000)], {})
    assert told.cost == Range(1_800_000.0, 1_800_000.0, 1_800_000.0)
    assert told.stages[0].cost_rest.basis is Basis.PRICES
    assert told.runtime is None
    measured_cost = estimate("plan-1", [work(price_micros=1)], known()).stages[0]
    assert measured_cost.cost_rest.basis is Basis.MEASURED


def test_the_nearest_history_is_named_and_less_sure() -> None:
    own = estimate("plan-1", [work()], known()).runtime
    near = {HistoryKey("word-count", "1"): known()[WORDS], HistoryKey("word-count", "3"): known()[WORDS]}
    told = estimate("plan-1", [work()], near).stages[0]
    assert told.runtime_rest == Rest(Basis.NEAREST, HistoryKey("word-count", "1"), 400, 4)
    assert own is not None
    assert told.runtime is not None
    assert told.runtime.high / told.runtime.low > 1.5 * own.high / own.low


def test_what_was_done_for_nothing_says_nothing_of_what_paid_work_costs() -> None:
    free, bought = HistoryKey("word-count", "2", "paid=false"), HistoryKey("word-count", "1", "paid=true")
    of_free, of_bought = known(free=1.0, items=4_000)[WORDS], known()[WORDS]
    assert (of_free.cost_money, of_bought.cost_money) == (False, True)
    told = estimate("p", [work()], {free: of_free}).stages[0]
    assert (told.runtime_rest.key, told.cost_rest, told.cost) == (free, Rest(Basis.NONE), None)
    priced = estimate("p", [work(price_micros=10)], {free: of_free}).stages[0]
    assert (priced.cost_rest.basis, middle(priced.cost)) == (Basis.PRICES, 9_000.0)
    both = estimate("p", [work(price_micros=10)], {free: of_free, bought: of_bought}).stages[0]
    assert (both.runtime_rest.key, both.cost_rest.key) == (free, bought)
    assert middle(both.cost) > 9_000
    assert estimate("p", [work(paid=False)], {free: of_free}).stages[0].cost_rest.basis is Basis.FREE


def test_the_records_that_are_read_are_those_of_the_runtime_and_of_the_cost() -> None:
    free, bought = HistoryKey("word-count", "2", "paid=false"), HistoryKey("word-count", "1", "paid=true")
    sizes = {free: 400, bought: 4}
    assert nearest([work()], sizes, {bought}) == [free, bought]
    assert nearest([work(paid=False)], sizes, {bought}) == [free]


def test_twice_the_slots_take_half_as_long_until_a_limit_binds() -> None:
    times = [middle(estimate("p", [work(concurrency=lanes)], known()).runtime) for lanes in (8, 16)]
    assert times[0] / times[1] == pytest.approx(2.0, rel=0.1)
    limit = Limit(key="provider:x", items=900, per_minute=60.0)
    told = estimate("p", [work(concurrency=400, limits=[limit])], known())
    assert middle(told.runtime) == pytest.approx(900 / limit.flow_per_second, rel=0.05)
    assert told.stages[0].bound == "limit provider:x (60 requests a minute)"
    assert estimate("p", [work(slots=4)], known()).stages[0].bound == "4 slots of workers"


def test_profiles_are_the_same_call_with_other_settings() -> None:
    profiles = {"fast": [work(concurrency=32)], "standard": [work()], "thorough": [work(concurrency=2, max_tries=9)]}
    told = estimate_profiles("p", profiles, known(failing=0.2))
    assert list(told) == ["fast", "standard", "thorough"]
    assert middle(told["fast"].runtime) < middle(told["standard"].runtime) < middle(told["thorough"].runtime)
    assert told["standard"] == estimate("p", profiles["standard"], known(failing=0.2))


def test_fewer_tries_cost_less_and_fail_more() -> None:
    histories = known(failing=0.4)
    once, often = (estimate("p", [work(max_tries=tries)], histories) for tries in (1, 5))
    assert middle(once.cost) * 1.3 < middle(often.cost)
    assert once.stages[0].failed_share == pytest.approx(0.47, abs=0.01)
    assert often.stages[0].failed_share == pytest.approx(0.01, abs=0.01)


def healed(items: int = 20, max_tries: int = 5) -> Mapping[HistoryKey, History]:
    """Every item failed at all its tries, and was healed."""
    return {
        WORDS: History.of(
            Outcomes(
                run="run",
                run_ms=0,
                max_tries=max_tries,
                groups=["a"] * items,
                seconds=np.linspace(1.0, 3.0, items),
                cost_micros=np.zeros(items),
                tries=np.full(items, max_tries),
                failed=np.zeros(items, np.bool_),
            )
        )
    }


def test_what_was_healed_fails_only_where_nobody_heals() -> None:
    without, heals = (estimate("p", [work(heals=one)], healed()).stages[0] for one in (False, True))
    assert without.failed_share == pytest.approx(1.0)
    assert heals.failed_share == pytest.approx(0.0)


@pytest.mark.parametrize("max_tries", [1, 2, 5, 10, 100])
def test_a_limit_and_items_that_all_took_many_tries_are_estimated(max_tries: int) -> None:
    limits = [Limit(key="domain:x", items=7, concurrency=1)]
    told = estimate("p", [work({"b": 10}, limits=limits, max_tries=max_tries)], healed())
    assert middle(told.runtime) > 0


def test_flow_is_the_schedulers() -> None:
    for per_minute, burst, dimension in ((60.0, 0.0, REQUESTS), (600.0, 400.0, REQUESTS), (9_000.0, 0.0, "tokens")):
        limit = Limit(key="a:b", items=1, per_minute=per_minute, burst=burst, dimension=dimension)
        rate = rate_of(RateState(dimension, per_minute, burst, 0.0))
        assert limit.filled_burst == rate.burst
        assert limit.flow_per_second == pytest.approx(flow_of(rate).per_minute / 60)


def test_nothing_to_do_takes_nothing() -> None:
    told = estimate("p", [work({"a": 0})], known())
    assert told.runtime == told.cost == Range(0.0, 0.0, 0.0)
    some = estimate("p", [work({"a": 0, "b": 10})], known())
    assert middle(some.runtime) > 0


def test_a_million_items_in_a_thousand_groups_are_estimated_in_a_tenth_of_a_second() -> None:
    names = [f"group {number}" for number in range(1_000)]
    random = np.random.default_rng(1)
    history = {WORDS: measured(Processor(failing=0.1), random, [names * 5] * 8)}
    plan = work(dict.fromkeys(names, 1000), limits=[Limit(key="domain:a", items=300_000, concurrency=4)])
    spent = []
    for _ in range(5):
        began = time.process_time()
        told = estimate("p", [plan], history)
        spent.append(time.process_time() - began)
    assert len(told.stages[0].groups) == 1_000
    assert min(spent) <= 0.1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.floats(0, 1e5), st.integers(0, 10**9), st.integers(0, 12)), max_size=8
    ),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 500), min_size=1),
    st.integers(1, 5_000),
    st.integers(0, 400),
    st.sampled_from([None, 1, 7]),
    st.booleans(),
    st.sampled_from([1, 2, 5, 10, 100]),
    st.booleans(),
)
def test_any_history_and_plan_have_finite_ranges_in_order_or_none(
    rows: list[tuple[str, float, int, int]],
    items: dict[str, int],
    concurrency: int,
    limited: int,
    at_once: int | None,
    grouped: bool,
    max_tries: int,
    heals: bool,
) -> None:
    history = History.of(
        Outcomes(
            run="run",
            run_ms=0,
            max_tries=3,
            groups=[row[0] for row in rows],
            seconds=np.array([row[1] for row in rows], np.float64),
            cost_micros=np.array([row[2] for row in rows], np.float64),
            tries=np.array([row[3] for row in rows], np.int64),
            failed=np.array([row[3] % 4 == 3 for row in rows], np.bool_),
        )
    )
    limits = [
        Limit(key="a:b", items=min(limited, sum(items.values())), per_minute=limited / 7, concurrency=at_once),
    ]
    asked = work(items, concurrency=concurrency, limits=limits, grouped=grouped, max_tries=max_tries, heals=heals)
    told = estimate("p", [asked], {WORDS: history})
    stage = told.stages[0]
    ranges = [told.runtime, told.cost, *(group.runtime for group in stage.groups), *(one.cost for one in stage.groups)]
    for one in ranges:
        if one is not None:
            assert 0 <= one.low <= one.middle <= one.high < float("inf")
    if sum(items.values()):
        assert (told.runtime is None) == (not rows)
        assert (told.cost is None) == (not rows)


def test_comparisons_say_how_far_off_an_estimate_was() -> None:
    told = Range(10.0, 20.0, 40.0)
    assert compare(told, 30.0).within
    assert (compare(told, 80.0).off, compare(told, 5.0).off, compare(told, 10.0).off) == (2.0, 0.5, 1.0)
    assert compare(Range(0.0, 0.0, 0.0), 0.0).within
    good = goodness([compare(told, actual) for actual in (20.0, 30.0, 50.0, 20.0)])
    assert (good.count, good.within_share, good.median_ratio) == (4, 0.75, 1.25)
    assert good.sentence == (
        "3 of the last 4 estimates held (8 of 10 should); what happened was 1.25 times the middle, by the median"
    )
    assert goodness([]).sentence == "no estimate has been compared with a run yet"


def test_what_happened_beside_nothing_has_no_ratio() -> None:
    """Infinity is not JSON."""
    nothing = compare(Range(0.0, 0.0, 0.0), 5.0)
    assert (nothing.within, nothing.off, nothing.ratio) == (False, None, None)
    unlikely = compare(Range(0.0, 0.0, 10.0), 5.0)
    assert (unlikely.within, unlikely.off, unlikely.ratio) == (True, 1.0, None)
    assert compare(Range(5e-324, 5e-324, 5e-324), 1e300).ratio is None
    usual = compare(Range(10.0, 20.0, 40.0), 30.0)
    assert goodness([nothing, usual, usual]).median_ratio == 1.5
    most = goodness([nothing, nothing, usual])
    assert (most.count, most.median_ratio) == (3, None)
    assert most.sentence == (
        "1 of the last 3 estimates held (8 of 10 should); most told of nothing where something happened"
    )
    half = goodness([nothing, usual, nothing, usual])
    assert (half.count, half.median_ratio) == (4, None)
    assert half.sentence == (
        "2 of the last 4 estimates held (8 of 10 should); half told of nothing where something happened"
    )
    assert goodness([nothing]).sentence.endswith("; most told of nothing where something happened")


def test_people_read_ranges_in_one_unit_and_what_they_rest_on() -> None:
    rest = Rest(Basis.MEASURED, WORDS, 1_240, 3)
    assert runtime_words(Range(1_200, 1_500, 2_100), rest) == "20 to 35 min, from 1,240 items of word-count 2"
    assert runtime_words(Range(80, 80, 80), rest).startswith("about 80 s, ")
    assert runtime_words(Range(4_000, 5_000, 90_000), rest).startswith("1.1 to 25 h, ")
    assert runtime_words(Range(0.1, 0.2, 0.4), rest).startswith("0.1 to 0.4 s, ")
    assert runtime_words(None, Rest(Basis.NONE)) == "no history"
    assert cost_words(Range(1_234_000, 2e6, 3_400_000), rest).startswith("$1.20 to $3.40, ")
    assert cost_words(Range(1.8e6, 1.8e6, 1.8e6), Rest(Basis.PRICES)) == "$1.80, by the price table, each item once"
    assert cost_words(Range(0, 0, 0), Rest(Basis.FREE)) == "costs nothing"
    near = Rest(Basis.NEAREST, HistoryKey("word-count", "1", "mode=fast"), 1, 1)
    assert rest_words(near) == "from 1 item of word-count 1 with mode=fast, the nearest that was measured"


def test_back_offs_add_up_as_the_scheduler_waits() -> None:
    assert Backoff(1.0, 3.0).waits(3).tolist() == [0.0, 0.75, 2.25, 4.5]


def ended_after(tries: Sequence[int], *, failed: bool, max_tries: int) -> Mapping[HistoryKey, History]:
    """Two groups of items that ended after so many failed attempts."""
    count = len(tries)
    return {
        WORDS: History.of(
            Outcomes(
                run="r",
                run_ms=0,
                max_tries=max_tries,
                groups=["a", "b"] * (count // 2),
                seconds=np.linspace(1.0, 2.0, count),
                cost_micros=np.full(count, 5.0),
                tries=np.array(tries, np.int64),
                failed=np.full(count, failed),
            )
        )
    }


@pytest.mark.parametrize("count", [1, 40, 10_000_000])
def test_where_every_item_failed_late_there_is_an_estimate(count: int) -> None:
    history = ended_after([8] * 20, failed=True, max_tries=8)
    for max_tries in (8, 100):
        told = estimate("plan-1", [work({"a": count, "b": count}, max_tries=max_tries)], history)
        assert middle(told.runtime) > 0
        assert all(middle(group.runtime) > 0 for group in told.stages[0].groups)


@pytest.mark.parametrize("kinds", range(3, 40))
def test_shares_that_add_up_to_more_than_one_by_their_rounding_are_no_matter(kinds: int) -> None:
    tries = [number % kinds for number in range(2 * kinds + 4)]
    for max_tries in (1, 2):
        told = estimate("plan-1", [work(max_tries=max_tries)], ended_after(tries, failed=False, max_tries=100))
        assert middle(told.runtime) > 0
