"""Where the sentences or paragraphs of a text begin and end, in code points of the text as given.

Segments are trimmed of white space, never empty, in order, and never overlap; everything that is not white space lies
in one. A text without any boundary is cut at white space (or anywhere, if it has none) so that no segment passes
`MAX_SEGMENT_CHARS`: work stays linear on hostile input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["MAX_SEGMENT_CHARS", "Span", "split"]

MAX_SEGMENT_CHARS = 4_000

_ENDS = re.compile(
    r"""(?<![.!?…])[.!?…]++["')\]]*+\s++(?=["'(\[]*+[A-Z0-9À-ÖØ-Þ])  # an end, white space, a beginning
      | [.!?]["'](?=[A-Z])                                   # an end glued to the next beginning
      | [。！？]+["'」』]*\s*
      | \n[ \t]*\n\s*                                        # a blank line always ends a sentence
    """,
    re.VERBOSE,
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|e\.g|i\.e|cf|al|fig|no|vol|inc|ltd|co|gen|col|lt|sgt|rev|hon"
    r"|u\.s|u\.k|[a-z])\.$",
    re.IGNORECASE,
)
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n\s*")


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int


def split(flat: str, granularity: str) -> list[Span]:
    """The segments of a flattened text. `granularity` is one of GRANULARITIES (ValueError otherwise)."""
    if granularity == "sentence":
        cuts = _sentence_cuts(flat)
    elif granularity == "paragraph":
        pattern = _BLANK_LINES if _BLANK_LINES.search(flat.strip()) else _LINE
        cuts = (found.end() for found in pattern.finditer(flat))
    else:
        raise ValueError(f"granularity {granularity!r} is neither sentence nor paragraph")
    spans: list[Span] = []
    start = 0
    for cut in cuts:
        _add(spans, flat, start, cut)
        start = cut
    _add(spans, flat, start, len(flat))
    return spans


def _sentence_cuts(flat: str) -> Iterator[int]:
    for found in _ENDS.finditer(flat):
        end = found.start() + 1
        if flat[found.start()] == "." and _ABBREVIATION.search(flat, max(0, end - 12), end):
            continue
        yield found.end()


def _add(spans: list[Span], flat: str, start: int, end: int) -> None:
    while start < end and flat[start].isspace():
        start += 1
    while start < end and flat[end - 1].isspace():
        end -= 1
    while end - start > MAX_SEGMENT_CHARS:
        cut = start + MAX_SEGMENT_CHARS
        line = flat.rfind("\n", start + 1, cut)
        space = flat.rfind(" ", start + 1, cut)
        cut = line if line > start + MAX_SEGMENT_CHARS // 2 else space if space > start else cut
        _add(spans, flat, start, cut)
        start = cut
        while start < end and flat[start].isspace():
            start += 1
    if start < end:
        spans.append(Span(start, end))
