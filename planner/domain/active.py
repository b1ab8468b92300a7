"""How long a run worked, and when it was done: from what it became when. Pure.

Time in which it was paused, or waited at a gate or for money, is a person's and no estimate's; so is the time between
an end and its reopening. What was running when it was paused goes on for a while: that is not counted, either. Where
the clock went back meanwhile nobody knows how long it was: there is no number then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["COMPLETED", "Active", "Change", "Done", "active", "done", "worked"]

Change = tuple[int, str]
"""When a run came into which state."""

COMPLETED = ("completed", "completed_with_failures")
_WORKING = ("running", "stopping")
_OVER = (*COMPLETED, "failed")


@dataclass(frozen=True)
class Active:
    """seconds: None where nobody knows; unbroken: it worked from its start to its end."""

    seconds: float | None
    unbroken: bool


@dataclass(frozen=True)
class Done:
    """When a run had first done all of its plan. changes: up to then; again: somebody had more of it done since."""

    end_ms: int
    state: str
    changes: Sequence[Change]
    again: bool


def done(changes: Sequence[Change]) -> Done | None:
    """None for a run that has not completed."""
    for place, (when, state) in enumerate(changes):
        if state in COMPLETED:
            return Done(when, state, changes[: place + 1], place + 1 < len(changes))
    return None


def active(changes: Sequence[Change], *, start_ms: int, end_ms: int) -> Active:
    """changes: in order. Without any it worked from start to end."""
    stretches = _stretches(changes, start_ms, end_ms)
    nobody_knows = end_ms < start_ms or _went_back(changes)
    seconds = None if nobody_knows else sum(end - begin for begin, end in stretches) / 1000
    return Active(seconds, len(stretches) == 1)


def worked(changes: Sequence[Change], *, from_ms: int, to_ms: int) -> float | None:
    """Seconds that a run worked between two times; None where it was over meanwhile, or the clock went back."""
    over = any(state in _OVER and from_ms <= when < to_ms for when, state in changes)
    if over or to_ms < from_ms or _went_back(changes):
        return None
    stretches = _stretches(changes, from_ms, to_ms)
    return sum(max(min(end, to_ms) - max(begin, from_ms), 0) for begin, end in stretches) / 1000


def _went_back(changes: Sequence[Change]) -> bool:
    """Whether the clock did, between two of them."""
    return any(later < before for (before, _), (later, _) in pairwise(changes))


def _stretches(changes: Sequence[Change], start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """In which it worked."""
    if not any(state in _WORKING for _, state in changes):
        return [(start_ms, end_ms)]
    found: list[tuple[int, int]] = []
    since = None
    for when, state in changes:
        if since is None and state in _WORKING:
            since = when
        elif since is not None and state not in _WORKING:
            found.append((since, when))
            since = None
    if since is not None:
        found.append((since, max(end_ms, since)))
    return found
