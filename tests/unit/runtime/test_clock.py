"""The clock that several processes share."""

from __future__ import annotations

from penstock.runtime.clock import JUMP_MS, STEP_MS, SharedClock


class Hand:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_the_databases_time_carried_on() -> None:
    hand = Hand()
    clock = SharedClock(1_000_000, monotonic=hand)
    hand.now += 2.5
    assert clock.now_ms() == 1_002_500


def test_it_follows_slowly_and_never_goes_back() -> None:
    hand = Hand()
    clock = SharedClock(1_000_000, monotonic=hand)
    hand.now += 1
    assert clock.now_ms() == 1_001_000
    clock.measured(1_000_000 - 3_600_000, asked=hand.now)  # somebody set the database's clock
    assert clock.now_ms() == 1_001_000
    hand.now += 1
    assert clock.now_ms() == 1_002_000 - STEP_MS
    clock.measured(1_002_400, asked=hand.now)
    assert clock.now_ms() == 1_002_000


def test_an_answer_that_took_long_is_placed_half_way() -> None:
    hand = Hand()
    clock = SharedClock(1_000_000, monotonic=hand)
    asked = hand.now
    hand.now += 4
    clock.measured(1_002_000, asked=asked)
    assert clock.now_ms() == 1_004_000


def test_what_was_slept_through_is_made_up_for_at_once() -> None:
    hand = Hand()
    clock = SharedClock(1_000_000, monotonic=hand)
    clock.measured(1_000_000 + JUMP_MS * 60, asked=hand.now)
    assert clock.now_ms() == 1_000_000 + JUMP_MS * 60
