"""Any filter: what is written is what is meant, NOT turns it round, and what is decided early is never taken back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.filters import Field, Filter, Kind
from penstock.runtime.errors import InvalidInput

FIELDS = {"brand": Field(Kind.TEXT), "price": Field(Kind.NUMBER), "sold": Field(Kind.BOOLEAN)}
TEXTS = st.sampled_from(["", "a", "B", "ab", "it's", 'a "b"', "ü"])
NUMBERS = st.integers(-3, 3)
VALUES = st.fixed_dictionaries(
    {}, optional={"brand": st.none() | TEXTS, "price": st.none() | NUMBERS, "sold": st.none() | st.booleans()}
)
Meant = Any
"""A filter as nested tuples."""
LEAVES: st.SearchStrategy[Meant] = st.one_of(
    st.tuples(st.sampled_from(["=", "!="]), st.just("brand"), TEXTS),
    st.tuples(st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.just("price"), NUMBERS),
    st.tuples(st.just("="), st.just("sold"), st.booleans()),
    st.tuples(st.just("null"), st.sampled_from(sorted(FIELDS)), st.none()),
)
MEANT: st.SearchStrategy[Meant] = st.recursive(
    LEAVES,
    lambda part: st.tuples(st.sampled_from(["AND", "OR"]), part, part) | st.tuples(st.just("NOT"), part, st.none()),
    max_leaves=8,
)


def written(meant: Meant) -> str:
    operator, left, right = meant
    if operator in ("AND", "OR"):
        return f"({written(left)} {operator} {written(right)})"
    if operator == "NOT":
        return f"NOT ({written(left)})"
    if operator == "null":
        return f"{left} is null"
    if isinstance(right, bool):
        return f"{left} = {str(right).lower()}"
    if isinstance(right, int):
        return f"{left} {operator} {right}"
    mark = '"' if "'" in right else "'"
    return f"{left} {operator} {mark}{right}{mark}"


def holds(meant: Meant, values: Mapping[str, object]) -> bool:
    operator, left, right = meant
    if operator == "AND":
        return holds(left, values) and holds(right, values)
    if operator == "OR":
        return holds(left, values) or holds(right, values)
    if operator == "NOT":
        return not holds(left, values)
    value: Any = values.get(left)
    if operator == "null":
        return value is None
    if value is None:
        return bool(operator == "!=")
    tests = {"=": value == right, "!=": value != right}
    if operator in tests:
        return bool(tests[operator])
    return bool({"<": value < right, "<=": value <= right, ">": value > right, ">=": value >= right}[operator])


@given(MEANT, VALUES)
def test_what_is_written_is_what_is_meant(meant: Meant, values: dict[str, object]) -> None:
    assert Filter.parse(written(meant), FIELDS).matches(values) == holds(meant, values)
    assert Filter.parse(f"NOT ({written(meant)})", FIELDS).matches(values) != holds(meant, values)


@given(MEANT, VALUES, st.sets(st.sampled_from(sorted(FIELDS))))
def test_what_is_decided_early_holds_with_all_fields(meant: Meant, values: dict[str, object], some: set[str]) -> None:
    chosen = Filter.parse(written(meant), FIELDS)
    decided = chosen.decide({name: values.get(name) for name in some})
    assert decided is None or decided == chosen.matches(values)
    assert chosen.decide({name: values.get(name) for name in FIELDS}) == chosen.matches(values)


@given(st.text(max_size=40) | st.lists(st.sampled_from(["brand", "=", "(", ")", "AND", "NOT", "1", "'"])).map(" ".join))
def test_any_text_is_a_filter_or_is_refused_in_a_sentence(text: str) -> None:
    code = "bad_filter"
    try:
        Filter.parse(text, FIELDS)
    except InvalidInput as error:
        code = error.code
    assert code == "bad_filter"
