"""`planner.domain.natural` as an expression of DuckDB."""

from __future__ import annotations

__all__ = ["natural_sql"]

_LOWER = "translate({}, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')"
_DIGITS = "CASE WHEN ltrim(part, '0') = '' THEN '0' ELSE ltrim(part, '0') END"
_NUMBER = f"length(length({_DIGITS})::VARCHAR) || length({_DIGITS})::VARCHAR || {_DIGITS}"
_PARTS = "regexp_extract_all({}, '[0-9]+|[^0-9]+')"


def natural_sql(text: str) -> str:
    """The natural key of an expression that is a text and not null."""
    lower = _LOWER.format(text)
    parts = _PARTS.format(lower)
    each = f"list_transform({parts}, lambda part: CASE WHEN part[1] BETWEEN '0' AND '9' THEN {_NUMBER} ELSE part END)"
    # Most texts of most sources have no number in them.
    return f"CASE WHEN regexp_matches({text}, '[0-9]') THEN array_to_string({each}, '') ELSE {lower} END"
