"""How long a run worked: from what it became when. Pure.

Time in which it was paused, or waited at a gate or for money, is a person's and no estimate's; so is the time between
an end and its reopening. What was running when it was paused goes on for a while: that is not counted, either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Active", "active"]

_WORKING = ("running", "stopping")


@dataclass(frozen=True)
class Active:
    """unbroken: it worked from its start to its end."""

    seconds: float
    unbroken: bool


def active(changes: Sequence[tuple[int, str]], *, start_ms: int, end_ms: int) -> Active:
    """changes: (when, the state that it came into), in order. Without any it worked from start to end."""
    if not any(state in _WORKING for _, state in changes):
        return Active(max(end_ms - start_ms, 0) / 1000, True)
    total, stretches, since = 0, 0, None
    for when, state in changes:
        if since is None and state in _WORKING:
            since, stretches = when, stretches + 1
        elif since is not None and state not in _WORKING:
            total, since = total + when - since, None
    if since is not None:
        total += max(end_ms - since, 0)
    return Active(max(total, 0) / 1000, stretches == 1)
