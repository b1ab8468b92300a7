"""What Python sees of a file through DuckDB: of a zstd file its beginning and its lines, of JSON lines their names.

Text goes through DuckDB as UTF-8, so nothing is lost but the kind of line end: a CR LF within a quoted cell becomes an
LF here, in the slow pass alone. What is no UTF-8 goes through as Latin-1, so that the slow pass finds its place; but
DuckDB's Latin-1 has no bytes 0x80-0x9F, so with one of these the file is refused here. Other files are read as is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from penstock.runtime.errors import InvalidInput, PenstockError
from penstock.runtime.parquet_files import literal
from planner.domain.rows import MAX_LINE_BYTES
from planner.domain.table_columns import MAX_COLUMNS
from planner.tables.refusals import of_duckdb
from planner.tables.unpacking import Plain

__all__ = ["Lines"]

HEAD_BYTES = 64 << 10
_LINES = (
    "read_csv({}, compression = 'zstd', encoding = '{}', auto_detect = false, header = false, quote = '', "
    f"escape = '', delim = '\x1f', columns = {{{{line: 'VARCHAR'}}}}, strict_mode = false, "
    f"max_line_size = {2 * MAX_LINE_BYTES}, buffer_size = {8 * MAX_LINE_BYTES})"
)
_NO_UTF8 = re.compile(r"Error on Line: (\d+).*not utf-8 encoded", re.DOTALL)
_FIRST = 100
_BATCH = 2_048


class Lines:
    def __init__(self, cursor: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._cursor = cursor
        self.folder = folder

    def head(self, plain: Plain) -> bytes:
        """The beginning of a file, unpacked."""
        if not plain.zstd:
            with plain.path.open("rb") as file:
                return file.read(HEAD_BYTES)
        with self.first_lines(plain).open("rb") as file:
            return file.read(HEAD_BYTES)

    def first_lines(self, plain: Plain) -> Path:
        """A file with the first lines."""
        return self._written(plain, "head", f" LIMIT {_FIRST}")

    def unpacked(self, plain: Plain) -> Path:
        """A file with all lines."""
        return self._written(plain, "lines", "")

    def any_line(self, plain: Plain, condition: str) -> bool:
        """Whether some `line` meets the condition."""
        query = f"SELECT 1 FROM {_lines(plain)} WHERE {condition} LIMIT 1"
        return self._cursor.execute(query).fetchone() is not None

    def names(self, objects: str, first: int) -> list[str]:
        """The names that the `json` of a relation have: those of the first rows in order, the others sorted."""
        rows = self._cursor.execute(f"SELECT json_keys(json) FROM {objects} LIMIT {first}").fetchall()
        names = dict.fromkeys(name for row in rows for name in row[0] or ())
        # Lists first: most rows have the same one, and one is known.
        every = self._cursor.execute(
            "SELECT DISTINCT unnest(names) FROM (SELECT DISTINCT names FROM "
            f"(SELECT json_keys(json) AS names FROM {objects}) WHERE names <> $known::VARCHAR[]) "
            f"LIMIT {len(names) + MAX_COLUMNS + 1}",
            {"known": _most(row[0] or () for row in rows)},
        ).fetchall()
        return [*names, *sorted({row[0] for row in every} - names.keys())]

    def _written(self, plain: Plain, suffix: str, limit: str) -> Path:
        place = self.folder / f"{plain.path.name}.{suffix}"
        if place.exists():
            return place
        try:
            self._write(place, plain, "utf-8", limit)
        except duckdb.Error as error:
            if not self._is_latin(place, plain, limit):
                place.unlink(missing_ok=True)
                raise _refusal(error, plain.name) from error
        return place

    def _is_latin(self, place: Path, plain: Plain, limit: str) -> bool:
        try:
            self._write(place, plain, "latin-1", limit)
        except duckdb.Error:
            return False
        return True

    def _write(self, place: Path, plain: Plain, encoding: str, limit: str) -> None:
        with place.open("wb") as out:
            found = self._cursor.execute(f"SELECT line FROM {_lines(plain, encoding)}{limit}")
            while rows := found.fetchmany(_BATCH):
                out.write(b"".join((row[0] or "").encode(encoding) + b"\n" for row in rows))


def _most(lists: Iterable[Sequence[str]]) -> list[str]:
    """The list that is there most often."""
    return list(max(Counter(map(tuple, lists)).items(), key=lambda item: item[1], default=((), 0))[0])


def _lines(plain: Plain, encoding: str = "utf-8") -> str:
    return _LINES.format(literal(plain.path.resolve()), encoding)


def _refusal(error: duckdb.Error, name: str) -> PenstockError:
    if (found := _NO_UTF8.search(str(error))) is None:
        return of_duckdb(error, name)
    return InvalidInput(f"{name} is refused: line {int(found[1]):,}: not UTF-8; save it as UTF-8", code="bad_rows")
