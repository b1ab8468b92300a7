"""Layout leaves no trace: texts that differ only in it have the same tokens."""

from __future__ import annotations

import pytest

from analyzer.domain.tokens import flattened, tokenize


def tokens(text: str) -> list[str]:
    return tokenize(flattened(text))


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ('She said "no" and left.', "She said “no” and left."),
        ("It's late - too late.", "It’s late — too late."),
        ("So it began...", "So it began…"),
        ("A plain title. Then text.", "## **A plain title.** Then _text_."),
        ("First, second.", "First ,  second ."),
        ("We don't know, it's new.", "We do n't know , it 's new ."),
        ("one\ntwo", "- one\n- two"),
        ("file names", "ﬁle names"),
        ("word here", "ｗｏｒｄ here"),
    ],
)
def test_layout_does_not_change_the_tokens(plain: str, other: str) -> None:
    assert tokens(plain) == tokens(other)


@pytest.mark.parametrize("text", ["", " ", "a“b”—c…", "`x` ''y''", "\u200b\ufeffz", "- + > line\n- two", "𝒳 👩‍👩‍👧 é"])
def test_flattening_keeps_the_length(text: str) -> None:
    assert len(flattened(text)) == len(text)


def test_letters_with_combining_marks_are_one_word() -> None:
    assert tokens("cafe\u0301 ole\u0301") == ["café", "olé"]
