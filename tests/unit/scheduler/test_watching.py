"""What workers say of the items that they run: each word replaces the session's last, and is forgotten in the end."""

from __future__ import annotations

from scheduler.watching import FORGET_MS, Phase, Phases

ITEM = ("run-1", 0, 7)


def test_the_latest_word_about_an_item_counts() -> None:
    phases = Phases()
    phases.note("a", {ITEM: Phase(0.1, "reading")}, 1_000)
    phases.note("b", {ITEM: Phase(0.2, "asking")}, 2_000)
    assert phases.of(ITEM) == Phase(0.2, "asking")
    phases.note("a", {ITEM: Phase(0.3, "writing")}, 3_000)
    assert phases.of(ITEM) == Phase(0.3, "writing")
    assert phases.of(("run-1", 0, 8)) is None


def test_a_session_that_says_nothing_of_an_item_has_let_it_go() -> None:
    phases = Phases()
    phases.note("a", {ITEM: Phase(0.1, "reading")}, 1_000)
    phases.note("a", {}, 2_000)
    assert phases.of(ITEM) is None


def test_sessions_that_are_silent_for_long_are_forgotten() -> None:
    phases = Phases()
    phases.note("a", {ITEM: Phase(0.1, "reading")}, 1_000)
    phases.note("b", {("run-2", 0, 0): Phase(0.5, "")}, 1_001 + FORGET_MS)
    assert phases.of(ITEM) is None
