"""The passage that two texts share, as a person can read it: their longest common run of words."""

from __future__ import annotations

import re

from analyzer.domain.sketch import SHINGLE_WORDS

__all__ = ["shared_passage"]

MAX_WORDS = 20_000
MAX_CHARS = 600
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


def shared_passage(text: str, other: str) -> str:
    """The longest run of words of `text` whose five-word shingles all occur in `other`, cut to MAX_CHARS; empty if
    there is none. Linear in the first MAX_WORDS words of both."""
    words = _words(text)
    spoken = [word for word, _, _ in words]
    theirs = [word for word, _, _ in _words(other)]
    known = {tuple(theirs[at : at + SHINGLE_WORDS]) for at in range(len(theirs) - SHINGLE_WORDS + 1)}
    best, best_start, run = 0, 0, 0
    for at in range(len(spoken) - SHINGLE_WORDS + 1):
        run = run + 1 if tuple(spoken[at : at + SHINGLE_WORDS]) in known else 0
        if run > best:
            best, best_start = run, at - run + 1
    if not best:
        return ""
    start = words[best_start][1]
    end = words[best_start + best + SHINGLE_WORDS - 2][2]
    return text[start : min(end, start + MAX_CHARS)]


def _words(text: str) -> list[tuple[str, int, int]]:
    found = []
    for match in _WORD.finditer(text):
        found.append((match[0].lower(), match.start(), match.end()))
        if len(found) == MAX_WORDS:
            break
    return found
