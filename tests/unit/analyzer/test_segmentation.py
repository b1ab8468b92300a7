"""Segments lie in the text as given: trimmed, in order, apart, and nothing is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.domain.segmentation import MAX_SEGMENT_CHARS, split
from analyzer.domain.tokens import flattened
from penstock.words import GRANULARITIES


def pieces(text: str, granularity: str = "sentence") -> list[str]:
    return [text[span.start : span.end] for span in split(flattened(text), granularity)]


def test_sentences_end_at_their_marks() -> None:
    assert pieces("One is here. Is two? Yes! Done") == ["One is here.", "Is two?", "Yes!", "Done"]


def test_abbreviations_and_initials_end_nothing() -> None:
    assert pieces("Dr. Smith met J. Jones. They spoke, e.g. Of rain.") == [
        "Dr. Smith met J. Jones.",
        "They spoke, e.g. Of rain.",
    ]


def test_quotes_belong_to_the_sentence_that_they_end() -> None:
    assert pieces('"Go away." He went.') == ['"Go away."', "He went."]
    assert pieces("“Geh weg.” He went.") == ["“Geh weg.”", "He went."]


def test_paragraphs_are_cut_at_blank_lines_or_else_at_lines() -> None:
    assert pieces("a\nb\n\n c ", "paragraph") == ["a\nb", "c"]
    assert pieces("a\nb", "paragraph") == ["a", "b"]


def test_offsets_count_code_points_beyond_the_basic_plane() -> None:
    text = "😀 One is 𝒳. 👩‍👩‍👧 Two is here."
    assert pieces(text) == ["😀 One is 𝒳.", "👩‍👩‍👧 Two is here."] or pieces(text) == [text]
    assert "".join(pieces(text)).replace(" ", "") == text.replace(" ", "")


@given(
    st.text(alphabet=st.sampled_from("ab .!?\n\t\"'“”—…*#-A1é😀\u0301\u3000"), max_size=200),
    st.sampled_from(GRANULARITIES),
)
def test_segments_cover_all_but_white_space(text: str, granularity: str) -> None:
    flat = flattened(text)
    spans = split(flat, granularity)
    covered = [False] * len(text)
    end = 0
    for span in spans:
        assert end <= span.start < span.end <= len(text)
        assert not flat[span.start].isspace()
        assert not flat[span.end - 1].isspace()
        covered[span.start : span.end] = [True] * (span.end - span.start)
        end = span.end
    assert all(inside or char.isspace() for inside, char in zip(covered, flat, strict=True))


def test_text_without_any_boundary_is_cut() -> None:
    assert max(map(len, pieces("x" * 50_000))) == MAX_SEGMENT_CHARS
    assert max(map(len, pieces("word " * 20_000, "paragraph"))) <= MAX_SEGMENT_CHARS


def test_an_unknown_granularity_is_refused() -> None:
    with pytest.raises(ValueError, match="neither sentence nor paragraph"):
        split("x", "word")
