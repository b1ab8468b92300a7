"""The states of runs, stages and items, and every legal transition, as literal tables.

`advance` is the only way to a new state; what is not in the table is refused with the state and what it would allow.
Values are the words of the contract in lower case; `tests/unit/scheduler` checks them against the proto enums and the
SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

__all__ = [
    "ENDED_RUNS",
    "ENDED_STAGES",
    "ITEM_TABLE",
    "LIVE_RUNS",
    "RUN_TABLE",
    "STAGE_TABLE",
    "STARTABLE_ITEMS",
    "IllegalTransition",
    "ItemEvent",
    "ItemState",
    "RunEvent",
    "RunState",
    "StageEvent",
    "StageState",
    "advance",
    "allowed",
]


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"
    FAILED = "failed"


class RunEvent(StrEnum):
    BEGIN = "begin"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    FORCE_STOP = "force_stop"
    QUIESCED = "quiesced"
    COMPLETE = "complete"
    COMPLETE_WITH_FAILURES = "complete_with_failures"
    FAIL = "fail"


RUN_TABLE: Mapping[tuple[RunState, RunEvent], RunState] = {
    (RunState.QUEUED, RunEvent.BEGIN): RunState.RUNNING,
    (RunState.QUEUED, RunEvent.PAUSE): RunState.PAUSED,
    (RunState.RUNNING, RunEvent.PAUSE): RunState.PAUSED,
    (RunState.PAUSED, RunEvent.RESUME): RunState.RUNNING,
    (RunState.STOPPED, RunEvent.RESUME): RunState.RUNNING,
    (RunState.QUEUED, RunEvent.STOP): RunState.STOPPING,
    (RunState.RUNNING, RunEvent.STOP): RunState.STOPPING,
    (RunState.PAUSED, RunEvent.STOP): RunState.STOPPING,
    (RunState.STOPPING, RunEvent.QUIESCED): RunState.STOPPED,
    (RunState.QUEUED, RunEvent.FORCE_STOP): RunState.STOPPED,
    (RunState.RUNNING, RunEvent.FORCE_STOP): RunState.STOPPED,
    (RunState.PAUSED, RunEvent.FORCE_STOP): RunState.STOPPED,
    (RunState.STOPPING, RunEvent.FORCE_STOP): RunState.STOPPED,
    # What was running when the pause came may be the last of the run.
    (RunState.RUNNING, RunEvent.COMPLETE): RunState.COMPLETED,
    (RunState.PAUSED, RunEvent.COMPLETE): RunState.COMPLETED,
    (RunState.RUNNING, RunEvent.COMPLETE_WITH_FAILURES): RunState.COMPLETED_WITH_FAILURES,
    (RunState.PAUSED, RunEvent.COMPLETE_WITH_FAILURES): RunState.COMPLETED_WITH_FAILURES,
    (RunState.RUNNING, RunEvent.FAIL): RunState.FAILED,
    (RunState.PAUSED, RunEvent.FAIL): RunState.FAILED,
}

LIVE_RUNS = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.PAUSED, RunState.STOPPING})
ENDED_RUNS = frozenset(RunState) - LIVE_RUNS


class StageState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"


class StageEvent(StrEnum):
    BEGIN = "begin"
    COMPLETE = "complete"
    FAIL = "fail"
    SKIP = "skip"
    STOP = "stop"
    REOPEN = "reopen"
    REOPEN_UNBEGUN = "reopen_unbegun"


STAGE_TABLE: Mapping[tuple[StageState, StageEvent], StageState] = {
    (StageState.PENDING, StageEvent.BEGIN): StageState.RUNNING,
    (StageState.RUNNING, StageEvent.COMPLETE): StageState.COMPLETED,
    (StageState.RUNNING, StageEvent.FAIL): StageState.FAILED,
    (StageState.PENDING, StageEvent.SKIP): StageState.SKIPPED,
    (StageState.PENDING, StageEvent.STOP): StageState.STOPPED,
    (StageState.RUNNING, StageEvent.STOP): StageState.STOPPED,
    (StageState.STOPPED, StageEvent.REOPEN): StageState.RUNNING,
    (StageState.STOPPED, StageEvent.REOPEN_UNBEGUN): StageState.PENDING,
}

ENDED_STAGES = frozenset({StageState.COMPLETED, StageState.FAILED, StageState.SKIPPED, StageState.STOPPED})


class ItemState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    RETRY = "retry"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"


class ItemEvent(StrEnum):
    GRANT = "grant"
    COMPLETE = "complete"
    FAIL = "fail"
    BACK_OFF = "back_off"
    RETURN = "return"
    STOP = "stop"
    REOPEN = "reopen"


ITEM_TABLE: Mapping[tuple[ItemState, ItemEvent], ItemState] = {
    (ItemState.QUEUED, ItemEvent.GRANT): ItemState.RUNNING,
    (ItemState.RETRY, ItemEvent.GRANT): ItemState.RUNNING,
    (ItemState.RUNNING, ItemEvent.COMPLETE): ItemState.COMPLETED,
    (ItemState.RUNNING, ItemEvent.FAIL): ItemState.FAILED,
    (ItemState.RUNNING, ItemEvent.BACK_OFF): ItemState.RETRY,
    (ItemState.RUNNING, ItemEvent.RETURN): ItemState.QUEUED,
    (ItemState.QUEUED, ItemEvent.STOP): ItemState.STOPPED,
    (ItemState.RETRY, ItemEvent.STOP): ItemState.STOPPED,
    (ItemState.RUNNING, ItemEvent.STOP): ItemState.STOPPED,
    (ItemState.STOPPED, ItemEvent.REOPEN): ItemState.QUEUED,
}

STARTABLE_ITEMS = frozenset(state for state, event in ITEM_TABLE if event is ItemEvent.GRANT)


class IllegalTransition(Exception):
    """An event that the state does not take; tells the state, the event and what it would take."""

    def __init__(self, state: StrEnum, event: StrEnum, takes: list[str]) -> None:
        super().__init__(f"{event} is not possible in state {state}; possible: {', '.join(takes) or 'nothing'}")
        self.state = state
        self.event = event
        self.takes = takes


S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def allowed(table: Mapping[tuple[S, E], S], state: S) -> list[str]:
    """The events that a state takes, in the table's order."""
    return [str(event) for known, event in table if known == state]


def advance(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """The state after the event. Raises IllegalTransition."""
    try:
        return table[state, event]
    except KeyError:
        raise IllegalTransition(state, event, allowed(table, state)) from None
