"""What estimates are made of and compared with: the time in which a run worked, the limits that its items name."""

from __future__ import annotations

import pytest

from planner.domain.active import Active, Done, active, done, worked
from planner.domain.limits_named import GivenLimit, limits_of
from planner.domain.work import REQUESTS, Limit


@pytest.mark.parametrize(
    ("changes", "worked"),
    [
        ([], Active(9.0, True)),
        ([(1_000, "running"), (10_000, "completed")], Active(9.0, True)),
        ([(2_000, "running"), (3_000, "paused"), (8_000, "running"), (10_000, "completed")], Active(3.0, False)),
        ([(1_000, "waiting"), (4_000, "running"), (10_000, "completed")], Active(6.0, True)),
        ([(1_000, "running"), (3_000, "stopping"), (4_000, "stopped")], Active(3.0, True)),
        ([(1_000, "running"), (2_000, "stopped"), (9_000, "running"), (10_000, "completed")], Active(2.0, False)),
        ([(1_000, "running"), (4_000, "paused"), (5_000, "running")], Active(8.0, False)),
        ([(1_000, "running"), (9_000, "paused"), (4_000, "running"), (10_000, "completed")], Active(None, False)),
        ([(30_000, "running"), (10_000, "completed")], Active(None, True)),
    ],
)
def test_only_time_in_which_it_worked_counts(changes: list[tuple[int, str]], worked: Active) -> None:
    assert active(changes, start_ms=1_000, end_ms=10_000) == worked


def test_a_run_is_done_when_it_has_completed_first() -> None:
    assert done([(1, "running"), (2, "stopped"), (3, "running"), (4, "failed")]) is None
    way = [(1, "running"), (2, "stopped"), (3, "running"), (4, "completed_with_failures")]
    assert done(way) == Done(4, "completed_with_failures", way, again=False)
    assert done([*way, (5, "running"), (6, "completed")]) == Done(4, "completed_with_failures", way, again=True)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ([], 4.0),
        ([(1_000, "running"), (10_000, "completed")], 4.0),
        ([(1_000, "running"), (3_000, "paused"), (5_000, "running")], 2.0),
        ([(3_000, "running"), (4_000, "waiting"), (7_000, "running")], 1.0),
        ([(1_000, "running"), (3_000, "stopped"), (5_500, "running")], 1.5),
        ([(1_000, "running"), (3_000, "failed"), (5_000, "running")], None),
        ([(1_000, "running"), (5_000, "waiting"), (4_000, "running")], None),
    ],
)
def test_time_between_two_moments_counts_as_far_as_the_run_worked(
    changes: list[tuple[int, str]], seconds: float | None
) -> None:
    assert worked(changes, from_ms=2_000, to_ms=6_000) == seconds
    assert worked(changes, from_ms=6_000, to_ms=2_000) is None, "the clock went back"


def test_a_key_has_its_own_limit_else_that_of_the_longest_pattern() -> None:
    lanes = [("domain:a.org provider:x", 3), ("domain:a.org", 2), ("domain:b.org", 7), ("other:y", 1)]
    given = [
        GivenLimit("domain:*", 9),
        GivenLimit("domain:b*", 4),
        GivenLimit("domain:a.org", None, [(REQUESTS, 60.0, 0.0, 7.0)]),
        GivenLimit("provider:x", 2, [("tokens", 100.0, 10.0, 5.0), ("bytes", 100.0, 0.0, 0.0)]),
    ]
    assert {limit.key: limit for limit in limits_of(lanes, given)} == {
        "domain:a.org": Limit(key="domain:a.org", items=5, per_minute=60.0, uses=1.0),
        "provider:x": Limit(
            key="provider:x", items=3, concurrency=2, dimension="tokens", per_minute=100.0, burst=10.0, uses=5.0
        ),
        "domain:b.org": Limit(key="domain:b.org", items=7, concurrency=4),
    }


def test_a_rate_whose_use_nobody_knows_leaves_the_bound_at_once() -> None:
    given = [GivenLimit("provider:x", 2, [("bytes", 100.0, 0.0, 0.0)])]
    assert limits_of([("provider:x", 3)], given) == [Limit(key="provider:x", items=3, concurrency=2)]
