"""The four confidence levels and where one ends and the next begins."""

from __future__ import annotations

import enum

__all__ = ["HIGH_ABOVE", "LOW_BELOW", "Level", "level_of"]

HIGH_ABOVE = 0.7
LOW_BELOW = 0.4


class Level(enum.StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    UNCERTAIN = "UNCERTAIN"


def level_of(probability: float | None) -> Level:
    """The level of a probability; None is what the detector abstained from."""
    if probability is None:
        return Level.UNCERTAIN
    if probability > HIGH_ABOVE:
        return Level.HIGH
    return Level.LOW if probability < LOW_BELOW else Level.MEDIUM
