"""Selections and orders as JSON become messages and come back as they were; what they do not know is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.selections import OrderingBody, SelectionBody
from penstock import selection_form as form
from penstock.cli.selecting import selection_of
from penstock.client import Selection
from penstock.client.plan_views import SelectionView, ordering_view, plan_view, selection_view
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2, sources_pb2

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TEXTS = st.lists(TEXT, max_size=4)
WAYS = st.one_of(
    st.just({}),
    st.just({"all": True}),
    st.builds(lambda keys: {"keys": keys}, TEXTS),
    st.builds(lambda name, text: {name: text}, st.sampled_from(["missing", "failed_of_run", "sql", "filter"]), TEXT),
    st.builds(lambda name, at: {"reprocess": {"processor": name, "threshold": at}}, TEXT, st.floats(0, 1)),
)
NARROWED = st.fixed_dictionaries(
    {},
    optional={
        "exclude_keys": st.lists(TEXT, min_size=1, max_size=4),
        "exclude_filter": TEXT,
        "org": TEXT,
        "state": TEXT,
        "limit": st.integers(1, 10**12),
        "again": st.just(True),
    },
)


@given(WAYS, NARROWED)
def test_a_selection_comes_back_as_it_was(way: dict[str, object], narrowed: dict[str, object]) -> None:
    asked = way | narrowed
    assert selection_view(SelectionBody.model_validate(asked).message()) == asked


@given(TEXTS, TEXTS, TEXTS, st.booleans())
def test_an_order_comes_back_as_it_was(
    pinned: list[str], groups: list[str], sort: list[str], as_selected: bool
) -> None:
    asked = {"pinned": pinned, "groups": groups, "sort": sort, "as_selected": as_selected}
    assert ordering_view(OrderingBody.model_validate(asked).message()) == asked


def test_every_way_of_choosing_is_known_here() -> None:
    fields = sources_pb2.Selection.DESCRIPTOR.oneofs_by_name["include"].fields
    assert {field.name for field in fields} == set(form.WAYS)
    fields = sources_pb2.Selection.DESCRIPTOR.fields
    assert {field.name for field in fields} == set(SelectionBody.model_fields) == set(form.FORM)
    assert {field.name for field in sources_pb2.Ordering.DESCRIPTOR.fields} == set(OrderingBody.model_fields)


@given(WAYS, NARROWED)
def test_what_is_told_of_a_plan_can_be_asked_for_again(way: dict[str, object], narrowed: dict[str, object]) -> None:
    """The command line and the Python client tell a plan by the same function: there is one form."""
    message = SelectionBody.model_validate(way | narrowed).message()
    told = plan_view(planner_pb2.Plan(selection=message))["selection"]
    assert SelectionBody.model_validate(told).message() == message


@given(WAYS, NARROWED)
def test_python_and_the_command_line_take_the_form_that_http_takes(
    way: dict[str, object], narrowed: dict[str, object]
) -> None:
    asked = way | narrowed
    of_http = SelectionBody.model_validate({"all": True, **asked} if not way else asked).message()
    assert Selection.of(asked).message() == of_http
    typed = selection_of(json.dumps(asked))
    assert typed is not None
    assert typed.message() == of_http


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"failed_of": "3"},
            "'failed_of' is no field of a selection; it has all, keys, missing, reprocess, failed_of_run",
        ),
        (
            {"failed_of_run": 3, "limit": -1},
            "failed_of_run is 3: a text of 1-200 characters is needed; limit is -1: a whole number",
        ),
        ({"reprocess": "scan"}, "reprocess is 'scan': an object as"),
        ({"keys": "a"}, "keys is 'a': a list of at most 1,000,000 texts is needed"),
        ({"all": False}, "all is false: true is needed"),
        ({"all": True, "sql": "SELECT 1"}, "all and sql are given"),
        ({"missing": "scan", "filter": "a = 1"}, "filter and missing are given"),
    ],
)
def test_another_form_is_refused_by_what_is_wrong(given: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(words)) as refused:
        Selection.of(given).message()
    assert refused.value.code == "bad_selection"
    with pytest.raises((InvalidInput, ValidationError)):
        SelectionBody.model_validate(given).message()


def probes(part: form.Part) -> Iterator[object]:
    """Values at, within and past the bounds of a part of the form, and values of other kinds."""
    yield from (None, True, False, 0, 1, -1, 2.5, 10**400, 10**5_000, math.inf, math.nan, "", "a", "\ud800", [], {})
    yield from (["a"], ["a", ""], ["a", 3], ["\ud800"], {"a": 1})
    match part:
        case form.Text():
            yield from ("ä" * part.most, "ä" * (part.most + 1), "ä" * part.least, "ä" * max(part.least - 1, 0))
        case form.Texts():
            yield from (["a"] * part.most, ["a"] * (part.most + 1), *([one] for one in probes(part.each)))
        case form.Amount():
            yield from (part.most, part.most + 1, float(part.most))
        case form.Reprocess():
            numbers = (None, True, "0.7", 0, -1, 0.7, 10**300, 10**400, math.inf, -math.inf, math.nan)
            yield from ({"processor": "scan", "threshold": one} for one in numbers)
            yield from ({"processor": one, "threshold": 0.7} for one in probes(part.processor))
            yield from ({"processor": "scan"}, {"processor": "scan", "threshold": 0.7, "more": 1})


@pytest.mark.parametrize("name", form.FORM)
def test_what_one_takes_the_other_takes_up_to_the_bounds(name: str) -> None:
    taken = 0
    for value in probes(form.FORM[name]):
        told = {name: value}
        try:
            of_http: sources_pb2.Selection | None = SelectionBody.model_validate(told).message()
        except ValidationError:
            of_http = None
        if of_http is None:
            with pytest.raises(InvalidInput) as refused:
                Selection.of(told)
            assert refused.value.code == "bad_selection"
            assert len(refused.value.message) < 1_000
            continue
        if not of_http.WhichOneof("include"):
            of_http.all = True
        assert Selection.of(told).message() == of_http
        taken += 1
    assert taken, "no probe fits"


def test_what_is_nested_deep_is_refused_in_words() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    for told in ({"missing": value}, {"keys": value}, {"reprocess": {"processor": value, "threshold": 1}}):
        with pytest.raises(InvalidInput, match="a list of 1: a text of"):
            Selection.of(told)


def test_an_empty_text_is_told_how_long_it_may_be() -> None:
    with pytest.raises(InvalidInput, match="sql is '': a text of 1-100,000 characters is needed"):
        Selection.of({"sql": ""})


def test_of_many_problems_some_are_told() -> None:
    with pytest.raises(InvalidInput) as told:
        Selection.of({f"field {n}": n for n in range(10_000)})
    assert told.value.message.count("is no field") == 10


@pytest.mark.parametrize("typed", ["{", "[]", "3", "@/dev/null"])
def test_a_selection_that_is_typed_is_a_json_object(typed: str) -> None:
    with pytest.raises(InvalidInput, match="--selection") as refused:
        selection_of(typed)
    assert refused.value.code == "bad_selection"


def test_what_is_told_has_the_fields_that_are_taken() -> None:
    assert set(SelectionView.__annotations__) == set(SelectionBody.model_fields)


def test_two_ways_at_once_are_refused() -> None:
    with pytest.raises(InvalidInput, match="keys and filter are given"):
        SelectionBody.model_validate({"keys": ["a"], "filter": "a = 1"}).message()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"limit": True}, ("limit",)),
        ({"limit": "3"}, ("limit",)),
        ({"limit": 3.0}, ("limit",)),
        ({"reprocess": {"processor": "noop", "threshold": "0.7"}}, ("reprocess", "threshold")),
        ({"reprocess": {"processor": "noop", "threshold": True}}, ("reprocess", "threshold")),
    ],
)
def test_what_is_no_number_is_refused_by_its_field(given: dict[str, object], field: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        SelectionBody.model_validate(given)
    assert [error["loc"] for error in refused.value.errors()] == [field]


def test_a_whole_number_is_a_threshold() -> None:
    message = SelectionBody.model_validate({"reprocess": {"processor": "noop", "threshold": 1}}).message()
    assert message.reprocess.threshold == 1.0


def test_of_many_wrong_keys_one_is_told() -> None:
    with pytest.raises(ValidationError) as refused:
        SelectionBody.model_validate({"keys": [1] * 1_000})
    assert refused.value.error_count() == 1
