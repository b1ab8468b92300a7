"""What the gateway refuses of a stage is what the planner would: the same bounds, told before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.api import StageBody
from planner.domain.stages import StageRequest, range_problems

NUMBERS = (-1, 0, 1, 100, 101, 10_000, 10_001, 604_800, 604_801)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("concurrency", NUMBERS),
        ("max_tries", NUMBERS),
        ("max_run_seconds", NUMBERS),
    ],
)
def test_a_stage_has_the_bounds_of_the_planner(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        given: dict[str, Any] = {name: value}
        taken = True
        try:
            StageBody(processor="noop", **given)
        except ValidationError:
            taken = False
        assert taken is not bool(range_problems(0, StageRequest("noop", {}, **given))), given
