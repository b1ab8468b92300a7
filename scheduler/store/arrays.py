"""Batches on their way to PostgreSQL and back: arrays as text, rows as plain tuples.

The driver turns lists into arrays value by value, in Python; joined texts cost a tenth of that. The statement says what
they are (`CAST(:seqs AS bigint[])`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

__all__ = ["array", "fetched"]


def array(values: Iterable[Any], type_: str) -> str:
    """The text of a PostgreSQL array of this type: text, bytea, boolean, or numbers."""
    if type_ == "text":
        return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"
    if type_ == "bytea":
        return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'


def fetched(result: sa.CursorResult[Any]) -> Sequence[tuple[Any, ...]]:
    """All rows as the driver gives them: half of what reading them as rows costs."""
    cursor = result.cursor
    assert cursor is not None, "the statement answers no rows"
    try:
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    except Exception as error:
        raise sa.exc.OperationalError("reading rows", None, error) from error
    result.close()
    return rows
