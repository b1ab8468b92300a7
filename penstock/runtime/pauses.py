"""How long what failed is left alone before it is tried again."""

from __future__ import annotations

__all__ = ["doubled"]

DOUBLINGS = 30
"""More make no pause that anybody waits for, and in the end no number."""


def doubled(first: float, times: int, most: float) -> float:
    """`first`, doubled so many times, and at most `most`; in whatever unit these are."""
    return min(first * 2.0 ** min(times, DOUBLINGS), most)
