"""The names of a table's columns: which are refused, and what parts well-known ones play.

A name is compared by its words, so that `Product ID`, `productId` and `product_id` are one. Guesses look at names
alone, never at rows: a table that was registered once is read the same way when its rows have changed. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "HASH",
    "MAX_COLUMNS",
    "MAX_COLUMN_CHARACTERS",
    "MAX_PART_COLUMNS",
    "Parts",
    "column_problems",
    "guess_group",
    "guess_key",
    "guess_sort",
    "part_problems",
]

MAX_COLUMNS = 1_000
MAX_COLUMN_CHARACTERS = 200
MAX_PART_COLUMNS = 100
"""Of a key, and of an order: each costs work for every row."""
HASH = "hash"
"""As key: a hash of the row."""

_KEYS = (
    *("product_id", "item_id", "issue_id", "document_id", "record_id", "row_id", "id", "key", "uuid", "guid"),
    *("sku", "asin", "gtin", "ean", "isbn", "url", "html_url", "link", "number", "issue_number"),
)
_NUMBERS = frozenset({"number", "issue_number"})
"""What counts within a repository alone: with a repository column both are the key."""
_REPOSITORIES = ("repo", "repository", "repo_name", "repository_name", "project")
_GROUPS = (
    *("brand", "group", "vendor", "manufacturer", "category", *_REPOSITORIES, "section", "org", "organization"),
    *("organisation", "owner", "department", "collection"),
)
_SORTS = (
    ("brand", "vendor", "manufacturer", "make"),
    ("model", "name", "product_name", "title", "product", "label"),
    ("variant", "version", "edition", "color", "colour"),
)
_WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\x00-\x7f]+")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Parts:
    """What plays which part. `key`: empty for a hash of the row; `group`: empty for none."""

    key: tuple[str, ...]
    group: str
    sort: tuple[str, ...]


def column_problems(names: Sequence[str]) -> list[str]:
    """What is wrong with a table's column names, all of it."""
    if len(names) > MAX_COLUMNS:
        return [f"there are {len(names):,} columns, at most {MAX_COLUMNS:,} are taken"]
    problems = []
    places: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        if not name.strip():
            problems.append(f"column {place} has no name")
        elif len(name) > MAX_COLUMN_CHARACTERS:
            problems.append(
                f"the name of column {place} has {len(name):,} characters, at most {MAX_COLUMN_CHARACTERS} are taken"
            )
        elif _CONTROL.search(name):
            problems.append(f"the name of column {place}, {name!r}, has control characters")
        elif name.casefold() in places:
            first = places[name.casefold()]
            other = names[first - 1]
            how = (
                f"are both called {name!r}" if other == name else f"differ in letter case alone, {other!r} and {name!r}"
            )
            problems.append(f"columns {first} and {place} {how}")
        else:
            places[name.casefold()] = place
    return problems


def part_problems(parts: Mapping[str, Sequence[str]]) -> list[str]:
    """What is wrong with the columns that were named for each part, all of it; whether they are there is not asked."""
    problems = []
    for part, names in parts.items():
        if len(names) > MAX_PART_COLUMNS:
            problems.append(f"the {part} has {len(names):,} columns, at most {MAX_PART_COLUMNS} are taken")
        elif twice := sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"the {part} names {', '.join(map(repr, twice))} more than once")
    return problems


def guess_key(names: Sequence[str]) -> tuple[str, ...]:
    """The key columns by their names; none when no name is known."""
    found = _by_words(names)
    for name in _KEYS:
        if name not in found:
            continue
        repository = next((found[other] for other in _REPOSITORIES if other in found), None)
        if name in _NUMBERS and repository is not None:
            return repository, found[name]
        return (found[name],)
    return ()


def guess_group(names: Sequence[str]) -> str:
    """The group column by its name; empty when no name is known."""
    found = _by_words(names)
    return next((found[name] for name in _GROUPS if name in found), "")


def guess_sort(names: Sequence[str]) -> tuple[str, ...]:
    """The columns of the default order, those of `s0`, `s1`, `s2`: brand, model, variant or what plays their parts."""
    found = _by_words(names)
    guessed = (next((found[name] for name in part if name in found), "") for part in _SORTS)
    return tuple(name for name in guessed if name)


def _by_words(names: Sequence[str]) -> Mapping[str, str]:
    """Each name by its words; the first of those that are alike."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault("_".join(_WORD.findall(name)).lower(), name)
    return found
