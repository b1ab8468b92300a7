"""A machine without boxes, and boxes that end with their test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import leftovers
from tests.cluster.box.callers import SECONDS, Caller


@pytest.fixture
def before() -> leftovers.Standing:
    """The machine as the test finds it; what others' boxes do to its sysctls meanwhile is not counted."""
    return leftovers.standing()


@pytest.fixture
def before_alone() -> leftovers.Standing:
    """The same, while no other box lives: sysctls and folders count."""
    deadline = time.monotonic() + SECONDS
    while not (now := leftovers.standing()).sysctls:
        if time.monotonic() > deadline:
            pytest.skip("another box lives on this machine")
        time.sleep(0.2)
    return now


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Caller]]:
    made: list[Caller] = []

    def make(script: str) -> Caller:
        made.append(Caller(tmp_path, script))
        return made[-1]

    yield make
    for one in made:
        one.caller.kill()
        one.caller.wait()
