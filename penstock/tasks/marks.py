"""What the words behind a box say: the task's id, `[P]`, `[US1]`, `[depends: T001]`, and the text that is left.

    T012 [P] [US1] Create the table [depends: T001, T002]

The id is T and digits (`T001`, `T011a`, `T2.1`), first or among the markers, bare, bold, in backticks or in brackets,
with or without a colon. Markers count in the row of brackets before the text and at its very end, so that a text that
speaks of `[P]` is no marker; other brackets in that row (`[FR-002]`) stay in the text. Dependencies count anywhere but
in backticks. Pure, and linear in the length of the text, which comes from anybody. Nothing is refused here: what can't
be read as a marker is text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Marks", "read_marks"]

_ID = r"T[0-9]{1,18}(?:\.[0-9]{1,9}){0,5}[A-Za-z]?"
_LEADING_ID = re.compile(rf"(?:({_ID})|\*\*({_ID})[:.]?\*\*|`({_ID})`|\[({_ID})\])[:.)]?(?!\S)\s*")
_LEADING_TAG = re.compile(r"(\[[^\[\]\s][^\[\]]{0,99}\])(?!\S)\s*")
_MARKER = re.compile(r"\[(?:P|US[0-9]+(?:[,\s]\s*US[0-9]+)*)\]")
_DEPENDENCIES = re.compile(r"\[\s*(?:depends|dep|after)\s*:([^\[\]]*)\]", re.IGNORECASE)
_BETWEEN = re.compile(r"[,;\s]+")
_STORY = re.compile(r"US[0-9]+")
_BACKTICKS = re.compile(r"`+")
LONGEST_MARKER = 100

_Marker = tuple[bool, tuple[str, ...]]
"""Whether it is `[P]`, and its stories."""


@dataclass(frozen=True, slots=True)
class Marks:
    """id: empty where none is written."""

    id: str
    text: str
    parallel: bool
    stories: tuple[str, ...]
    depends_on: tuple[str, ...]


def read_marks(text: str) -> Marks:
    """The marks in a text of one line."""
    text, depends_on = _without_dependencies(text) if "[" in text else (text, ())
    text = text.strip()
    task_id, begin, end = "", 0, len(text)
    kept: list[str] = []
    markers: list[_Marker] = []
    trailing: list[_Marker] = []
    while begin < end:
        if not task_id and (found := _LEADING_ID.match(text, begin)):
            task_id = found[found.lastindex or 0]
        elif text[begin] == "[" and (found := _LEADING_TAG.match(text, begin)):
            if marker := _marker(found[1]):
                markers.append(marker)
            else:
                kept.append(found[1])
        else:
            break
        begin = found.end()
    while end > begin and text[end - 1] == "]":
        at = text.rfind("[", max(begin, end - LONGEST_MARKER), end)
        if at < begin or (at > begin and not text[at - 1].isspace()) or not (marker := _marker(text[at:end])):
            break
        trailing.append(marker)
        end = at
        while end > begin and text[end - 1].isspace():
            end -= 1
    left = text[begin:end]
    markers += reversed(trailing)
    return Marks(
        task_id,
        " ".join((*kept, left)).rstrip() if kept else left,
        any(parallel for parallel, _ in markers),
        tuple(dict.fromkeys(story for _, stories in markers for story in stories)),
        depends_on,
    )


@lru_cache(maxsize=1_000)
def _marker(tag: str) -> _Marker | None:
    found = _MARKER.fullmatch(tag)
    return None if found is None else (tag == "[P]", tuple(_STORY.findall(tag)))


def _without_dependencies(text: str) -> tuple[str, tuple[str, ...]]:
    found = list(_DEPENDENCIES.finditer(text))
    if found and "`" in text:
        spans = _code_spans(text)
        found = [one for one in found if not _within(spans, one.start())]
    if not found:
        return text, ()
    ids: dict[str, None] = {}
    parts, at = [], 0
    for one in found:
        ids.update(dict.fromkeys(name.strip("*`") for name in _BETWEEN.split(one[1])))
        parts.append(text[at : one.start()].rstrip())
        at = one.end()
    parts.append(text[at:])
    return "".join(parts), tuple(name for name in ids if name and name != "and")


def _within(spans: Sequence[tuple[int, int]], place: int) -> bool:
    before = bisect_left(spans, (place, 0)) - 1
    return before >= 0 and place < spans[before][1]


def _code_spans(text: str) -> list[tuple[int, int]]:
    """Where code stands: from a run of backticks to the next one of the same length."""
    runs = [run.span() for run in _BACKTICKS.finditer(text)]
    closing: dict[int, int] = {}
    closed_by = [-1] * len(runs)
    for number in range(len(runs) - 1, -1, -1):
        length = runs[number][1] - runs[number][0]
        closed_by[number] = closing.get(length, -1)
        closing[length] = number
    spans, number = [], 0
    while number < len(runs):
        end = closed_by[number]
        if end >= 0:
            spans.append((runs[number][0], runs[end][1]))
            number = end
        number += 1
    return spans
