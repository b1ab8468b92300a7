"""What is set otherwise is told in sentences, nested settings by their path."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.rules import Rules
from penstock.v1 import rules_pb2
from planner.domain.differences import MOST_TOLD, differences
from planner.domain.setting_words import selection_words, stage_words
from planner.rules import as_told

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


def kept(rules: dict[str, Any]) -> dict[str, object]:
    """Rules as a plan keeps them, under their words."""
    message = MessageToDict(Rules.model_validate(rules).message(), preserving_proto_field_name=True)
    return stage_words({"rules": as_told(message)})


def test_money_and_rules_are_told_in_words() -> None:
    one = kept({"budget_micros": 1_250_000, "heal": {"attempts": 2, "processor": "mend"}})
    other = kept(
        {
            "budget_micros": 2_000_000_000,
            "item_budget_micros": 50_000,
            "heal": {"attempts": 3, "processor": "mend", "kinds": ["item", "timeout"], "budget_micros": 500_000},
            "retry": [{"kinds": ["provider"], "max_tries": 3, "first_seconds": 2.0}, {"max_tries": 1}],
            "gate": {"name": "ship", "timeout_seconds": 60.0, "default_answer": "approve"},
            "tolerance": {"failures": 3, "share": 0.05},
            "run_when": "all",
        }
    )
    assert differences("stage 1", one, other) == [
        "stage 1: retry provider, at most 3 tries, first after 2 s; every failure, never, was not set",
        "stage 1: attempts to heal 3, was 2",
        "stage 1: failures that are healed item, timeout, was not set",
        "stage 1: budget of all heals $0.50, was not set",
        "stage 1: gate ship, was not set",
        "stage 1: the gate waits 60 s, was not set",
        "stage 1: after that the gate answers approve, was not set",
        "stage 1: begins when every item of the stage before completed, was not set",
        "stage 1: failures that are tolerated 3, was not set",
        "stage 1: share of failures that is tolerated 5%, was not set",
        "stage 1: budget $2,000.00, was $1.25",
        "stage 1: budget of an item $0.05, was not set",
    ]


def test_every_rule_has_words_that_are_not_its_name() -> None:
    """What a message gets anew must get words, too."""
    for field in rules_pb2.StageRules.DESCRIPTOR.fields:
        message = field.message_type
        one: object = [] if field.name == "retry" else "RUN_WHEN_ALL" if field.name == "run_when" else "1"
        if message and field.name != "retry":
            texts = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_ENUM)
            one = {part.name: "x" if part.type in texts else 1 for part in message.fields}
        assert not any("_" in label or "." in label for label in stage_words({"rules": {field.name: one}})), field.name


def test_a_selection_is_told_without_the_shape_of_its_message() -> None:
    one = selection_words({"keys": {"keys": ["a", "b"]}, "limit": "50"})
    assert differences("selection", one, selection_words({"all": True, "limit": "7"})) == [
        "selection: all true, was not set",
        "selection: limit 7, was 50",
        'selection: keys is not set, was ["a","b"]',
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
