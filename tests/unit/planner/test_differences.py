"""What is set otherwise is told in sentences, nested settings by their path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from planner.domain.differences import MOST_TOLD, differences

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def test_a_setting_is_told_as_it_is_and_as_it_was() -> None:
    before = {"concurrency": 64, "max_tries": 5, "parameters": {"fetch": {"timeout": 5, "agent": "a"}, "tags": ["x"]}}
    after = {"concurrency": 8, "max_tries": 5, "parameters": {"fetch": {"timeout": 2.5, "proxy": True}, "tags": []}}
    assert differences("stage 0", before, after) == [
        "stage 0: concurrency 8, was 64",
        "stage 0: parameters.fetch.timeout 2.5, was 5",
        "stage 0: parameters.fetch.proxy true, was not set",
        'stage 0: parameters.tags [], was ["x"]',
        "stage 0: parameters.fetch.agent is not set, was a",
    ]


def test_names_of_our_own_are_words_and_those_of_parameters_stay() -> None:
    told = differences("stage 1", {"max_run_seconds": 1, "parameters": {"a_b": 1}}, {"parameters": {"a_b": 2}})
    assert told == ["stage 1: parameters.a_b 2, was 1", "stage 1: max run seconds is not set, was 1"]


def test_texts_are_plain_where_nothing_could_be_mistaken() -> None:
    told = differences("selection", {"filter": "price < 5", "org": "", "sql": "a, b"}, {"filter": None})
    assert told == [
        "selection: filter null, was price < 5",
        'selection: org is not set, was ""',
        'selection: sql is not set, was "a, b"',
    ]


def test_what_is_long_or_much_is_cut() -> None:
    (told,) = differences("x", {"a": "y" * 1_000}, {"a": "z"})
    assert len(told) < 150
    many = differences("x", {}, {str(n): n for n in range(MOST_TOLD + 7)})
    assert len(many) == MOST_TOLD + 1
    assert many[-1] == "x: 7 more settings"


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_what_is_alike_is_not_told(settings: dict[str, object]) -> None:
    assert differences("x", settings, dict(reversed(settings.items()))) == []


@given(st.dictionaries(st.text(max_size=2), JSON, max_size=3))
def test_each_sentence_is_one_line_without_python_in_it(settings: dict[str, object]) -> None:
    for sentence in differences("x", {}, settings):
        assert "\n" not in sentence
        assert sentence.endswith(", was not set")
