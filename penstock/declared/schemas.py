"""JSON Schema, as much of it as declarations may use. Pure.

Keywords: type, enum, const, properties, required, additionalProperties, items, anyOf, minimum, maximum,
exclusiveMinimum, exclusiveMaximum, minLength, maxLength, pattern, minItems, maxItems; title, description, default,
examples and $comment say something to people. Any other keyword is refused when the declaration is read: a rule that
nobody checks is worse than none. `$ref` is among them, so a schema ends, and so does checking by it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["MAX_PROBLEMS", "schema_problems", "value_problems"]

MAX_PROBLEMS = 10
"""Told of one value."""

Path = tuple[str | int, ...]

_MAX_DEPTH = 50
_SHOWN_CHARACTERS = 60
_LITERALS = {None: "null", True: "true", False: "false"}


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _integer(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


_TYPES: Mapping[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _number,
    "integer": _integer,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_WORDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), (_whole, "a whole number from 0")),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), (_number, "a number")),
    **dict.fromkeys(("title", "description", "$comment"), (lambda value: isinstance(value, str), "text")),
    "required": (_texts, "a list of names"),
    "enum": (lambda value: isinstance(value, list) and bool(value), "a list of values"),
    "examples": (lambda value: isinstance(value, list), "a list"),
    "const": (lambda value: True, ""),
    "default": (lambda value: True, ""),
}
_BOUNDS = (
    ("minimum", operator.ge, "at least"),
    ("maximum", operator.le, "at most"),
    ("exclusiveMinimum", operator.gt, "more than"),
    ("exclusiveMaximum", operator.lt, "less than"),
)
_STRUCTURE = ("type", "properties", "additionalProperties", "items", "anyOf", "pattern")


def schema_problems(schema: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """(where, what) of everything in a schema that can't be checked by."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield path, "a schema is a table"
        return
    if len(path) > 2 * _MAX_DEPTH:
        yield path, f"schemas may be nested {_MAX_DEPTH} deep"
        return
    for word, value in schema.items():
        here = (*path, word)
        if word in _WORDS:
            right, what = _WORDS[word]
            if not right(value):
                yield here, f"{word} is {what}"
        elif word not in _STRUCTURE:
            yield here, f"{word} is not among the keywords that are checked: {', '.join((*_STRUCTURE, *_WORDS))}"
    yield from _type_problems(schema, path)
    if "pattern" in schema:
        try:
            re.compile(schema["pattern"])
        except (re.error, TypeError) as error:
            yield (*path, "pattern"), f"pattern is no regular expression: {error}"
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        yield (*path, "properties"), "properties is a table of schemas"
    else:
        for name, one in properties.items():
            yield from schema_problems(one, (*path, "properties", name))
    for word in ("additionalProperties", "items"):
        if word in schema:
            yield from schema_problems(schema[word], (*path, word))
    if "anyOf" in schema:
        if not isinstance(schema["anyOf"], list) or not schema["anyOf"]:
            yield (*path, "anyOf"), "anyOf is a list of schemas"
        else:
            for place, one in enumerate(schema["anyOf"]):
                yield from schema_problems(one, (*path, "anyOf", place))


def _type_problems(schema: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    types = schema.get("type", [])
    for one in types if isinstance(types, list) else [types]:
        if not isinstance(one, str) or one not in _TYPES:
            yield (*path, "type"), f"type is {one!r}; there are {', '.join(_TYPES)}"


def value_problems(schema: Mapping[str, Any] | bool, value: object, name: str) -> list[str]:
    """What of a value its schema does not allow: sentences that name the place, `name` being that of the value."""
    found: list[str] = []
    for problem in _problems(schema, value, name):
        if len(found) == MAX_PROBLEMS:
            found.append("and more")
            break
        found.append(problem)
    return found


def _problems(schema: Any, value: Any, name: str) -> Iterator[str]:
    if isinstance(schema, bool):
        if not schema:
            yield f"{name} is not expected"
        return
    types = schema.get("type", ())
    types = [types] if isinstance(types, str) else types
    if types and not any(_TYPES[one](value) for one in types):
        yield f"{name} is {_shown(value)}, not of type {' or '.join(types)}"
        return
    if "enum" in schema and not any(_equal(value, one) for one in schema["enum"]):
        yield f"{name} is {_shown(value)}, not one of {', '.join(map(_shown, schema['enum']))}"
    if "const" in schema and not _equal(value, schema["const"]):
        yield f"{name} is {_shown(value)}, not {_shown(schema['const'])}"
    if "anyOf" in schema and not any(next(_problems(one, value, name), "") == "" for one in schema["anyOf"]):
        yield f"{name} is {_shown(value)}, which none of the schemas of its anyOf allows"
    if isinstance(value, str):
        yield from _size(schema, len(value), "Length", name, "characters")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{name} is {_shown(value)}, which does not match {schema['pattern']}"
    elif isinstance(value, list):
        yield from _size(schema, len(value), "Items", name, "elements")
        if "items" in schema:
            for place, one in enumerate(value):
                yield from _problems(schema["items"], one, f"{name}.{place}")
    elif isinstance(value, Mapping):
        yield from _object(schema, value, name)
    elif _number(value):
        yield from _range(schema, value, name)


def _object(schema: Mapping[str, Any], value: Mapping[str, Any], name: str) -> Iterator[str]:
    missing: Sequence[str] = [one for one in schema.get("required", ()) if one not in value]
    if missing:
        yield f"{name} has no {', '.join(missing)}"
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for key, one in value.items():
        if key in properties:
            yield from _problems(properties[key], one, f"{name}.{key}")
        elif others is not True:
            yield from _problems(others, one, f"{name}.{key}")


def _range(schema: Mapping[str, Any], value: float, name: str) -> Iterator[str]:
    for word, right, what in _BOUNDS:
        if word in schema and not right(value, schema[word]):
            yield f"{name} is {value}, it may be {what} {schema[word]}"


def _size(schema: Mapping[str, Any], size: int, what: str, name: str, unit: str) -> Iterator[str]:
    least, most = schema.get(f"min{what}", 0), schema.get(f"max{what}")
    if size < least:
        yield f"{name} has {size:,} {unit}, at least {least:,} are needed"
    if most is not None and size > most:
        yield f"{name} has {size:,} {unit}, at most {most:,} are possible"


def _equal(one: object, other: object) -> bool:
    """As JSON has it: 1 is 1.0, and true is no number."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = _LITERALS.get(value, "") if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
