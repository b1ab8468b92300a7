"""What an ended attempt means."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.outcomes import (
    ALONE,
    FREE_LOSSES,
    Backoff,
    Decision,
    Ended,
    Ending,
    Progress,
    decide,
    run_end,
    stage_end,
)
from scheduler.domain.states import ItemState, RunEvent, StageEvent

endings = st.builds(
    Ending,
    ended=st.sampled_from(Ended),
    tries=st.integers(0, 9),
    attempt=st.integers(1, 40),
    suspect=st.integers(0, ALONE),
    max_tries=st.integers(1, 9),
    stopping=st.booleans(),
    permanent=st.booleans(),
    no_try=st.booleans(),
)


@given(endings)
def test_tries_rise_only_for_failed_and_worker_lost(ending: Ending) -> None:
    unheard = ending.ended is Ended.UNBEGUN and ending.attempt - ending.tries > FREE_LOSSES
    counts = ending.ended is Ended.WORKER_LOST or (ending.ended is Ended.FAILED and not ending.no_try) or unheard
    assert decide(ending).tries == ending.tries + counts


@given(endings)
def test_an_item_never_fails_by_what_is_not_its_fault(ending: Ending) -> None:
    unbegun = ending.ended is Ended.UNBEGUN and ending.attempt - ending.tries <= FREE_LOSSES
    ours = ending.ended is Ended.FAILED and ending.no_try and not ending.permanent
    if ending.ended is Ended.RELEASED or unbegun or ours:
        assert decide(ending).state is not ItemState.FAILED


@given(endings)
def test_a_stopping_run_takes_nothing_up_again(ending: Ending) -> None:
    if ending.stopping:
        assert decide(ending).state in (ItemState.COMPLETED, ItemState.FAILED, ItemState.STOPPED)


@given(endings)
def test_tries_are_bounded(ending: Ending) -> None:
    decision = decide(ending)
    if decision.state in (ItemState.RETRY, ItemState.QUEUED) and decision.tries > ending.tries:
        assert decision.tries < ending.max_tries


def test_what_had_begun_when_its_worker_died_is_next_leased_alone() -> None:
    assert decide(Ending(ended=Ended.WORKER_LOST, tries=0, max_tries=5)).suspect == ALONE


def test_what_was_not_known_to_have_begun_goes_with_others_once_more_and_then_alone() -> None:
    first = decide(Ending(ended=Ended.UNBEGUN, tries=0, max_tries=1))
    assert (first.state, first.tries, 0 < first.suspect < ALONE) == (ItemState.QUEUED, 0, True)
    second = decide(Ending(ended=Ended.UNBEGUN, tries=0, max_tries=1, attempt=2, suspect=first.suspect))
    assert (second.state, second.tries, second.suspect) == (ItemState.QUEUED, 0, ALONE)


def test_what_kills_workers_before_they_can_speak_ends_all_the_same() -> None:
    attempt, decision = 0, Decision(ItemState.QUEUED, 0)
    while decision.state is not ItemState.FAILED:
        attempt += 1
        decision = decide(
            Ending(ended=Ended.UNBEGUN, tries=decision.tries, max_tries=3, attempt=attempt, suspect=decision.suspect)
        )
        assert attempt < 30


@given(st.integers(1, 60), st.floats(0, 0.999))
def test_back_off_grows_within_its_bounds(tries: int, jitter: float) -> None:
    backoff = Backoff(first_seconds=1, max_seconds=300)
    assert 500 <= backoff.delay_ms(tries, jitter) <= 300_000
    assert backoff.delay_ms(tries, jitter) <= backoff.delay_ms(tries + 1, jitter)


def test_a_stage_ends_when_nothing_is_left_and_one_completed_item_is_enough() -> None:
    assert stage_end(Progress(total=3, completed=2)) is None
    assert stage_end(Progress(total=3, completed=2, running=1)) is None
    assert stage_end(Progress(total=3, completed=2, retry=1)) is None
    assert stage_end(Progress(total=3, completed=1, failed=2)) is StageEvent.COMPLETE
    assert stage_end(Progress(total=3, failed=3)) is StageEvent.FAIL


def test_a_run_says_whether_items_failed() -> None:
    assert run_end(False, 0) is RunEvent.COMPLETE
    assert run_end(False, 2) is RunEvent.COMPLETE_WITH_FAILURES
    assert run_end(True, 2) is RunEvent.FAIL
