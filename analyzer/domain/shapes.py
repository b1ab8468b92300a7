"""Words by their shape: what a word looks like when its subject must not matter.

A detector that learns "restaurant" learns a domain. So only words that every domain uses are kept as they are; all
others become a shape: capital or not, the ending, the length in three steps.
"""

from __future__ import annotations

from analyzer.domain.tokens import is_word

__all__ = ["NUMBER", "described", "symbol"]

NUMBER = "0"
_ENDINGS = (
    "tion", "sion", "ment", "ness", "ity", "ing", "ed", "ly", "ous", "ive", "able", "ible", "al", "ful", "less", "er",
    "est", "ic", "ence", "ance", "ize", "ise", "ism", "ist", "s",
)  # fmt: skip
_LENGTHS = {"1": "short", "2": "middling", "3": "long"}


def symbol(token: str, kept: frozenset[str]) -> str:
    """The token itself when it is kept or no word, else its shape, as in `^-ing2` or `-x1`."""
    if not is_word(token):
        return NUMBER if token[0].isdigit() else token
    lower = token.lower()
    if lower in kept:
        return lower
    ending = next((each for each in _ENDINGS if lower.endswith(each)), "x")
    length = "1" if len(lower) <= 5 else "2" if len(lower) <= 8 else "3"
    return f"{'^' if token[0].isupper() else ''}-{ending}{length}"


def described(name: str) -> str:
    """A symbol as a person reads it: `long word in -tion`."""
    if name == NUMBER:
        return "number"
    if not name.lstrip("^").startswith("-") or len(name) < 3 or name[-1] not in _LENGTHS:
        return name
    ending = name.lstrip("^")[1:-1]
    kind = "name" if name.startswith("^") else "word"
    tail = "" if ending == "x" else f" in -{ending}"
    return f"{_LENGTHS[name[-1]]} {kind}{tail}"
