"""How long lanes take: what is told of a shape, beside items that were put on lanes one by one."""

from __future__ import annotations

import numpy as np
import pytest

from planner.domain.makespan import Shape, finish, finish_directly
from planner.domain.sketch import Floats
from tests.unit.planner.simulated import Processor, play

QUARTERS = (0.1, 0.5, 0.9)


def played(spread: float, items: int, lanes: int) -> Floats:
    random = np.random.default_rng(5)
    one = Processor(spread=spread, modes=((1.0, 1.0),), run_spread=0.0)
    return np.array([play(one.items(random, ["a"] * items), lanes=lanes).seconds for _ in range(400)])


@pytest.mark.parametrize(
    ("spread", "items", "lanes"), [(0.4, 12, 16), (0.4, 40, 16), (0.4, 400, 16), (1.2, 100, 16), (1.2, 600, 64)]
)
def test_the_end_is_told_by_the_shape_of_items(spread: float, items: int, lanes: int) -> None:
    random = np.random.default_rng(6)
    draws = 4_000
    some = np.exp(random.normal(0, spread, 20_000))
    shape = Shape.of(some, np.ones(some.size))
    work = np.exp(random.normal(0, spread, (draws, items))).sum(axis=1)
    told = finish(
        work,
        np.zeros(draws),
        random.random(draws),
        np.ones(draws),
        items=items,
        lanes=lanes,
        holds=shape,
        takes=shape,
    )
    assert np.quantile(told, QUARTERS) == pytest.approx(np.quantile(played(spread, items, lanes), QUARTERS), rel=0.12)


def test_items_are_put_on_lanes_in_their_order() -> None:
    holds = np.array([[4.0, 1.0, 1.0, 5.0]])
    begins, ends = finish_directly(holds, np.zeros((1, 4)), np.zeros((1, 4)), 2)
    assert begins.tolist() == [[0.0, 0.0, 1.0, 2.0]]
    assert ends.tolist() == [[4.0, 1.0, 2.0, 7.0]]
    late = np.array([[0.0, 3.0, 3.0, 9.0]])
    begins, _ = finish_directly(holds, np.zeros((1, 4)), late, 2)
    assert begins.tolist() == [[0.0, 3.0, 4.0, 9.0]]


def test_a_rate_holds_the_last_item_back() -> None:
    shape = Shape.of(np.array([1.0]), np.array([1.0]))
    told = finish(
        np.array([100.0]),
        np.array([500.0]),
        np.array([0.5]),
        np.ones(1),
        items=100,
        lanes=10,
        holds=shape,
        takes=shape,
    )
    assert told[0] == pytest.approx(501.0, abs=0.7)
