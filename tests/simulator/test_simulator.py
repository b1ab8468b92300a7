"""The simulator in the test run: a few dozen seeds, and the proof that a seed determines its history.

`make simulate SEEDS=2000` is the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulator.stage import Stage, opened
from tests.simulator.story import shortened

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    # A coroutine that nobody awaits is the scheduler's defect: what dead processes leave behind is closed.
    pytest.mark.filterwarnings("error:coroutine:RuntimeWarning", "error::pytest.PytestUnraisableExceptionWarning"),
]

STEPS = 150


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with opened() as one:
        yield one


@pytest.mark.parametrize("tens", range(4))
def test_the_invariants_hold_whatever_happens(stage: Stage, tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        violation = stage.play(seed, STEPS).run()
        assert violation is None, f"seed {seed}: {shortened(stage.play, seed, STEPS, violation)}"


def test_the_same_seed_has_the_same_history(stage: Stage) -> None:
    histories = set()
    for _ in range(2):
        play = stage.play(7, STEPS)
        play.run()
        histories.add(play.world.history)
    assert len(histories) == 1


def test_a_history_does_not_depend_on_the_process_of_redis(stage: Stage) -> None:
    """It tells the fields of a hash in an order of its own; seed 128 has lanes that are read apart."""
    histories = set()
    with opened() as other:
        for one in (stage, other):
            play = one.play(128, STEPS)
            play.run()
            histories.add(play.world.history)
    assert len(histories) == 1


def test_another_seed_has_another_history(stage: Stage) -> None:
    plays = [stage.play(seed, 30) for seed in (1, 2)]
    for play in plays:
        play.run()
    assert plays[0].world.history != plays[1].world.history
