"""JSON is checked by the keywords that declarations may use, and by no other is it pretended to be."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.declared.schemas import MAX_PROBLEMS, schema_problems, value_problems


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, None),
        ({"type": "object"}, {}),
        ({"type": ["string", "null"]}, None),
        ({"type": "integer"}, 3.0),
        ({"type": "number", "minimum": 1, "exclusiveMaximum": 2}, 1.5),
        ({"enum": [1, "a"]}, 1.0),
        ({"const": [True, {"a": 1}]}, [True, {"a": 1}]),
        ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"a": "x", "b": 1}),
        ({"required": ["a"]}, "no object"),
        ({"additionalProperties": {"type": "integer"}}, {"a": 1}),
        ({"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "maxItems": 2}, ["a", None]),
        ({"minLength": 2, "maxLength": 2, "pattern": "b"}, "äb"),
        (True, object()),
    ],
)
def test_what_is_allowed_passes(schema: Any, value: object) -> None:
    assert not list(schema_problems(schema))
    assert value_problems(schema, value, "it") == []


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"type": "object"}, [], "it is an array, not of type object"),
        ({"type": "integer"}, True, "it is true, not of type integer"),
        ({"type": "number"}, None, "it is null"),
        ({"enum": [1]}, True, "not one of 1"),
        ({"const": 0}, False, "not 0"),
        ({"minimum": 1}, 0, "at least 1"),
        ({"exclusiveMinimum": 1}, 1, "more than 1"),
        ({"maximum": 1}, 2, "at most 1"),
        ({"exclusiveMaximum": 1}, 1, "less than 1"),
        ({"minLength": 2}, "a", "1 characters, at least 2"),
        ({"maxItems": 0}, [1], "1 elements, at most 0"),
        ({"pattern": "^a"}, "b", "does not match ^a"),
        ({"required": ["a", "b"]}, {"b": 1}, "it has no a"),
        ({"properties": {"a": {"type": "string"}}}, {"a": 1}, "it.a is 1"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1, "b": 1}, "it.b is not expected"),
        ({"items": {"type": "string"}}, ["a", 2], "it.1 is 2"),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, 2, "none of the schemas"),
        (False, 1, "not expected"),
    ],
)
def test_what_is_not_allowed_is_told_with_its_place(schema: Any, value: object, words: str) -> None:
    assert not list(schema_problems(schema))
    (problem,) = value_problems(schema, value, "it")
    assert words in problem


def test_few_problems_of_a_value_are_told() -> None:
    told = value_problems({"items": {"type": "string"}}, list(range(1_000)), "it")
    assert len(told) == MAX_PROBLEMS + 1
    assert told[-1] == "and more"


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ([], ()),
        ({"type": "text"}, ("type",)),
        ({"type": ["string", 3]}, ("type",)),
        ({"format": "uri"}, ("format",)),
        ({"$ref": "#"}, ("$ref",)),
        ({"pattern": "("}, ("pattern",)),
        ({"minLength": -1}, ("minLength",)),
        ({"minimum": "1"}, ("minimum",)),
        ({"required": "a"}, ("required",)),
        ({"properties": {"a": {"type": "x"}}}, ("properties", "a", "type")),
        ({"anyOf": []}, ("anyOf",)),
        ({"items": {"anyOf": [{}, {"enum": []}]}}, ("items", "anyOf", 1, "enum")),
        ({"additionalProperties": 3}, ("additionalProperties",)),
    ],
)
def test_a_schema_that_nobody_can_check_by_is_refused(schema: Any, place: tuple[str | int, ...]) -> None:
    assert [path for path, _ in schema_problems(schema)] == [place]


def test_a_schema_is_not_nested_without_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"items": schema}
    assert any("deep" in what for _, what in schema_problems(schema))
