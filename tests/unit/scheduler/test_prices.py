"""What items cost: learned from those that were, never much above, never from too few."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.prices import ENOUGH, Histogram, Use, mean_uses, price_of

COSTS = st.lists(st.integers(0, 10**9), min_size=ENOUGH, max_size=200)


def history(costs: list[int]) -> Histogram:
    one = Histogram()
    for cost in costs:
        one.add(cost)
    return one


@given(COSTS)
def test_the_learned_price_is_one_that_was_paid_and_that_nineteen_of_twenty_did_not_pass(costs: list[int]) -> None:
    price = history(costs).price()
    assert price in costs
    within = sum(cost <= price for cost in costs)
    assert within >= 0.95 * len(costs)
    ranked = sorted(costs)
    assert price <= ranked[min(int(0.95 * len(costs)) + 1, len(costs) - 1)] * 1.1 + 1


@given(COSTS)
def test_history_is_kept_as_what_was_paid_and_adds_up(costs: list[int]) -> None:
    one = history(costs)
    assert Histogram.of(one.rows()) == one
    assert one.merged(one).samples == 2 * len(costs)
    assert one.merged(one).price() == one.price()


def test_history_comes_before_what_the_operator_says_and_that_before_nothing() -> None:
    few, enough = history([5] * (ENOUGH - 1)), history([5] * ENOUGH)
    assert price_of(paid=True, history=[few], listed=100) == 100
    assert price_of(paid=True, history=[few, enough], listed=100) == 5
    assert price_of(paid=True, history=[few], listed=None) is None
    assert price_of(paid=False, history=[enough], listed=100) == 0


def test_the_mean_use_is_believed_with_enough_samples_and_follows_what_is_new() -> None:
    use = Use()
    use.add(100, 10)
    assert (use.samples, use.mean) == (10, 10.0)
    assert mean_uses({"tokens": (use.samples, use.mean)}) == {}
    use.add(300, 10)
    assert mean_uses({"tokens": (use.samples, use.mean)}) == {"tokens": 20.0}
    for _ in range(200):
        use.add(5_000, 100)
    assert abs(use.mean - 50.0) < 1
