"""Verbs on items: every pair of verb and state is decided, and only along the table of states."""

from __future__ import annotations

import pytest

from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.shown import WAITING_ITEMS, held_as, left_by, shown
from scheduler.domain.states import ENDED_STAGES, ITEM_TABLE, ItemEvent, ItemState, StageState
from scheduler.domain.verbs import REOPENS, UNKNOWN, UNTOUCHED, Verb, Verdict, judge

EVENTS = {
    Verb.RETRY: ItemEvent.RETRY,
    Verb.SKIP: ItemEvent.SKIP,
    Verb.RELEASE: ItemEvent.RELEASE,
    Verb.RERUN: ItemEvent.RERUN,
    Verb.ACCEPT: ItemEvent.ACCEPT,
}


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("state", ItemState)
def test_what_changes_is_in_the_table_of_states_and_what_does_not_says_why(verb: Verb, state: ItemState) -> None:
    verdict, why = judge(verb, state, kind=UNKNOWN, named=True, left=False)
    event = EVENTS.get(verb)
    if event is not None:
        assert (verdict is Verdict.CHANGE) == ((state, event) in ITEM_TABLE)
    assert bool(why) == (verdict is Verdict.REFUSED)


@pytest.mark.parametrize("verb", [Verb.RETRY, Verb.RERUN])
def test_what_ended_unknown_is_done_again_only_where_it_is_named(verb: Verb) -> None:
    assert judge(verb, ItemState.FAILED, kind=UNKNOWN, named=False, left=False)[0] is Verdict.REFUSED
    assert judge(verb, ItemState.FAILED, kind=UNKNOWN, named=True, left=False)[0] is Verdict.CHANGE
    assert judge(verb, ItemState.FAILED, kind="item", named=False, left=False)[0] is Verdict.CHANGE


def test_a_person_accepts_only_what_ended_unknown() -> None:
    assert judge(Verb.ACCEPT, ItemState.FAILED, kind="item", named=True, left=False)[0] is Verdict.REFUSED


def test_what_a_stage_left_is_not_run_again_one_by_one() -> None:
    verdict, why = judge(Verb.RERUN, ItemState.SKIPPED, kind="", named=True, left=True)
    assert (verdict, "resume the run" in why) == (Verdict.REFUSED, True)


def test_verbs_for_what_was_never_leased_reopen_nothing() -> None:
    assert not UNTOUCHED & REOPENS


def test_the_words_are_those_of_the_contract() -> None:
    assert {f"ITEM_VERB_{verb.upper()}" for verb in Verb} | {"ITEM_VERB_UNSPECIFIED"} == set(pb.ItemVerb.keys())


@pytest.mark.parametrize("stage", StageState)
def test_a_stage_that_has_ended_speaks_for_what_waits_and_for_nothing_else(stage: StageState) -> None:
    for held in ItemState:
        assert shown(stage, held) == (
            held if held not in WAITING_ITEMS or left_by(stage) == "queued" else left_by(stage)
        )
        assert held in held_as(stage, {shown(stage, held)})
    if stage not in ENDED_STAGES:
        assert left_by(stage) is ItemState.QUEUED
