"""What an ended attempt means."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.outcomes import (
    ALONE,
    FREE_LOSSES,
    LOST,
    Backoff,
    Decision,
    Ended,
    Ending,
    decide,
    kind_of,
)
from scheduler.domain.progress import Progress, run_end, stage_end
from scheduler.domain.rules import NOT_RETRIED, Kind
from scheduler.domain.states import ItemState, Mode, RunEvent, StageEvent

MODES = st.sampled_from(Mode)
KINDS = st.sampled_from([*Kind, "odd"])
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
    kind=KINDS,
    mode=MODES,
    heals=st.integers(0, 5),
    confirms=st.booleans(),
    healable=st.booleans(),
    named=st.booleans(),
    retries_off=st.booleans(),
    waits=st.booleans(),
    affordable=st.booleans(),
)
FAILURES = (Ended.FAILED, Ended.WORKER_LOST, Ended.TIMED_OUT)


@given(endings)
def test_tries_rise_only_for_what_failed_or_was_lost_at_work(ending: Ending) -> None:
    unheard = ending.ended is Ended.UNBEGUN and ending.attempt - ending.tries > FREE_LOSSES
    counts = (ending.ended in FAILURES and not ending.no_try) or unheard
    assert decide(ending).tries == ending.tries + (counts and ending.mode is not Mode.HEAL)


@given(endings)
def test_an_item_never_fails_by_what_is_not_its_fault(ending: Ending) -> None:
    unbegun = ending.ended is Ended.UNBEGUN and ending.attempt - ending.tries <= FREE_LOSSES
    ours = ending.ended is Ended.FAILED and ending.no_try and not ending.permanent
    told = ending.kind not in NOT_RETRIED or ending.named
    if (
        told
        and ending.affordable
        and (ending.ended in (Ended.RELEASED, Ended.THROTTLED, Ended.DEFERRED, Ended.STOPPED) or unbegun or ours)
    ):
        assert decide(ending).state is not ItemState.FAILED


@given(endings)
def test_a_stopping_run_takes_nothing_up_again(ending: Ending) -> None:
    if ending.stopping:
        assert decide(ending).state in (ItemState.COMPLETED, ItemState.FAILED, ItemState.STOPPED)


@given(endings)
def test_what_a_second_witness_is_asked_for_is_completed_by_it_alone(ending: Ending) -> None:
    if ending.confirms and decide(ending).state is ItemState.COMPLETED:
        assert ending.mode is Mode.CONFIRM


@given(endings)
def test_while_retries_are_off_what_counts_as_a_try_waits_with_no_time(ending: Ending) -> None:
    decision = decide(ending)
    if ending.retries_off and decision.tries > ending.tries and not ending.stopping:
        assert decision.state in (ItemState.FAILED, ItemState.STOPPED) or decision.held
    assert not (decision.held and decision.back_off)


@given(endings)
def test_healing_is_the_only_way_out_of_a_failure_for_good_and_counts(ending: Ending) -> None:
    decision = decide(ending)
    if decision.mode is Mode.HEAL and ending.mode is not Mode.HEAL:
        assert ending.healable
        assert decision.heals == ending.heals + 1
    assert decision.heals in (ending.heals, ending.heals + 1)


@given(endings)
def test_tries_are_bounded(ending: Ending) -> None:
    decision = decide(ending)
    again = (ItemState.RETRY, ItemState.QUEUED, ItemState.DEFERRED)
    if decision.state in again and decision.tries > ending.tries and decision.mode is not Mode.HEAL:
        assert decision.tries < ending.max_tries


@given(st.sampled_from(Ended), KINDS, MODES, st.booleans(), st.booleans())
def test_work_that_must_not_be_repeated_ends_unknown_when_nobody_knows_its_end(
    ended: Ended, told: str, mode: Mode, no_try: bool, repeatable: bool
) -> None:
    kind = kind_of(ended, told, mode=mode, no_try=no_try, repeatable=repeatable)
    if not repeatable and mode is not Mode.CONFIRM and ended in LOST:
        assert kind == Kind.UNKNOWN
        assert decide(Ending(ended=ended, tries=0, max_tries=9, kind=kind)).state is ItemState.FAILED
    if ended in (Ended.COMPLETED, Ended.RELEASED, Ended.THROTTLED, Ended.DEFERRED):
        assert kind == ""


@pytest.mark.parametrize("told", ["item", "invalid_result", "refused", "a word of its own"])
def test_a_witness_that_disagrees_makes_it_unconfirmed_and_work_again(told: str) -> None:
    kind = kind_of(Ended.FAILED, told, mode=Mode.CONFIRM, no_try=False, repeatable=True)
    assert kind == Kind.UNCONFIRMED
    decision = decide(Ending(ended=Ended.FAILED, tries=0, max_tries=3, kind=kind, mode=Mode.CONFIRM, permanent=True))
    assert (decision.state, decision.mode, decision.tries) == (ItemState.RETRY, Mode.WORK, 1)


@pytest.mark.parametrize("told", ["provider", "timeout", "unavailable"])
def test_a_witness_that_was_not_heard_is_asked_again(told: str) -> None:
    kind = kind_of(Ended.FAILED, told, mode=Mode.CONFIRM, no_try=False, repeatable=True)
    decision = decide(Ending(ended=Ended.FAILED, tries=0, max_tries=3, kind=kind, mode=Mode.CONFIRM, confirms=True))
    assert (decision.state, decision.mode) == (ItemState.RETRY, Mode.CONFIRM)


@pytest.mark.parametrize("kind", sorted(NOT_RETRIED))
def test_some_kinds_are_tried_again_only_where_a_rule_names_them(kind: str) -> None:
    ending = Ending(ended=Ended.FAILED, tries=0, max_tries=3, kind=kind)
    assert decide(ending).state is ItemState.FAILED
    assert decide(replace(ending, named=True)).state is ItemState.RETRY


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
