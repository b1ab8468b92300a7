"""Page tokens: the number of the place where the next page begins, as digits."""

from __future__ import annotations

from penstock.runtime.errors import InvalidInput

__all__ = ["page_position", "whole_number"]

MOST = 2**63 - 1


def whole_number(text: str, *, most: int = MOST) -> int | None:
    """The number that these ASCII digits write; None for any other text and for more than `most`."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most))):
        return None
    number = int(text)
    return number if number <= most else None


def page_position(token: str, *, most: int = MOST) -> int | None:
    """The position that a page token holds; None for the first page. Raises InvalidInput for one that we did not make.

    `most` is the largest number that the column behind it takes.
    """
    if not token:
        return None
    position = whole_number(token, most=most)
    if position is None:
        raise InvalidInput(
            f"page_token {token[:80]!r} is none of ours: give next_page_token as it was", code="bad_page_token"
        )
    return position
