"""What an ended attempt means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.outcomes import Backoff, Ended, Ending, Progress, decide, run_end, stage_end
from scheduler.domain.states import ItemState, RunEvent, StageEvent

endings = st.builds(
    Ending,
    ended=st.sampled_from(Ended),
    tries=st.integers(0, 9),
    max_tries=st.integers(1, 9),
    stopping=st.booleans(),
    permanent=st.booleans(),
    no_try=st.booleans(),
)


@given(endings)
def test_tries_rise_only_for_failed_and_worker_lost(ending: Ending) -> None:
    counts = ending.ended is Ended.WORKER_LOST or (ending.ended is Ended.FAILED and not ending.no_try)
    assert decide(ending).tries == ending.tries + counts


@given(endings)
def test_an_item_never_fails_by_what_is_not_its_fault(ending: Ending) -> None:
    if ending.ended in (Ended.RELEASED, Ended.UNCONFIRMED) or (ending.no_try and not ending.permanent):
        lost = ending.ended is Ended.WORKER_LOST
        assert lost or decide(ending).state is not ItemState.FAILED


@given(endings)
def test_a_stopping_run_takes_nothing_up_again(ending: Ending) -> None:
    if ending.stopping:
        assert decide(ending).state in (ItemState.COMPLETED, ItemState.FAILED, ItemState.STOPPED)


@given(endings)
def test_tries_are_bounded(ending: Ending) -> None:
    decision = decide(ending)
    if decision.state in (ItemState.RETRY, ItemState.QUEUED) and decision.tries > ending.tries:
        assert decision.tries < ending.max_tries


@pytest.mark.parametrize("ended", [Ended.WORKER_LOST, Ended.UNCONFIRMED])
def test_what_was_lost_with_its_worker_is_next_leased_alone(ended: Ended) -> None:
    assert decide(Ending(ended=ended, tries=0, max_tries=5)).alone


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
