"""What an item is, seen from its stage: a stage that has ended speaks for the items that it left.

Neither a stop nor a failed stage writes a row for each item that it leaves, however many there are: an item without a
row, or whose row waits, is what its stage says. So both are one small transaction, and reopening the stage takes
nothing back but the stage.
"""

from __future__ import annotations

from collections.abc import Collection

from scheduler.domain.states import ItemState, StageState

__all__ = ["WAITING_ITEMS", "held_as", "left_by", "shown"]

WAITING_ITEMS = frozenset({ItemState.QUEUED, ItemState.RETRY, ItemState.DEFERRED})
_LEFT = {
    StageState.STOPPED: ItemState.STOPPED,
    StageState.SKIPPED: ItemState.SKIPPED,
    StageState.FAILED: ItemState.SKIPPED,
}


def left_by(stage: StageState) -> ItemState:
    """What an item without a row is."""
    return _LEFT.get(stage, ItemState.QUEUED)


def shown(stage: StageState, held: ItemState) -> ItemState:
    """What an item is whose row says `held`."""
    return _LEFT.get(stage, held) if held in WAITING_ITEMS else held


def held_as(stage: StageState, states: Collection[ItemState]) -> frozenset[ItemState]:
    """What rows say of items that are in one of these states."""
    return frozenset(held for held in ItemState if shown(stage, held) in states)
