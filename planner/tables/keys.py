"""Keys of a snapshot: every row has one, of a bounded size and without control characters, and no two have the same.

The common case costs one count, which needs nothing else of the table. Only where something is wrong are the offenders
looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from penstock.runtime.errors import InvalidInput
from penstock.runtime.parquet_files import literal
from planner.domain.rows import MAX_KEY_CHARACTERS, MOST_OFFENDERS
from planner.domain.table_columns import HASH
from planner.tables.refusals import Problems, count_of, refused, short, together

__all__ = ["KeyCounts", "check_keys", "count_keys", "key_hint"]

_CONTROL = "'[\\x00-\\x1f\\x7f]'"
_MISSING = "trim(key) = ''"
_HASH = "xor(hash(key), hash(reverse(key)) >> 1)"
"""DuckDB's hash of a text alone is the same for many keys that count up: for one of two hundred of ten million like
`P21-3`, and all keys were looked at for it. Shifted, since a key may be its own reverse."""


@dataclass(frozen=True)
class KeyCounts:
    """wrong, wrong_groups: rows whose key, or group, can't be one. hashes: how many different ones the keys have."""

    wrong: int
    wrong_groups: int
    rows: int
    hashes: int


def count_keys(snapshot: Path, cursor: duckdb.DuckDBPyConnection) -> KeyCounts:
    """Raises duckdb.Error."""
    found = cursor.execute(
        f"SELECT count(*) FILTER ({_wrong('key')}), count(*) FILTER ({_wrong_group()}), count(*), "
        f"count(DISTINCT {_HASH}) FROM {_relation(snapshot)}"
    ).fetchone()
    assert found is not None
    return KeyCounts(*found)


def check_keys(
    counts: KeyCounts,
    snapshot: Path,
    *,
    key: Sequence[str],
    guessed: bool,
    places: Callable[[Iterable[int]], Mapping[int, str]],
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    """Raises InvalidInput with all that is wrong: of each kind the first offenders, where they stand, and how many more
    there are."""
    # Equal keys have equal hashes: as many hashes as rows, and no two keys are equal.
    repeated = counts.hashes < counts.rows
    if not counts.wrong and not counts.wrong_groups and not repeated:
        return
    offenders = _Offenders(_relation(snapshot), places, cursor)
    told = []
    if counts.wrong:
        told += offenders.without_key()
        told += offenders.odd_keys()
    if repeated:
        told += offenders.repeated(hashed=not key)
    refusals = []
    if told:
        what = f"the key {'hash' if not key else ' / '.join(key)}{' (guessed from the name)' if guessed else ''}"
        hint = f" (another key can be named, or `{HASH}`)" if guessed and key else ""
        refusals.append(InvalidInput(f"{what} is refused: {'; besides, '.join(told)}{hint}", code="bad_key"))
    if counts.wrong_groups:
        refusals.append(refused("the group is refused", offenders.groups(counts.wrong_groups), code="bad_group"))
    if refusals:
        raise together(refusals)


def key_hint(names: Sequence[str]) -> str:
    """What could be done where no key is known by its name."""
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"name the key column (or several), or `{HASH}` to make a key of the whole row; the columns are {shown}"


@dataclass(frozen=True)
class _Offenders:
    """The first rows that are wrong, kind by kind; a kind that nothing is of is no sentence."""

    relation: str
    places: Callable[[Iterable[int]], Mapping[int, str]]
    cursor: duckdb.DuckDBPyConnection

    def without_key(self) -> list[str]:
        found, count = self._first("key", _MISSING)
        at = self.places(row for row, _ in found)
        problems = Problems([at[row] for row, _ in found], count)
        return [f"{count_of(count, 'row has', 'rows have')} no key: {problems.told}"] if count else []

    def odd_keys(self) -> list[str]:
        found, count = self._first("key", f"{_wrong('key')} AND NOT {_MISSING}")
        at = self.places(row for row, _ in found)
        problems = Problems([f"{at[row]} {_problem(value, 'key')}" for row, value in found], count)
        return [f"{count_of(count, 'row has', 'rows have')} no good one: {problems.told}"] if count else []

    def groups(self, count: int) -> Problems:
        found, _ = self._first('"group"', _wrong_group())
        at = self.places(row for row, _ in found)
        return Problems([f"{at[row]} {_problem(value, 'group')}" for row, value in found], count)

    def repeated(self, *, hashed: bool) -> list[str]:
        """Of keys that are good but for that."""
        good = f"(SELECT * FROM {self.relation} WHERE NOT {_wrong('key')})"
        twice = (
            f"SELECT key, min(file_row_number) AS first, count(*) AS rows FROM {good} WHERE hash(key) IN "
            f"(SELECT hash(key) FROM {good} GROUP BY 1 HAVING count(*) > 1) GROUP BY key HAVING count(*) > 1"
        )
        keys, extra = self.cursor.execute(f"SELECT count(*), sum(rows - 1) FROM ({twice})").fetchone() or (0, 0)
        if not keys:
            return []
        found = self.cursor.execute(
            f"WITH twice AS ({twice} ORDER BY first LIMIT {MOST_OFFENDERS}) "
            f"SELECT twice.key, first, min(file_row_number) FROM twice JOIN {self.relation} AS r "
            "ON r.key = twice.key AND file_row_number > first GROUP BY ALL ORDER BY first"
        ).fetchall()
        at = self.places(row for _, first, second in found for row in (first, second))
        problems = Problems(
            [f"{short(value)} stands in {at[first]} and in {at[second]}" for value, first, second in found], keys
        )
        many = f"stands more than once, {count_of(extra, 'row is', 'rows are')} too many: {problems.told}"
        if hashed:
            hint = " (rows that are equal have the same hash: remove them, or name a key column)"
            return [f"the same row {many}{hint}"]
        return [f"a key {many}"]

    def _first(self, column: str, condition: str) -> tuple[list[tuple[int, str]], int]:
        rows = f"FROM {self.relation} WHERE {condition}"
        (count,) = self.cursor.execute(f"SELECT count(*) {rows}").fetchone() or (0,)
        if not count:
            return [], 0
        first = f"SELECT file_row_number, {column} {rows} ORDER BY 1 LIMIT {MOST_OFFENDERS}"
        return self.cursor.execute(first).fetchall(), count


def _relation(snapshot: Path) -> str:
    return f"read_parquet({literal(snapshot.resolve())}, file_row_number = true)"


def _wrong(column: str) -> str:
    return f"(trim({column}) = '' OR length({column}) > {MAX_KEY_CHARACTERS} OR regexp_matches({column}, {_CONTROL}))"


def _wrong_group() -> str:
    return f'(length("group") > {MAX_KEY_CHARACTERS} OR regexp_matches("group", {_CONTROL}))'


def _problem(value: str, name: str) -> str:
    if len(value) > MAX_KEY_CHARACTERS:
        return f"has a {name} of {len(value):,} characters, at most {MAX_KEY_CHARACTERS:,} are taken"
    return f"has control characters in its {name} {short(value)}"
