"""Filters: what they take, what they refuse and in which words."""

from __future__ import annotations

import pytest

from penstock.filters import EVERYTHING, Field, Filter, Kind
from penstock.runtime.errors import InvalidInput

FIELDS = {
    "brand": Field(Kind.TEXT),
    "variant": Field(Kind.TEXT),
    "price": Field(Kind.NUMBER),
    "sold": Field(Kind.BOOLEAN),
    "made": Field(Kind.TIME),
    "state": Field(Kind.TEXT, ("queued", "failed", "completed")),
    "odd name": Field(Kind.TEXT),
}
ROWS: list[dict[str, object]] = [
    {"brand": "Razer", "variant": "Black", "price": 70, "sold": True, "made": 0, "state": "failed", "odd name": "a%b"},
    {"brand": "Razer", "variant": "white", "price": 49.5, "sold": False, "made": 1_000, "state": "queued"},
    {"brand": "razer", "variant": None, "price": None, "sold": None, "made": None, "state": "failed", "odd name": ""},
    {"brand": "Größe", "variant": "É_black", "price": -3, "sold": True, "made": 2_000, "state": "completed"},
]


def taken(text: str) -> list[int]:
    chosen = Filter.parse(text, FIELDS)
    return [index for index, row in enumerate(ROWS) if chosen.matches(row)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [0, 1, 2, 3]),
        ('brand = "Razer" AND (price < 50 OR NOT variant:black)', [1]),
        ("brand = Razer", [0, 1]),
        ("brand != Razer", [2, 3]),
        ("NOT brand = Razer", [2, 3]),
        ("variant:BLACK", [0, 3]),
        ("not variant : black", [1, 2]),
        ("price < 50", [1, 3]),
        ("NOT price < 50", [0, 2]),
        ("price != 70", [1, 2, 3]),
        ("price >= -3 and price <= 49.5", [1, 3]),
        ("price > 4.95e1", [0]),
        ("state in (failed, completed)", [0, 2, 3]),
        ("state in (failed) or price = 49.5", [0, 1, 2]),
        ("price is null", [2]),
        ("price IS NOT NULL", [0, 1, 3]),
        ("sold = true", [0, 3]),
        ("sold != TRUE", [1, 2]),
        ("`odd name`:'%'", [0]),
        ("`odd name` = ''", [2]),
        ("brand = 'Größe'", [3]),
        ("brand >= a", [2]),
        ('made > "1970-01-01T00:00:00Z"', [1, 3]),
        ('made <= "1970-01-01T01:00:01+01:00"', [0, 1]),
        ("(((price = 70)))", [0]),
        ("not not price = 70", [0]),
        ('brand = "Ra\\zer"', [0, 1]),
        ("state:fail", [0, 2]),
    ],
)
def test_a_filter_takes_what_it_says(text: str, expected: list[int]) -> None:
    assert taken(text) == expected


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("price <", 8, "a value of price was expected"),
        ("price 5", 7, "after price one of != <= >="),
        ("prize = 5", 1, "there are: brand, variant"),
        ("price = cheap", 9, "price is a number"),
        ('price = "5"', 9, "price is a number"),
        ("price = 1e999", 9, "that large"),
        ("price = 99999999999999999999", 9, "that large"),
        ("price:5", 6, "looks for a part of a text"),
        ("sold < true", 6, "no order"),
        ("sold = yes", 8, "true or false"),
        ("state = faild", 9, "queued, failed, completed"),
        ("state > failed", 7, "no order"),
        ("state in failed", 10, "a list in parentheses"),
        ("state in (failed", 17, "a comma or )"),
        ("state in ()", 11, "a value of state"),
        ("brand = a AND price = 1 OR sold = true", 25, "put parentheses around"),
        ("(brand = a", 11, "the ) of the ( at character 1"),
        ("brand = a)", 10, "there is no ( before it"),
        ("brand = two words", 13, "texts with spaces stand in quotes"),
        ('brand = "open', 9, 'the closing " is missing'),
        ('"brand" = a', 1, "texts in quotes are values"),
        ("a-b = 1", 1, "`backticks`"),
        ("brand = null", 9, "`brand is null`"),
        ("brand is 5", 10, "`is not null`"),
        ("brand == a", 8, "a value of brand"),
        ("= 5", 1, "a comparison was expected"),
        ("sold", 5, "was expected, e.g. sold = true"),
        ("brand = a AND", 14, "a comparison was expected"),
        ("! brand = a", 1, "no filter has this sign"),
        ("made > yesterday", 8, "2026-01-31"),
        ("brand = 'a\0b'", 9, "NUL"),
        ("(" * 60 + "price = 1" + ")" * 60, 52, "nested more than 50 deep"),
        ("not " * 60 + "price = 1", 209, "nested more than 50 deep"),
        ("price = 1 or " * 600 + "price = 2", 6501, "more than 500 comparisons; `in (…)` takes many"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, at: int, words: str) -> None:
    with pytest.raises(InvalidInput) as told:
        Filter.parse(text, FIELDS)
    assert told.value.code == "bad_filter"
    assert words in told.value.message
    assert told.value.metadata["at"] == str(at), told.value.message


def test_a_filter_of_any_length_is_bounded() -> None:
    with pytest.raises(InvalidInput, match="at most 10,000"):
        Filter.parse("price = 1 AND " * 1_000 + "price = 1", FIELDS)


def test_what_a_filter_names_is_known() -> None:
    chosen = Filter.parse("(state = failed OR NOT state = queued) AND price is null", FIELDS)
    assert chosen.names == {"state", "price"}
    assert chosen.asks_for("state", "failed")
    assert not chosen.asks_for("state", "queued")
    assert not chosen.asks_for("brand", "failed")


def test_with_some_fields_unknown_it_decides_what_it_can() -> None:
    chosen = Filter.parse("state = failed AND brand = Razer", FIELDS)
    assert chosen.decide({"state": "queued"}) is False
    assert chosen.decide({"state": "failed"}) is None
    assert chosen.decide({"state": "failed", "brand": "Razer"}) is True
    assert Filter.parse("state = failed OR brand = Razer", FIELDS).decide({"state": "failed"}) is True
    assert Filter.parse("NOT state = failed", FIELDS).decide({"state": None}) is True
    assert EVERYTHING.decide({}) is True


def test_false_is_no_zero_whoever_asked_first() -> None:
    by_truth, by_number = {"a": Field(Kind.BOOLEAN)}, {"a": Field(Kind.NUMBER)}
    for _ in range(2):
        assert not Filter.parse("a = false", by_truth).matches({"a": 0})
        assert Filter.parse("a = 0", by_number).matches({"a": 0})
        assert Filter.parse("a = true", by_truth).matches({"a": True})
        assert not Filter.parse("a = 1", by_number).matches({"a": True})
