"""Placeholders take values from items, and nothing in a value is read as anything but itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.declared.templates import MissingValue, Template, TemplateProblem, found, in_shell

ROOTS = ("payload", "parameters", "key")
VALUES = {
    "payload": {"url": "http://a/?b={key}", "n": 3, "yes": True, "list": ["x", {"y": 1}], "none": None, "nul": "a\0b"},
    "parameters": {"top": 2.5},
    "key": "k",
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{key}", "k"),
        ("--u={payload.url}!", "--u=http://a/?b={key}!"),
        ("{payload.n}{payload.yes}{parameters.top}", "3true2.5"),
        ("{payload.list}", '["x",{"y":1}]'),
        ("{payload.list.0}-{payload.list.1.y}", "x-1"),
        ("{{key}} }}{{", "{key} }{"),
        ("a{payload.none?}", None),
        ("{key}{payload.gone?}", None),
        ("{payload.n?}", "3"),
    ],
)
def test_values_stand_where_their_names_stood(text: str, filled: str | None) -> None:
    assert Template.parse(text, ROOTS).filled(VALUES) == filled


@pytest.mark.parametrize(
    "text", ["{payload.none}", "{payload.gone}", "{payload.url.0}", "{payload.list.9}", "{payload.nul}"]
)
def test_a_value_that_is_missing_is_told_by_its_name(text: str) -> None:
    with pytest.raises(MissingValue, match=text.strip("{}")):
        Template.parse(text, ROOTS).filled(VALUES)


@pytest.mark.parametrize(
    "text", ["{", "}", "{}", "{nobody}", "{payload}", "{key.a}", "{payload.}", "{payload..a}", "{ key }"]
)
def test_what_is_no_placeholder_is_refused(text: str) -> None:
    with pytest.raises(TemplateProblem):
        Template.parse(text, ROOTS)


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    assert Template.parse(text.replace("{", "{{").replace("}", "}}"), ROOTS).filled({}) == text


def test_nothing_is_at_a_place_that_is_not_there() -> None:
    assert found({"a": [{"b": 0}]}, ["a", "0", "b"]) == 0
    for path in (["a", "1"], ["a", "-1"], ["a", "b"], ["a", "0", "b", "c"], ["b"]):
        assert found({"a": [{"b": 0}]}, path) is None


def test_in_a_shell_values_are_quoted_variables() -> None:
    script, slots = in_shell(Template.parse("grep -- {payload.url} | cmd --key={key} # don't", ROOTS), "V")
    assert script == """grep -- "${V1}" | cmd --key="${V2}" # don't"""
    assert [slot.name for slot in slots] == ["payload.url", "key"]


@pytest.mark.parametrize(
    "text",
    ["'{key}'", '"{key}"', "'a' '{key}'", '"\'{key}"', "\\{key}", '"$(echo {key})"', "a{key}'{key}'", '"\\"{key}"'],
)
def test_within_quotes_no_value_stands(text: str) -> None:
    with pytest.raises(TemplateProblem, match="within quotes"):
        in_shell(Template.parse(text, ROOTS), "V")


@pytest.mark.parametrize("text", ["'a'{key}'b'", '"a"{key}', "a#'{key}", "\\\\{key}", "# it's\n{key}", "\\'{key}"])
def test_beside_quotes_a_value_may_stand(text: str) -> None:
    good = text if text != "a#'{key}" else "a#b{key}"
    assert '"${V1}"' in in_shell(Template.parse(good, ROOTS), "V")[0]
