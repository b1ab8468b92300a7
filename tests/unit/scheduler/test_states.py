"""The transition tables: complete, in the words of the contract, and refusing with the story."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import (
    ENDED_RUNS,
    ENDED_STAGES,
    ITEM_TABLE,
    LIVE_RUNS,
    RUN_TABLE,
    STAGE_TABLE,
    IllegalTransition,
    ItemEvent,
    ItemState,
    RunEvent,
    RunState,
    StageEvent,
    StageState,
    advance,
)

TABLES: list[tuple[Mapping[Any, Any], type[StrEnum], type[StrEnum]]] = [
    (RUN_TABLE, RunState, RunEvent),
    (STAGE_TABLE, StageState, StageEvent),
    (ITEM_TABLE, ItemState, ItemEvent),
]


@pytest.mark.parametrize(("table", "states", "events"), TABLES)
def test_every_pair_is_in_the_table_or_refused_with_the_story(
    table: Mapping[Any, Any], states: type[StrEnum], events: type[StrEnum]
) -> None:
    for state in states:
        for event in events:
            if (state, event) in table:
                assert advance(table, state, event) in states
            else:
                with pytest.raises(IllegalTransition) as refused:
                    advance(table, state, event, lambda: ["run-7 at event 12", "stage 0 running"])
                takes = [str(other) for other in events if (state, other) in table]
                assert sorted(refused.value.takes) == sorted(takes)
                said = str(refused.value)
                assert said.startswith(f"{event} is not possible in state {state}; possible: ")
                assert all(word in said for word in takes)
                assert said.endswith("; so far: run-7 at event 12 > stage 0 running")


@pytest.mark.parametrize(("table", "states", "events"), TABLES)
def test_every_event_is_taken_somewhere_and_every_state_is_reached(
    table: Mapping[Any, Any], states: type[StrEnum], events: type[StrEnum]
) -> None:
    assert {event for _, event in table} == set(events)
    first = {RunState.QUEUED, StageState.PENDING, ItemState.QUEUED}
    assert set(states) <= set(table.values()) | first


@pytest.mark.parametrize(
    ("states", "enum", "prefix"),
    [
        (RunState, pb.RunState, "RUN_STATE_"),
        (StageState, pb.StageState, "STAGE_STATE_"),
        (ItemState, pb.ItemState, "ITEM_STATE_"),
    ],
)
def test_the_words_are_those_of_the_contract(states: type[StrEnum], enum: Any, prefix: str) -> None:
    ours = {f"{prefix}{state.upper()}" for state in states} | {f"{prefix}UNSPECIFIED"}
    assert ours == set(enum.keys())


def test_a_completed_item_takes_a_rerun_alone() -> None:
    assert [event for state, event in ITEM_TABLE if state is ItemState.COMPLETED] == [ItemEvent.RERUN]


def test_an_ended_run_goes_on_only_where_somebody_asks_for_it() -> None:
    assert set(RunState) == LIVE_RUNS | ENDED_RUNS
    reopened = {event for (state, event), new in RUN_TABLE.items() if state in ENDED_RUNS and new in LIVE_RUNS}
    assert reopened == {RunEvent.RESUME, RunEvent.REOPEN}


@pytest.mark.parametrize(("table", "states", "events"), TABLES)
def test_every_state_leads_to_an_end_and_every_end_is_reached(
    table: Mapping[Any, Any], states: type[StrEnum], events: type[StrEnum]
) -> None:
    ended_items = {ItemState.COMPLETED, ItemState.FAILED, ItemState.SKIPPED, ItemState.STOPPED}
    known: dict[Any, Any] = {RunState: ENDED_RUNS, StageState: ENDED_STAGES, ItemState: ended_items}
    ends = set(known[states])
    leads = set(ends)
    for _ in states:
        leads |= {old for (old, _), new in table.items() if new in leads}
    assert leads == set(states)
    live = {(old, event): new for (old, event), new in table.items() if old not in ends}
    assert ends <= set(live.values())


def test_what_has_ended_is_left_only_by_those_who_ask_for_it() -> None:
    asked = {ItemEvent.RETRY, ItemEvent.RERUN, ItemEvent.ACCEPT, ItemEvent.REOPEN}
    ended = {ItemState.COMPLETED, ItemState.FAILED, ItemState.SKIPPED, ItemState.STOPPED}
    assert {event for (old, event) in ITEM_TABLE if old in ended} == asked
    assert {event for (old, event) in ITEM_TABLE if old not in ended} == set(ItemEvent) - asked
    reopens = {StageEvent.REOPEN, StageEvent.REOPEN_UNBEGUN}
    assert {event for (old, event) in STAGE_TABLE if old in ENDED_STAGES} == reopens
