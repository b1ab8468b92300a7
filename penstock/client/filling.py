"""Messages from what callers give: a value that no field holds is the caller's mistake, told by name, all at once."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from penstock.runtime.errors import InvalidInput

__all__ = ["filled"]

M = TypeVar("M", bound=Message)


def filled(kind: type[M], /, **fields: object) -> M:
    """The message with these fields. Raises InvalidInput (code `bad_value`) that names every one that does not fit."""
    try:
        return kind(**fields)
    except (ValueError, TypeError):
        wrong = [name for name, value in fields.items() if not _fits(kind, name, value)]
        told = "; ".join(f"{name} can't be {str(fields[name])[:80]!r}" for name in wrong)
        raise InvalidInput(told or "the values don't fit together", code="bad_value") from None


def _fits(kind: type[Message], name: str, value: object) -> bool:
    try:
        kind(**{name: value})
    except (ValueError, TypeError):
        return False
    return True
