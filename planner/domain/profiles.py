"""Profiles: by one name, how hard a plan is worked on. What a stage says itself stays; its profile fills in the rest.

A plan keeps the name for people; what counts, and what its id hashes, are the stages as they were filled in. So a
profile that is set otherwise later changes no plan. Pure; whether the parameters of a profile suit a processor, and
which names there are, is for `planner.profiles` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from planner.domain.stages import StageRequest

__all__ = ["SHIPPED", "Profile", "profiled"]


@dataclass(frozen=True)
class Profile:
    """0 and empty set nothing. parameters: by the name of a processor."""

    name: str
    concurrency: int = 0
    max_tries: int = 0
    max_run_seconds: int = 0
    worker_class: str = ""
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


SHIPPED = (
    Profile("fast", concurrency=256, max_tries=2),
    Profile("standard"),
    Profile("thorough", concurrency=16, max_tries=10),
)
"""Good for any processor, so they set no parameters and no times. fast: four times as many at once as the default, and
what fails twice is let go; standard: the defaults; thorough: gentle to what it asks, and hard to discourage. Limits
bite in all of them alike."""


def profiled(stage: StageRequest, profile: Profile) -> StageRequest:
    """The stage with what the profile sets and it does not; parameters one by one."""
    return replace(
        stage,
        parameters={**profile.parameters.get(stage.processor, {}), **stage.parameters},
        concurrency=stage.concurrency or profile.concurrency,
        max_tries=stage.max_tries or profile.max_tries,
        max_run_seconds=stage.max_run_seconds or profile.max_run_seconds,
        worker_class=stage.worker_class or profile.worker_class,
    )
