"""How many workers a class needs."""

from __future__ import annotations

from scheduler.domain.workers import Demand, wanted_workers


def test_idle_keeps_the_warm_ones() -> None:
    assert wanted_workers([], slots=10, most=4, warm=1) == 1


def test_claimable_is_bounded_by_what_concurrency_leaves() -> None:
    assert Demand(leased=3, startable=100, concurrency=5).claimable == 2
    assert Demand(leased=6, startable=100, concurrency=5).claimable == 0


def test_demand_is_rounded_up_to_whole_workers_and_bounded() -> None:
    work = [Demand(leased=5, startable=6, concurrency=100)]
    assert wanted_workers(work, slots=10, most=4, warm=0) == 2
    assert wanted_workers(work, slots=1, most=4, warm=0) == 4


def test_an_item_that_runs_alone_takes_a_worker() -> None:
    work = [Demand(leased=1, startable=6, concurrency=100)]
    assert wanted_workers(work, slots=10, most=4, warm=0) == 1
    assert wanted_workers(work, slots=10, most=4, warm=0, alone=1) == 2
