"""A play and its servers on one core: they take turns, and where others want the cores too, a turn on another one waits
for them: twice as long in all on a machine at load 5, while a quiet one tells no difference.

Plays that run side by side are given a core each. Where the system has no such bounds they go where they are sent.
"""

from __future__ import annotations

import os

__all__ = ["cores", "stay"]


def cores() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def stay(number: int, among: list[int]) -> None:
    """The thread that calls, and what it starts from now on, keeps to one of the cores; number: of the play."""
    if among:
        os.sched_setaffinity(0, {among[number % len(among)]})
