"""What is wrong with a body is told; what is wrong with a stage's numbers is left to
the planner, which tells it with all else that is wrong."""

from __future__ import annotations

import pytest

from gateway.plans import StageBody
from planner.domain.stages import StageRequest, range_problems

NAMES = ("concurrency", "max_tries", "max_run_seconds")


@pytest.mark.parametrize("value", [-1, 10**9])
def test_numbers_out_of_range_reach_the_planner_together(value: int) -> None:
    body = StageBody(processor="noop", concurrency=value, max_tries=value, max_run_seconds=value)
    told = range_problems(0, StageRequest("noop", {}, **body.model_dump(include=set(NAMES))))
    assert [name for name in NAMES if any(f"{name} is {value}" in one for one in told)] == list(NAMES)


def test_a_number_that_no_message_holds_is_refused_here() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        StageBody(processor="noop", concurrency=2**31)
