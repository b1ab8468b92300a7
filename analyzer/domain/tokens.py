"""A text as the tokens that everything else counts: words, numbers, punctuation marks.

Layout tells texts apart for the wrong reasons (curly quotes, markdown, tokenised punctuation), so it is taken out
here, for training and for scoring alike. `flattened` keeps the length of the text, one code point for one, so that
offsets into what it returns are offsets into the original; what needs more than one code point (NFKC of ligatures,
an ellipsis) happens token by token, after the cut.

Nothing here can fail: any string gives tokens, possibly none.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["ELLIPSIS", "flattened", "is_word", "tokenize"]

ELLIPSIS = "..."

_SAME = {
    '"': "“”„‟«»″〝〞",
    "'": "‘’‚‛′ʼ´",
    "-": "‐‑‒–—―−﹣－",
    " ": "*#`_~|•·▪◦\u00a0\u2007\u202f\u3000\u200b\u200c\u200d\u2060\ufeff\u00ad",
}
_FLAT = {ord(char): flat for flat, chars in _SAME.items() for char in chars}
_ASCII_MARKS = re.compile(r"[*#`_~|]")
_LINE_MARK = re.compile(r"^[ \t]*(?:[-+>]+)(?=[ \t])", re.MULTILINE)
_PAIRED = re.compile("''")
_ASCII_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?|\d+(?:[.,]\d+)*|\.\.+|-+|[^\sA-Za-z\d]")
_TOKEN = re.compile(
    r"(?:[^\W\d_]|[\u0300-\u036f])+(?:'[^\W\d_]+)?|\d+(?:[.,]\d+)*|\.\.+|…|-+|[^\s\w]|[^\s\d]", re.UNICODE
)
_SPLIT_CLITIC = re.compile(r" (?:n't|'(?:s|re|ve|ll|d|m|t))\b", re.IGNORECASE)
_CLITICS = frozenset({"s", "re", "ve", "ll", "d", "m", "t"})


def flattened(text: str) -> str:
    """The text with straight quotes and dashes and without markdown marks; exactly as long as it was."""
    flat = _ASCII_MARKS.sub(" ", text) if text.isascii() else text.translate(_FLAT)
    if "\n" in flat or flat[:1] in "-+> ":
        flat = _LINE_MARK.sub(lambda found: " " * len(found[0]), flat)
    if "''" in flat:
        flat = _PAIRED.sub('" ', flat)
    return flat


def tokenize(flat: str) -> list[str]:
    """The tokens of a flattened text (or of a slice of it), in order."""
    found = _ASCII_TOKEN.findall(flat) if flat.isascii() else [_folded(token) for token in _TOKEN.findall(flat)]
    if " n't" in flat or " '" in flat:
        found = _rejoined(flat, found)
    return found


def is_word(token: str) -> bool:
    return token[0].isalpha()


def _folded(token: str) -> str:
    if token.isascii():
        return token
    return unicodedata.normalize("NFKC", token) or token


def _rejoined(flat: str, found: list[str]) -> list[str]:
    """`do n't` and `it 's`, as tokenised corpora write them, become one word again."""
    if not _SPLIT_CLITIC.search(flat):
        return found
    joined: list[str] = []
    index = 0
    while index < len(found):
        token = found[index]
        if joined and is_word(joined[-1]):
            if token.lower() == "n't":
                joined[-1] += token
                index += 1
                continue
            follower = found[index + 1] if index + 1 < len(found) else ""
            if token == "'" and follower.lower() in _CLITICS and "'" not in joined[-1]:
                joined[-1] += "'" + follower
                index += 2
                continue
        joined.append(token)
        index += 1
    return joined
