"""A page token is one of ours or is refused as input; it never reaches SQL as a number that a column can't hold."""

from __future__ import annotations

import pytest

from penstock.runtime.errors import InvalidInput
from penstock.runtime.paging import page_position, whole_number


@pytest.mark.parametrize("token", ["9" * 25, str(2**63), "-1", "+1", " 1", "1_0", "１２", "²", "x", "\0", "9" * 5_000])
def test_a_foreign_token_is_bad_input(token: str) -> None:
    with pytest.raises(InvalidInput) as told:
        page_position(token)
    assert told.value.code == "bad_page_token"
    assert len(told.value.message) < 500


def test_our_own_tokens_are_their_numbers() -> None:
    assert [page_position(token) for token in ("", "0", "17", str(2**63 - 1))] == [None, 0, 17, 2**63 - 1]


def test_a_narrow_column_sets_its_own_bound() -> None:
    assert page_position("2147483647", most=2**31 - 1) == 2**31 - 1
    with pytest.raises(InvalidInput):
        page_position("2147483648", most=2**31 - 1)
    assert whole_number("2147483648", most=2**31 - 1) is None
