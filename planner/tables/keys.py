"""Keys of a snapshot: every row has one, of a bounded size and without control characters, and no two have the same.

The common case costs one count of hashes. Only where something is wrong are the offenders looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import duckdb

from penstock.runtime.parquet_files import literal
from planner.domain.rows import MAX_KEY_CHARACTERS, MOST_OFFENDERS
from planner.domain.table_columns import HASH
from planner.tables.refusals import Problems, count_of, refused, short

__all__ = ["check_keys", "key_hint"]

_CONTROL = "'[\\x00-\\x1f\\x7f]'"


def check_keys(
    snapshot: Path,
    *,
    key: Sequence[str],
    guessed: bool,
    places: Callable[[Iterable[int]], Mapping[int, str]],
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    """Raises InvalidInput with the first offenders, where they stand, and how many more there are."""
    relation = f"read_parquet({literal(snapshot.resolve())}, file_row_number = true)"
    # Equal keys have equal hashes: as many hashes as rows, and no two keys are equal.
    wrong, groups, rows, hashes = cursor.execute(
        f"SELECT count(*) FILTER ({_wrong('key')}), count(*) FILTER ({_wrong_group()}), count(*), "
        f"count(DISTINCT hash(key)) FROM {relation}"
    ).fetchone() or (0, 0, 0, 0)
    what = f"the key {'hash' if not key else ' / '.join(key)}{' (guessed from the name)' if guessed else ''}"
    if wrong:
        found = cursor.execute(
            f"SELECT file_row_number, key FROM {relation} WHERE {_wrong('key')} ORDER BY 1 LIMIT {MOST_OFFENDERS}"
        ).fetchall()
        at = places(row for row, _ in found)
        problems = Problems([f"{at[row]} {_problem(value)}" for row, value in found], wrong)
        raise refused(
            f"{what} is refused: {count_of(wrong, 'row has', 'rows have')} no good one",
            problems,
            code="bad_key",
            hint=_hint(guessed),
        )
    if groups:
        found = cursor.execute(
            f'SELECT file_row_number, "group" FROM {relation} WHERE {_wrong_group()} ORDER BY 1 LIMIT {MOST_OFFENDERS}'
        ).fetchall()
        at = places(row for row, _ in found)
        problems = Problems([f"{at[row]} {_problem(value, 'group')}" for row, value in found], groups)
        raise refused("the group is refused", problems, code="bad_group")
    if hashes < rows:
        _check_repeated(relation, what, key, guessed, places, cursor)


def key_hint(names: Sequence[str]) -> str:
    """What could be done where no key is known by its name."""
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"name the key column (or several), or `{HASH}` to make a key of the whole row; the columns are {shown}"


def _check_repeated(
    relation: str,
    what: str,
    key: Sequence[str],
    guessed: bool,
    places: Callable[[Iterable[int]], Mapping[int, str]],
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    twice = (
        f"SELECT key, min(file_row_number) AS first, count(*) AS rows FROM {relation} "
        "WHERE hash(key) IN (SELECT hash(key) FROM {0} GROUP BY 1 HAVING count(*) > 1) GROUP BY key HAVING count(*) > 1"
    ).format(relation)
    keys, extra = cursor.execute(f"SELECT count(*), sum(rows - 1) FROM ({twice})").fetchone() or (0, 0)
    if not keys:
        return
    found = cursor.execute(
        f"WITH twice AS ({twice} ORDER BY first LIMIT {MOST_OFFENDERS}) SELECT twice.key, first, min(file_row_number) "
        f"FROM twice JOIN {relation} AS r ON r.key = twice.key AND file_row_number > first GROUP BY ALL ORDER BY first"
    ).fetchall()
    at = places(row for _, first, second in found for row in (first, second))
    told = [f"{short(value)} stands in {at[first]} and in {at[second]}" for value, first, second in found]
    rows = "the same row" if not key else "a key"
    hint = " (rows that are equal have the same hash: remove them, or name a key column)" if not key else _hint(guessed)
    raise refused(
        f"{what} is refused: {rows} stands more than once, {count_of(extra, 'row is', 'rows are')} too many",
        Problems(told, keys),
        code="bad_key",
        hint=hint,
    )


def _wrong(column: str) -> str:
    return f"(trim({column}) = '' OR length({column}) > {MAX_KEY_CHARACTERS} OR regexp_matches({column}, {_CONTROL}))"


def _wrong_group() -> str:
    return f'(length("group") > {MAX_KEY_CHARACTERS} OR regexp_matches("group", {_CONTROL}))'


def _problem(value: str, name: str = "key") -> str:
    if not value.strip():
        return f"has no {name}"
    if len(value) > MAX_KEY_CHARACTERS:
        return f"has a {name} of {len(value):,} characters, at most {MAX_KEY_CHARACTERS:,} are taken"
    return f"has control characters in its {name} {short(value)}"


def _hint(guessed: bool) -> str:
    return f" (another key can be named, or `{HASH}`)" if guessed else ""
