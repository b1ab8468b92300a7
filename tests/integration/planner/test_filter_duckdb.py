"""A filter as a condition of DuckDB takes exactly what it takes in memory, whatever stands in the columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.filters import Filter
from planner.domain.schema import Column, ColumnKind, Schema
from planner.fields import columns_of, fields_of
from planner.filter_duckdb import condition

EPOCH = datetime(1970, 1, 1)
ODD = ["Razer", "razer", "RAZER 9", "É", "é", "\u212a", "K", "k", "İ", "ı", "i", "ß", "SS", "\U0001f600", "\uffff"]
ODD += ["a%b", "_", "", " ", "\\", "'", '"', "`", "--", "$p0", "10", "9", "a\nb", "NULL", "nan"]
TEXTS = st.sampled_from(ODD) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
LARGE = [2**53, 2**53 + 1, 2**53 - 1, -(2**53) - 1, 2**62 + 1, 2**63 - 1, -(2**63) + 1]
WHOLES = st.sampled_from([0, 1, -1, 2, 3, *LARGE]) | st.integers(-5, 5)
FLOATS = st.sampled_from([0.0, -0.0, 0.5, -0.5, 2.5, 1e-300, 9.2e18, float(2**53), *map(float, LARGE[3:5])])
MOMENTS = st.integers(-5_000_000_000, 5_000_000_000) | st.sampled_from([-1, 0, 1, 253_402_300_799_999])
HELD: dict[ColumnKind, st.SearchStrategy[object]] = {
    ColumnKind.TEXT: TEXTS,
    ColumnKind.JSON: st.sampled_from(['{"a":"Razer"}', "[1,2]", '{"a":9}']),
    ColumnKind.WHOLE: WHOLES,
    ColumnKind.NUMBER: FLOATS | WHOLES.map(float) | st.sampled_from([math.nan, math.inf, -math.inf]),
    ColumnKind.BOOLEAN: st.booleans(),
    ColumnKind.TIME: MOMENTS,
}
NUMBERS = (WHOLES | FLOATS).map(repr)
ASKED: dict[ColumnKind, st.SearchStrategy[str]] = {
    ColumnKind.TEXT: TEXTS.map(lambda text: quoted(text, '"')),
    ColumnKind.JSON: st.sampled_from(["'razer'", "'9'", "'[1,2]'"]),
    ColumnKind.WHOLE: NUMBERS,
    ColumnKind.NUMBER: NUMBERS,
    ColumnKind.BOOLEAN: st.sampled_from(["true", "false"]),
    ColumnKind.TIME: MOMENTS.map(lambda ms: f'"{(EPOCH + timedelta(milliseconds=ms)).isoformat()}Z"'),
}
TYPES = ["VARCHAR", "VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP_MS"]


def quoted(text: str, mark: str) -> str:
    return mark + text.replace("\\", "\\\\").replace(mark, mark * 2 if mark == "`" else f"\\{mark}") + mark


Written = Callable[[Sequence[str]], str]
"""A filter that still lacks the columns' names: strategies that are made once are drawn from much faster."""


def comparisons(place: int, kind: ColumnKind) -> st.SearchStrategy[Written]:
    asked = ASKED[kind]
    signs = ["=", "!="] if kind is ColumnKind.BOOLEAN else ["=", "!=", "<", "<=", ">", ">="]
    signs += [":"] * 3 if kind in (ColumnKind.TEXT, ColumnKind.JSON) else []
    ends = st.one_of(
        st.tuples(st.sampled_from(signs), asked).map(" ".join),
        st.lists(asked, min_size=1, max_size=3).map(lambda values: f"in ({', '.join(values)})"),
        st.sampled_from(["is null", "is not null"]),
    )
    return ends.map(lambda end: lambda names: f"{quoted(names[place], '`')} {end}")


def joined(parts: tuple[Written, str, Written]) -> Written:
    left, word, right = parts
    return lambda names: f"({left(names)}) {word} ({right(names)})"


def turned(part: Written) -> Written:
    return lambda names: f"NOT ({part(names)})"


KINDS = [ColumnKind.TEXT, ColumnKind.JSON, ColumnKind.WHOLE, ColumnKind.NUMBER, ColumnKind.BOOLEAN, ColumnKind.TIME]
NAMES = st.lists(TEXTS, min_size=len(KINDS), max_size=len(KINDS), unique=True)
FILTERS: st.SearchStrategy[Written] = st.recursive(
    st.one_of(*(comparisons(place, kind) for place, kind in enumerate(KINDS))),
    lambda inner: inner.map(turned) | st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(joined),
    max_leaves=5,
)
ROWS = st.lists(st.tuples(*(st.none() | HELD[kind] for kind in KINDS)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as one:
        yield one


@settings(max_examples=600, deadline=None)
@given(names=NAMES, written=FILTERS, rows=ROWS)
def test_duckdb_takes_exactly_what_is_taken_in_memory(
    connection: duckdb.DuckDBPyConnection, names: list[str], written: Written, rows: list[tuple[object, ...]]
) -> None:
    schema = Schema(tuple(map(Column, names, KINDS)), key=(), group="", sort=())
    chosen = Filter.parse(written(names), fields_of(schema))
    values: dict[str, object] = {}
    asked = condition(chosen, columns_of(schema), values)
    held = {f"f{at}": list(column) for at, column in enumerate(zip(*rows, strict=True))}
    held["f5"] = [moment(ms) for ms in held["f5"]]
    columns = [f"unnest(${name}::{type_}[]) AS {name}" for name, type_ in zip(held, TYPES, strict=True)]
    found = connection.execute(
        f"SELECT number FROM (SELECT unnest(range({len(rows)})) AS number, {', '.join(columns)}) "
        f"WHERE {asked} ORDER BY number",
        values | held,
    ).fetchall()
    assert [row[0] for row in found] == [
        at for at, row in enumerate(rows) if chosen.matches(dict(zip(names, row, strict=True)))
    ]


def moment(ms: object) -> object:
    return EPOCH + timedelta(milliseconds=ms) if isinstance(ms, int) else None


def test_no_text_of_a_filter_reaches_the_statement() -> None:
    schema = Schema((Column("a", ColumnKind.TEXT), Column("n", ColumnKind.NUMBER)), key=("a",), group="", sort=())
    values: dict[str, object] = {}
    chosen = Filter.parse("a in (secret, 'x') OR NOT a:secret OR n > 12345", fields_of(schema))
    asked = condition(chosen, columns_of(schema), values)
    assert "secret" not in asked
    assert "12345" not in asked
    assert list(values) == ["p0", "p1", "p2", "p3"]


def test_the_longest_and_deepest_filters_are_no_trouble() -> None:
    schema = Schema((Column("n", ColumnKind.WHOLE), Column("t", ColumnKind.TEXT)), key=("n",), group="", sort=())
    for text in (" OR ".join(f"n = {number}" for number in range(500)), "NOT (" * 25 + "t:X" + ")" * 25):
        values: dict[str, object] = {}
        chosen = Filter.parse(text, fields_of(schema))
        asked = condition(chosen, columns_of(schema), values)
        query = f"SELECT count(*) FROM (SELECT i AS f0, 'ax' AS f1 FROM range(1000) AS t(i)) WHERE {asked}"
        taken = [chosen.matches({"n": n, "t": "ax"}) for n in range(1000)]
        assert duckdb.execute(query, values).fetchone() == (sum(taken),)


@pytest.mark.parametrize(
    ("text", "value", "taken"),
    [
        ("n = 9007199254740993", 2**53, False),
        ("n = 9007199254740993", 2**53 + 1, True),
        ("n < 9007199254740992.5", 2**53, False),
        ("n > 2.5", 3, True),
        ("n >= 2.5", 2, False),
        ("n in (2.5, 7.0)", 7, True),
    ],
)
def test_a_whole_number_is_compared_exactly(text: str, value: int, taken: bool) -> None:
    schema = Schema((Column("n", ColumnKind.WHOLE),), key=("n",), group="", sort=())
    values: dict[str, object] = {}
    chosen = Filter.parse(text, fields_of(schema))
    asked = condition(chosen, columns_of(schema), values)
    found = duckdb.execute(f"SELECT 1 FROM (SELECT {value}::BIGINT AS f0) WHERE {asked}", values).fetchall()
    assert bool(found) == taken == chosen.matches({"n": value})


def test_times_are_utc_whatever_the_connection_says() -> None:
    schema = Schema((Column("t", ColumnKind.TIME),), key=("t",), group="", sort=())
    values: dict[str, object] = {}
    ms = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp() * 1000)
    chosen = Filter.parse('t = "2026-01-31T13:00:00+01:00"', fields_of(schema))
    asked = condition(chosen, columns_of(schema), values)
    with duckdb.connect() as connection:
        query = f"SELECT count(*) FROM (SELECT epoch_ms({ms}) AS f0) WHERE {asked}"
        assert connection.execute(query, values).fetchone() == (1,)
