"""Confidence levels: the contract's numbers as the words that outcomes, results and exports have, and back."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.v1 import analyzer_pb2

__all__ = ["LEVEL_VALUES", "UNCERTAIN", "level_word"]

UNCERTAIN = "UNCERTAIN"
"""The detector abstained."""

LEVEL_VALUES: Mapping[str, analyzer_pb2.ConfidenceLevel.ValueType] = {
    name.removeprefix("CONFIDENCE_LEVEL_"): value for name, value in analyzer_pb2.ConfidenceLevel.items() if value
}
"""HIGH, MEDIUM, LOW, UNCERTAIN -> its number."""

_WORDS = {value: word for word, value in LEVEL_VALUES.items()}


def level_word(value: analyzer_pb2.ConfidenceLevel.ValueType) -> str:
    """The level's word; UNCERTAIN for one that is not set."""
    return _WORDS.get(value, UNCERTAIN)
