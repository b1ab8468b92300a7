"""Real texts that are on every machine: the long descriptions of the packages that set-up has installed, in plain text.

People wrote most of them, on some twenty subjects. Markdown, reStructuredText and HTML are reduced to their sentences
by plain rules; that is all the demo needs, and no document of a user ever comes this way.
"""

from __future__ import annotations

import html
import importlib.metadata
import re

__all__ = ["package_descriptions", "plain_text"]

FEWEST_WORDS = 20
MOST_CHARACTERS = 2_500

_BLOCKS = (
    re.compile(r"<!--.*?-->", re.S),
    re.compile(r"<(style|script|svg|picture|table)\b.*?</\1>", re.S | re.I),
    re.compile(r"^(```|~~~).*?^\1.*?$", re.S | re.M),
    re.compile(r"^\.\. .*?(?=^\S|\Z)", re.S | re.M),  # directives with what is indented below them
    re.compile(r"^(?:    |\t).*$", re.M),  # code
    re.compile(r"^\s*\|.*$", re.M),  # tables
    re.compile(r"^\s*[=\-~^\"'#*+`]{3,}\s*$", re.M),  # underlines
    re.compile(r"^\s*\[[^\]]+\]:.*$", re.M),  # link targets
    re.compile(r"^\s*>>>.*$", re.M),
)
_INLINE = (
    (re.compile(r"\[?!\[[^\]]*\]\([^)]*\)(?:\]\([^)]*\))?"), ""),
    (re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^>`]*>`_+"), r"\1"),
    (re.compile(r":\w+:`([^`]*)`"), r"\1"),
    (re.compile(r"\|[^|\n]{1,40}\|_?"), ""),
    (re.compile(r"<[^>\n]{1,400}>"), " "),
    (re.compile(r"https?://\S+"), ""),
    (re.compile(r"(?:`{1,2}|\*{1,3}|(?<!\w)_{1,2}(?=\w))([^`*\n]+?)(?:`{1,2}|\*{1,3}|(?<=\w)_{1,2}(?!\w))"), r"\1"),
    (re.compile(r"^\s*(?:#+|[-*+]|\d+[.)])\s+", re.M), ""),
)


def plain_text(description: str) -> str:
    """The sentences of a description: its paragraphs of more than a few words, at most `MOST_CHARACTERS` of them."""
    text = description.replace("\r\n", "\n")
    for block in _BLOCKS:
        text = block.sub("", text)
    for pattern, by in _INLINE:
        text = pattern.sub(by, text)
    paragraphs: list[str] = []
    length = 0
    for paragraph in re.split(r"\n\s*\n", html.unescape(text)):
        line = " ".join(paragraph.split())
        if len(line.split()) < 6 or not re.search(r"[a-z]{3}", line) or "$ " in line:
            continue
        if length + len(line) > MOST_CHARACTERS and paragraphs:
            break
        paragraphs.append(line[:MOST_CHARACTERS])
        length += len(line)
    return "\n\n".join(paragraphs)


def package_descriptions() -> dict[str, str]:
    """Package name -> its description as plain text, of all installed packages that have one worth reading."""
    found = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata
        name = metadata["Name"]
        # Newer metadata has the description as its body, older as a header; `json` knows both.
        text = plain_text(str(metadata.json.get("description") or ""))
        if name and name.lower() != "penstock" and len(text.split()) >= FEWEST_WORDS:
            found[name.lower()] = text
    return dict(sorted(found.items()))
