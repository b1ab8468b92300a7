"""Sketches: compact, comparable at every scale, refused when they are not ours."""

from __future__ import annotations

import random

import numpy as np
import pytest

from analyzer.domain.detector import Detector
from analyzer.domain.duplicates import Shingles, find_duplicates, overlap
from analyzer.domain.passages import shared_passage
from analyzer.domain.sketch import MAX_HASHES, Sketch, SketchError, decode


def sketches(detector: Detector, *texts: str) -> list[Sketch]:
    return [decode(each.sketch) for each in detector.analyze(texts, "paragraph")]


def words(seed: int, count: int) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices("abcdefghij", k=6)) for _ in range(count)]


def shingled(detector: Detector, *texts: list[str]) -> list[Shingles]:
    return [Shingles.of(each) for each in sketches(detector, *(" ".join(text) for text in texts))]


def test_terms_are_words_that_tell_something(detector: Detector) -> None:
    (sketch,) = sketches(detector, "The trains and the Trains of 1984: train's whistle, naïve café.")
    counts = dict(zip(sketch.terms, sketch.counts.tolist(), strict=True))
    assert counts == {"trains": 2, "whistle": 1, "naïve": 1, "café": 1}


def test_an_edited_copy_stays_near(detector: Detector) -> None:
    original = words(1, 400)
    copy = [word if number % 20 else "changed" for number, word in enumerate(original)]
    one, other, stranger = shingled(detector, original, copy, words(2, 400))
    assert overlap(one, other)[0] > 0.5
    assert overlap(one, stranger)[0] == 0.0


def test_long_texts_compare_with_short_ones(detector: Detector) -> None:
    long = words(3, 6_000)
    one, part = shingled(detector, long, long[1_000:2_500])
    assert len(one.hashes) <= MAX_HASHES
    assert one.scale > part.scale
    assert overlap(one, part)[1] > 0.9


def test_copies_form_groups_and_quotations_passages(detector: Detector) -> None:
    a, b = words(4, 300), words(5, 300)
    quoting = words(6, 200) + a[50:170]
    edited = [*a[:150], "edited", *a[151:]]
    found = find_duplicates(shingled(detector, a, b, quoting, a, edited, words(7, 300)), np.zeros((6, 2), np.float32))
    assert [group.members for group in found.groups] == [(0, 3, 4)]
    # of equal documents the first stands for the others
    assert {(each.first, each.second) for each in found.passages} == {(0, 2), (2, 4)}


def test_many_equal_documents_are_one_group(detector: Detector) -> None:
    same = shingled(detector, *([words(8, 100)] * 300))
    varied = shingled(detector, *([*words(9, 200), *words(100 + number, 10)] for number in range(60)))
    found = find_duplicates([*same, *varied], np.zeros((360, 2), np.float32))
    assert [len(group.members) for group in found.groups] == [300, 60]


def test_documents_without_words_are_no_duplicates(detector: Detector) -> None:
    found = find_duplicates(shingled(detector, [], [], ["!"]), np.zeros((3, 2), np.float32))
    assert not found.groups
    assert not found.passages


@pytest.mark.parametrize("data", [b"", b"x", b"\x09" * 40, b"\x01\x00\xff\xff\xff\xff" + b"\x00" * 30])
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SketchError):
        decode(data)


def test_a_passage_is_shown_in_the_words_of_the_text() -> None:
    text = "Before it. The “quick” brown fox — jumps over the lazy dog today. After."
    other = 'They say the "quick" brown fox jumps over the lazy dog, always.'
    assert shared_passage(text, other) == "The “quick” brown fox — jumps over the lazy dog"
    assert shared_passage(text, "Nothing in common with that here.") == ""
