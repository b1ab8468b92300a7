"""Words of the documents contract that several programs share, in one place. Imports nothing: `domain/` may use it."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["DEFAULT_GRANULARITY", "GRANULARITIES", "Granularity"]

Granularity = Literal["sentence", "paragraph"]
"""What a segment of a document is."""

GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
DEFAULT_GRANULARITY: Granularity = "sentence"
