"""A machine without boxes, and boxes that end with their test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import leftovers
from tests.cluster.box import machine
from tests.cluster.box.callers import SECONDS, Caller


@pytest.fixture
def before() -> leftovers.Standing:
    """The machine while no other box lives on it: its sysctls count only then."""
    deadline = time.monotonic() + SECONDS
    while machine.occupied():
        if time.monotonic() > deadline:
            pytest.skip("another box lives on this machine")
        time.sleep(0.2)
    return leftovers.standing()


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
