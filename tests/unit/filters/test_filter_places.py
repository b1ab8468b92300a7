"""Where a filter is wrong, under a caret, and what its author may have meant."""

from __future__ import annotations

import pytest

from penstock.filter_places import caret
from penstock.filters import Field, Filter, Kind
from penstock.runtime.errors import InvalidInput

MANY = {f"column {number}": Field(Kind.TEXT) for number in range(200)} | {"brand": Field(Kind.TEXT)}


def refused(text: str, fields: dict[str, Field]) -> InvalidInput:
    with pytest.raises(InvalidInput) as told:
        Filter.parse(text, fields)
    return told.value


def test_of_many_fields_the_nearest_are_told_first_and_the_others_counted() -> None:
    error = refused("Brnad = Razer", MANY)
    assert "there is no such field; there are: brand, column 0, " in error.message
    assert error.message.endswith("and 191 more")
    assert "`column 199`" not in error.message


def test_of_few_fields_all_are_told_in_their_order() -> None:
    fields = {name: Field(Kind.TEXT) for name in ("zeta", "brand", "alpha")}
    assert refused("brant = a", fields).message.endswith("there are: zeta, brand, alpha")


def test_names_of_any_length_and_sign_make_a_short_error() -> None:
    fields = {"x" * 5_000 + str(number): Field(Kind.TEXT) for number in range(3)} | {"two\nlines": Field(Kind.TEXT)}
    message = refused("nothing = a", fields).message
    assert len(message) < 400
    assert "two lines" in message


def test_an_error_carries_the_place_as_two_lines() -> None:
    error = refused('brand = "Razer" AND\nprice ~ 5', MANY)
    line, below = error.metadata["line"], error.metadata["caret"]
    assert line == 'brand = "Razer" AND price ~ 5'
    assert line[below.index("^")] == "p"
    assert int(error.metadata["at"]) == 21


@pytest.mark.parametrize(
    ("text", "at", "line", "below"),
    [
        ("a = ", 5, "a = ", "    ^"),
        ("x" * 300, 151, f"…{'x' * 80}…", " " * 51 + "^"),
        ("名前 = 1", 4, "名前 = 1", "     ^"),
        ("e\u0301 ! 1", 4, "e\u0301 ! 1", "  ^"),
        ("\ta\x1b!", 4, " a !", "   ^"),
    ],
)
def test_the_caret_stands_under_the_character(text: str, at: int, line: str, below: str) -> None:
    assert caret(text, at) == (line, below)


def test_half_a_character_is_refused() -> None:
    assert "half of a character" in refused("brand = 'a\ud800'", MANY).message
