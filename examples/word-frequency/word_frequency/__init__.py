"""A processor for Penstock, in a package of its own: the most frequent words of each item's text.

Nothing in Penstock knows it. Once the package is installed beside Penstock, its entry point makes it a processor that
any run may name.
"""

from __future__ import annotations

import re
from collections import Counter

from pydantic import Field

from penstock.processor import Context, Failure, Outcome, Parameters, Processor, Result, WorkItem

__all__ = ["WordFrequency", "WordFrequencyParameters"]

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


class WordFrequencyParameters(Parameters):
    """What a run may set with `--param name=value`."""

    top: int = Field(10, ge=1, le=1000, description="Words to keep of each text.")
    shortest: int = Field(4, ge=1, description="Letters of the shortest word that counts.")


class WordFrequency(Processor[WordFrequencyParameters]):
    """The most frequent words of `payload.text`, with their counts."""

    name = "word-frequency"
    version = "1.0.0"
    parameters_type = WordFrequencyParameters

    async def process(self, item: WorkItem, context: Context[WordFrequencyParameters]) -> Outcome:
        text = item.payload.get("text")
        if not isinstance(text, str):
            # Trying again would not help: the item itself is wrong.
            return Failure(f"item {item.key!r} has no text: payload.text must be a string", permanent=True)
        words = [word.casefold() for word in WORD.findall(text)]
        counts = Counter(word for word in words if len(word) >= context.parameters.shortest)
        return Result({"words": len(words), "top": counts.most_common(context.parameters.top)})
