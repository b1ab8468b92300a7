"""Speed and end of a run from what was settled by minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.eta import ENOUGH, HOUR_MS, MINUTE_MS, Eta, Hold, behind, eta, settled_in, speed

NOW = 1_000 * MINUTE_MS + 30_000


def steadily(per_minute: int, minutes: int) -> dict[int, int]:
    """Whole minutes before the current one, and half of that one."""
    return {1_000 - back: per_minute for back in range(1, minutes + 1)} | {1_000: per_minute // 2}


def test_speed_is_of_the_last_minute_and_the_hour_of_sixty() -> None:
    told = speed(steadily(600, 69), NOW, NOW - 69 * MINUTE_MS)
    assert round(told.items_per_second, 3) == 10.0
    assert told.last_hour == 36_000


def test_a_run_of_ten_seconds_is_measured_over_ten_seconds() -> None:
    assert speed({1_000: 500}, NOW, NOW - 10_000).items_per_second == 50.0
    assert speed({}, NOW, NOW - 10_000) == speed({1_000: 5}, NOW, None)


def test_the_end_is_not_known_before_enough_completions() -> None:
    told = eta(steadily(600, 5), NOW, NOW - 5 * MINUTE_MS, completed=ENOUGH - 1, left=100)
    assert "19 of the first 20" in told.reason


def test_the_end_is_not_known_while_nothing_moves() -> None:
    told = eta({980: 5_000}, NOW, NOW - HOUR_MS, completed=5_000, left=100)
    assert "nothing has ended in the last 10 minutes" in told.reason


def test_a_steady_run_has_a_narrow_range_around_its_end() -> None:
    told = eta(steadily(600, 30), NOW, NOW - 30 * MINUTE_MS, completed=18_000, left=6_000)
    due = NOW + 10 * MINUTE_MS
    assert told.early_ms < due < told.late_ms
    assert told.late_ms - told.early_ms < 2 * MINUTE_MS


def test_a_run_that_slowed_down_has_a_wide_one() -> None:
    minutes = {1_000 - back: 60 if back < 5 else 600 for back in range(30)}
    told = eta(minutes, NOW, NOW - 30 * MINUTE_MS, completed=15_000, left=600)
    assert told.late_ms - NOW > 3 * (told.early_ms - NOW)


def test_what_has_nothing_left_ends_now() -> None:
    assert eta({}, NOW, NOW, completed=0, left=0).late_ms == NOW


def test_what_is_held_back_begins_when_that_is_over() -> None:
    told = Eta(NOW + 10_000, NOW + 20_000)
    until = NOW + HOUR_MS
    assert behind(told, [Hold("at limit d:a", 50, until)], NOW, left=100) == Eta(until + 5_000, until + 10_000)
    assert behind(told, [Hold("at limit d:a", 1, NOW + 1)], NOW, left=100) == told
    some = Hold("at limit d:a", 50, until, more=True)
    assert behind(told, [some], NOW, left=100) == Eta(until + 5_000, until + 20_000), "all may wait for it"
    assert behind(Eta(reason="quiet"), [Hold("at limit d:a", 1, until)], NOW, left=9).reason == "quiet"


def test_the_end_is_not_known_behind_what_waits_for_somebody() -> None:
    holds = [Hold("at limit d:b", 50, NOW + 1), Hold("for ann", 1, None)]
    for told in (Eta(NOW + 10_000, NOW + 20_000), Eta(reason="quiet")):
        assert behind(told, holds, NOW, left=100).reason == "not known: 1 item waits for ann"
    assert Hold("for ann", 500, None, more=True).text == "at least 500 items wait for ann"


@given(
    st.dictionaries(st.integers(900, 1_000), st.integers(1, 1_000_000), min_size=1),
    st.integers(0, 10 * HOUR_MS),
    st.integers(1, 10_000_000),
)
def test_the_range_is_ahead_and_in_order(minutes: dict[int, int], ran_ms: int, left: int) -> None:
    told = eta(minutes, NOW, NOW - ran_ms, completed=ENOUGH, left=left)
    assert told.reason or NOW < told.early_ms <= told.late_ms


@given(st.dictionaries(st.integers(900, 1_000), st.integers(1, 1_000_000)), st.integers(1_000, 10 * HOUR_MS))
def test_a_window_never_counts_more_than_there_was(minutes: dict[int, int], window_ms: int) -> None:
    assert 0 <= settled_in(minutes, NOW, window_ms) <= sum(minutes.values()) * (1 + 1e-9)
