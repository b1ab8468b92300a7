"""What Python sees of a file through DuckDB: of a zstd file its beginning and its lines, of JSON lines their names.

Bytes go through DuckDB as Latin-1, so nothing is lost but the kind of line end: a CR LF within a quoted cell becomes
an LF here, in the slow pass alone. Other files are read as they are.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from penstock.runtime.parquet_files import literal
from planner.domain.rows import MAX_LINE_BYTES
from planner.domain.table_columns import MAX_COLUMNS
from planner.tables.refusals import of_duckdb
from planner.tables.unpacking import Plain

__all__ = ["Lines"]

HEAD_BYTES = 64 << 10
_LINES = (
    "read_csv({}, compression = 'zstd', encoding = 'latin-1', auto_detect = false, header = false, quote = '', "
    f"escape = '', delim = '\x1f', columns = {{{{line: 'VARCHAR'}}}}, strict_mode = false, "
    f"max_line_size = {2 * MAX_LINE_BYTES}, buffer_size = {8 * MAX_LINE_BYTES})"
)
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
        query = f"SELECT 1 FROM {_LINES.format(literal(plain.path.resolve()))} WHERE {condition} LIMIT 1"
        return self._cursor.execute(query).fetchone() is not None

    def names(self, objects: str, first: int) -> list[str]:
        """The names that the `json` of a relation have: those of the first rows in order, the others sorted."""
        rows = self._cursor.execute(f"SELECT json_keys(json) FROM {objects} LIMIT {first}").fetchall()
        names = dict.fromkeys(name for row in rows for name in row[0] or ())
        # Lists first: most rows have the same one.
        every = self._cursor.execute(
            f"SELECT DISTINCT unnest(names) FROM (SELECT DISTINCT json_keys(json) AS names FROM {objects}) "
            f"LIMIT {len(names) + MAX_COLUMNS + 1}"
        ).fetchall()
        return [*names, *sorted({row[0] for row in every} - names.keys())]

    def _written(self, plain: Plain, suffix: str, limit: str) -> Path:
        place = self.folder / f"{plain.path.name}.{suffix}"
        if place.exists():
            return place
        try:
            with place.open("wb") as out:
                found = self._cursor.execute(f"SELECT line FROM {_LINES.format(literal(plain.path.resolve()))}{limit}")
                while rows := found.fetchmany(_BATCH):
                    out.write(b"".join((row[0] or "").encode("latin-1") + b"\n" for row in rows))
        except duckdb.Error as error:
            place.unlink(missing_ok=True)
            raise of_duckdb(error, plain.name) from error
        return place
