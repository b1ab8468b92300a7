"""The transition tables: complete, in the words of the contract, and refusing with the story."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import (
    ENDED_RUNS,
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
                with pytest.raises(IllegalTransition, match=f"{event} is not possible in state {state}"):
                    advance(table, state, event)


@pytest.mark.parametrize(("table", "states", "events"), TABLES)
def test_every_event_is_taken_somewhere_and_every_state_is_reached(
    table: Mapping[Any, Any], states: type[StrEnum], events: type[StrEnum]
) -> None:
    assert {event for _, event in table} == set(events)
    first = {RunState.QUEUED, StageState.PENDING, ItemState.QUEUED}
    # Nothing skips an item yet: its stage does, and then it has no row.
    assert set(states) - set(table.values()) - first <= {ItemState.SKIPPED}


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
