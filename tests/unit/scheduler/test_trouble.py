"""What is lost: one loss is over when it is mended; one that comes again at once is the same trouble still."""

from __future__ import annotations

import pytest

from penstock.runtime.errors import Unavailable
from scheduler.ready import Lost
from scheduler.redis_errors import OUT_OF_MEMORY
from scheduler.trouble import CALM_SECONDS, MAX_PAUSE_SECONDS, Trouble

PATIENCE_SECONDS = 3.0
FULL = Unavailable("Redis is out of memory", code=OUT_OF_MEMORY)


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def trouble(time: Time) -> Trouble:
    """Of a scheduler that has just begun to lease."""
    one = begun(time)
    one.restored()
    return one


def begun(time: Time) -> Trouble:
    return Trouble("nothing is leased", patience_seconds=PATIENCE_SECONDS, monotonic=time)


def problem(trouble: Trouble) -> str | None:
    """The code that readiness tells."""
    try:
        trouble.check()
    except Unavailable as error:
        return error.code
    return None


def test_a_start_has_its_time_and_a_loss_right_after_it_is_one_of_its_own(time: Time) -> None:
    trouble = begun(time)
    assert problem(trouble) is None
    time.now += PATIENCE_SECONDS + 0.1
    assert problem(trouble) == "unavailable"
    trouble.restored()
    assert problem(trouble) is None
    assert trouble.lost(Lost())
    assert problem(trouble) is None, "it has its time"


def test_one_loss_is_over_when_it_is_mended(trouble: Trouble, time: Time) -> None:
    assert trouble.lost(Lost())
    assert trouble.pause() == 0.0
    time.now += PATIENCE_SECONDS + 0.1
    assert problem(trouble) == "unavailable"
    trouble.restored()
    assert problem(trouble) is None


def test_a_loss_that_comes_again_at_once_is_as_old_as_the_first(trouble: Trouble, time: Time) -> None:
    trouble.lost(FULL)
    for _ in range(40):
        time.now += 0.05
        trouble.restored()
        time.now += 0.05
        assert not trouble.lost(FULL), "it is told once"
    assert time.now - 100.0 > PATIENCE_SECONDS
    assert problem(trouble) == OUT_OF_MEMORY
    trouble.restored()
    assert problem(trouble) == OUT_OF_MEMORY, "back for a moment is not well"
    time.now += CALM_SECONDS
    assert problem(trouble) is None
    assert trouble.lost(FULL)
    assert problem(trouble) is None


def test_each_attempt_waits_longer_than_the_last_up_to_a_bound(trouble: Trouble, time: Time) -> None:
    pauses = []
    for _ in range(2_000):
        trouble.lost(FULL)
        pauses.append(trouble.pause())
        trouble.restored()
    assert pauses[:6] == [0.0, 0.2, 0.4, 0.8, 1.6, MAX_PAUSE_SECONDS]
    assert set(pauses[6:]) == {MAX_PAUSE_SECONDS}
    time.now += CALM_SECONDS
    trouble.lost(FULL)
    assert trouble.pause() == 0.0


def test_what_lasts_is_one_loss(trouble: Trouble) -> None:
    for _ in range(10):
        trouble.lost(FULL)
    assert trouble.pause() == 0.0
    trouble.restored()
    assert problem(trouble) is None
