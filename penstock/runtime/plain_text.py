"""Text of a request that goes into SQL: PostgreSQL keeps no NUL, and what nobody reads is not kept."""

from __future__ import annotations

from penstock.runtime.errors import InvalidInput

__all__ = ["MAX_CHARACTERS", "plain_text"]

MAX_CHARACTERS = 200


def plain_text(value: str, field: str, *, most: int = MAX_CHARACTERS) -> str:
    """The value as it is. Raises InvalidInput (code `bad_text`) that names the field."""
    if len(value) > most:
        raise InvalidInput(f"{field} has {len(value):,} characters, at most {most:,} are taken", code="bad_text")
    if "\0" in value:
        raise InvalidInput(f"{field} has a NUL character, which no text may have", code="bad_text")
    return value
