"""Filters as they are understood: a tree of comparisons, and what it takes. Pure.

Two-valued: a field that is missing or null equals nothing, is less than nothing and holds no part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

__all__ = ["And", "Compare", "IsNull", "Node", "Not", "Or", "Value", "decide", "folded", "leaves", "test"]

_FOLD = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}

Value = str | int | float | bool
T = TypeVar("T", str, float)


@dataclass(frozen=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    part: Node


@dataclass(frozen=True)
class IsNull:
    name: str


@dataclass(frozen=True)
class Compare:
    """`operator` is one of = < <= > >= : (with one value), or in."""

    name: str
    operator: str
    values: tuple[Value, ...]
    kinds: tuple[type, ...] = field(init=False, repr=False)
    """Of the values: false is no 0, though Python takes them for equal, and what is equal is kept once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(map(type, self.values)))


Node = And | Or | Not | IsNull | Compare


def folded(text: str) -> str:
    """The text with ASCII letters in lower case, as `:` compares it; other letters stay, as in every database."""
    return text.translate(_FOLD)


def leaves(node: Node | None, *, wanted: bool) -> list[tuple[IsNull | Compare, bool]]:
    """Every comparison, and whether what it takes is wanted or left out."""
    if node is None:
        return []
    if isinstance(node, Not):
        return leaves(node.part, wanted=not wanted)
    if isinstance(node, And | Or):
        return [leaf for part in node.parts for leaf in leaves(part, wanted=wanted)]
    return [(node, wanted)]


def decide(node: Node, known: Mapping[str, object]) -> bool | None:
    """Whether it takes these values; None when that depends on fields that are not known."""
    if isinstance(node, Not):
        answer = decide(node.part, known)
        return None if answer is None else not answer
    if isinstance(node, And | Or):
        enough = isinstance(node, Or)
        answers = [decide(part, known) for part in node.parts]
        if enough in answers:
            return enough
        return None if None in answers else not enough
    return test(node)(known) if node.name in known else None


@lru_cache(maxsize=1_024)
def test(node: Node) -> Callable[[Mapping[str, object]], bool]:
    """The node as a function: a filter is asked of many thousand rows."""
    if isinstance(node, Not):
        part = test(node.part)
        return lambda values: not part(values)
    if isinstance(node, And):
        every = [test(part) for part in node.parts]
        return lambda values: all(one(values) for one in every)
    if isinstance(node, Or):
        some = [test(part) for part in node.parts]
        return lambda values: any(one(values) for one in some)
    name = node.name
    if isinstance(node, IsNull):
        return lambda values: values.get(name) is None
    tests = [_comparison(node.operator, value) for value in node.values]
    if len(tests) == 1:
        (only,) = tests
        return lambda values: only(values.get(name))
    return lambda values: any(one(values.get(name)) for one in tests)


def _comparison(operator: str, value: Value) -> Callable[[object], bool]:
    if operator == ":":
        part = folded(str(value))
        return lambda held: isinstance(held, str) and part in folded(held)
    if isinstance(value, bool):
        return lambda held: held is value
    if isinstance(value, str):
        return lambda held: isinstance(held, str) and _ordered(held, operator, value)
    return lambda held: (
        isinstance(held, int | float) and held is not True and held is not False and _ordered(held, operator, value)
    )


def _ordered(held: T, operator: str, value: T) -> bool:
    if operator in ("=", "in"):
        return held == value
    if operator in ("<", "<="):
        return held < value or (operator == "<=" and held == value)
    return held > value or (operator == ">=" and held == value)
