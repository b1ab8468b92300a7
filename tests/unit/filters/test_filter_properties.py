"""Any filter: what is written is what is meant, NOT turns it round, and what is decided early is never taken back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.filters import Field, Filter, Kind
from penstock.runtime.errors import InvalidInput

ODD = "odd `name` and \\ AND é"
"""A column that only backticks can name."""
FIELDS = {
    "brand": Field(Kind.TEXT),
    ODD: Field(Kind.TEXT),
    "price": Field(Kind.NUMBER),
    "sold": Field(Kind.BOOLEAN),
    "made": Field(Kind.TIME),
}
TEXTS = st.sampled_from(
    ["", "a", "B", "ab", "it's", 'a "b"', "ü", "Ü", "ẞ", "ß", "İ", "\u212a", "k", "\\", "%", "null"]
)
ASKED = st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 0.1, -2.5, 1e-300, 2**53, 2**53 + 1, 1 - 2**63])
HELD = ASKED | st.sampled_from([-(2**63), 10**30, 1e300])
TIMES = st.sampled_from([0, -1, 1, 951_782_400_000, 1_709_164_800_000, 4_102_444_800_000])
"""Milliseconds: the epoch, leap days, far away."""
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "brand": st.none() | TEXTS,
        ODD: st.none() | TEXTS,
        "price": st.none() | HELD,
        "sold": st.none() | st.booleans(),
        "made": st.none() | TIMES,
    },
)
ORDERS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
Meant = Any
"""A filter as nested tuples."""
LEAVES: st.SearchStrategy[Meant] = st.one_of(
    st.tuples(ORDERS | st.just(":"), st.sampled_from(["brand", ODD]), TEXTS),
    st.tuples(ORDERS, st.just("price"), ASKED),
    st.tuples(st.just("in"), st.just("price"), st.lists(ASKED, min_size=1, max_size=3)),
    st.tuples(st.just("in"), st.just(ODD), st.lists(TEXTS, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["=", "!="]), st.just("sold"), st.booleans()),
    st.tuples(ORDERS, st.just("made"), TIMES),
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
    name = left if left.isidentifier() else "`" + left.replace("\\", "\\\\").replace("`", "``") + "`"
    if operator == "null":
        return f"{name} is null"
    if operator == "in":
        return f"{name} in ({', '.join(said(left, value) for value in right)})"
    return f"{name} {operator} {said(left, right)}"


def said(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if name == "made":
        return f'"{(datetime(1970, 1, 1) + timedelta(milliseconds=value)).isoformat()}Z"'
    if isinstance(value, (int, float)):
        return repr(value)
    mark = '"' if "'" in value else "'"
    return mark + str(value).replace("\\", "\\\\").replace(mark, f"\\{mark}") + mark


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
    if operator == "in":
        return value in right
    if operator == ":":
        return folded(right) in folded(value)
    tests = {"=": value == right, "!=": value != right}
    if operator in tests:
        return bool(tests[operator])
    return bool({"<": value < right, "<=": value <= right, ">": value > right, ">=": value >= right}[operator])


def folded(text: str) -> str:
    """The letters of ASCII have no case; all others do, since no two databases agree about them."""
    return "".join(chr(ord(sign) + 32) if "A" <= sign <= "Z" else sign for sign in text)


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
