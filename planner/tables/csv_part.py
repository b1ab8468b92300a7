"""A CSV as a part of a table.

DuckDB reads it by positions: names never reach SQL. What it can't read (mixed line ends among it) goes through the slow
pass once and comes out as a CSV that every reader takes alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from penstock.runtime.errors import InvalidInput
from penstock.runtime.parquet_files import literal
from planner.domain.rows import MAX_LINE_BYTES
from planner.domain.table_columns import column_problems
from planner.tables.csv_rows import Record, delimiter_of, records, write_record
from planner.tables.lines import Lines
from planner.tables.parts import Part
from planner.tables.refusals import Problems, refused
from planner.tables.unpacking import Plain

__all__ = ["CsvPart", "csv_part", "relation_of"]

_BUFFER_BYTES = MAX_LINE_BYTES
"""The smallest that holds any line: what a thread has read waits in memory for what comes before it."""


@dataclass(frozen=True, kw_only=True)
class CsvPart(Part):
    plain: Plain
    delimiter: bytes
    folder: Path
    lines: Lines
    clean: bool = False

    def cleaned(self, *, skip_bad: bool) -> Part:
        found, problems = records(self._unpacked(), self.delimiter, columns=len(self.columns)), Problems()
        place = self.folder / f"{self.plain.path.name}.clean"
        with place.open("wb") as out:
            for record in found:
                if record.problem:
                    problems.add(record.problem)
                    if not skip_bad and problems.count > len(problems.first):
                        break
                elif not record.is_empty:
                    out.write(write_record(record.cells))
        if problems.count and not skip_bad:
            raise refused(f"{self.name} is refused", problems, code="bad_rows")
        return replace(
            self,
            relation=relation_of(place, b",", len(self.columns), parallel=False),
            skipped=problems.skipped(),
            clean=True,
        )

    def places(self, rows: Iterable[int]) -> Mapping[int, str]:
        wanted = set(rows)
        found: dict[int, str] = {}
        whole = records(self._unpacked(), self.delimiter, columns=len(self.columns))
        # Where DuckDB took all records, those that we would not take are rows, too.
        kept = (one for one in islice(whole, 1, None) if not (self.clean if one.problem else one.is_empty))
        for row, record in enumerate(kept):
            if row in wanted:
                found[row] = f"line {record.line:,}"
                if len(found) == len(wanted):
                    break
        return found

    def _unpacked(self) -> Path:
        return self.lines.unpacked(self.plain) if self.plain.zstd else self.plain.path


def csv_part(plain: Plain, *, tabs: bool, folder: Path, lines: Lines) -> CsvPart:
    """Reads the header. Raises InvalidInput."""
    head = lines.head(plain)
    delimiter = b"\t" if tabs else delimiter_of(head)
    header = _header(plain, delimiter, lines)
    names = [cell.decode() for cell in header.cells]
    problems = column_problems(names)
    if problems:
        raise refused(f"the columns of {plain.name} are refused", problems, code="bad_columns")
    columns = {name: f"c{place}" for place, name in enumerate(names)}
    part = CsvPart(
        name=plain.name,
        columns=columns,
        relation=relation_of(plain.path, delimiter, len(names), zstd=plain.zstd),
        plain=plain,
        delimiter=delimiter,
        folder=folder,
        lines=lines,
    )
    if header.line > 1 or any(b"\n" in cell or b"\r" in cell for cell in header.cells):
        return part.cleaned(skip_bad=False)  # type: ignore[return-value]
    return part


def _header(plain: Plain, delimiter: bytes, lines: Lines) -> Record:
    place = lines.first_lines(plain) if plain.zstd else plain.path
    header = next(records(place, delimiter), None)
    if header is None:
        raise InvalidInput(f"{plain.name} is empty: a header and at least one row are expected", code="no_rows")
    if header.problem:
        raise refused(f"{plain.name} is refused", [header.problem], code="bad_rows")
    return header


def relation_of(path: Path, delimiter: bytes, columns: int, *, zstd: bool = False, parallel: bool = True) -> str:
    """A CSV with a header as a relation of texts c0, c1, …

    parallel: several threads, which guess where rows begin; DuckDB checks that they agree, and may give up.
    """
    types = ", ".join(f"c{place}: 'VARCHAR'" for place in range(columns))
    packed, mark = "zstd" if zstd else "none", literal(delimiter.decode())
    return (
        f"read_csv({literal(path.resolve())}, compression = '{packed}', auto_detect = false, header = true, "
        f"delim = {mark}, quote = '\"', escape = '\"', columns = {{{types}}}, "
        f"max_line_size = {MAX_LINE_BYTES}, buffer_size = {_BUFFER_BYTES}, parallel = {str(parallel).lower()})"
    )
