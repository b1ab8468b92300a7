"""Natural order, in Python and in DuckDB."""

from __future__ import annotations

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from planner.domain.natural import MOST_CHARACTERS, natural_key
from planner.natural_sql import natural_of_parts, natural_parts, natural_sql

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30) | st.text(
    "aB09 -.é\x01\x02", max_size=12
)
PROSE = st.builds(
    lambda text, times, end: text * times + end,
    st.text("aB09 -é\x01\u0301", min_size=1, max_size=9),
    st.integers(20, 90),
    st.text("a09é", max_size=5),
)
"""Shorter and longer than MOST_CHARACTERS."""


def test_numbers_compare_by_size_and_letters_without_case() -> None:
    names = ["Viper 10", "viper 9", "Viper V2 Pro", "viper", "Viper 9 SE", "Viper 1000000000000"]
    assert sorted(names, key=natural_key) == [
        "viper",
        "viper 9",
        "Viper 9 SE",
        "Viper 10",
        "Viper 1000000000000",
        "Viper V2 Pro",
    ]
    assert natural_key("v007") == natural_key("V7")


def test_numbers_of_prose_have_a_size_at_its_beginning_alone() -> None:
    before = "x" * MOST_CHARACTERS
    assert sorted([f"9 {before} 10", f"10 {before}", f"9 {before} 9"], key=natural_key) == [
        f"9 {before} 10",
        f"9 {before} 9",
        f"10 {before}",
    ]


@given(st.integers(0, 10**30), st.integers(0, 10**30), st.text("abc", max_size=3))
def test_of_two_numbers_the_larger_comes_later(one: int, two: int, before: str) -> None:
    assert (natural_key(f"{before}{one}") < natural_key(f"{before}{two}")) == (one < two)


@given(st.lists(TEXTS | PROSE, min_size=1, max_size=20))
def test_duckdb_says_the_same(texts: list[str]) -> None:
    parts = f"SELECT t, {natural_parts('t')} AS p FROM (SELECT unnest($texts) AS t)"
    query = f"SELECT {natural_sql('t')}, {natural_of_parts('p')} FROM ({parts})"
    found = duckdb.execute(query, {"texts": texts}).fetchall()
    assert found == [(natural_key(text), natural_key(text)) for text in texts]


def test_duckdb_says_the_same_of_numbers_at_the_end_of_strange_letters() -> None:
    before = ["", "é ", "e\u0301", "\u0600", "\U0001f468\u200d\U0001f469", "\n", "İ", "\x01\x02"]
    texts = [f"{one}{number}" for one in before for number in ("7", "10", "123", "2048", "10000", "007", "0")]
    test_duckdb_says_the_same.hypothesis.inner_test(texts)  # type: ignore[attr-defined]
