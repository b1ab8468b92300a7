"""JSON lines, and JSON files that become JSON lines, as a part of a table.

Columns stand in the order in which the first rows name them; names that only later rows have follow, sorted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from penstock.runtime.errors import InvalidInput, TooLarge
from penstock.runtime.parquet_files import literal
from planner.domain.natural import natural_key
from planner.domain.rows import MAX_LINE_BYTES, MOST_OFFENDERS
from planner.domain.table_columns import column_problems
from planner.tables.json_rows import has_trailing_comma, json_lines, rows_of_file
from planner.tables.lines import Lines
from planner.tables.parts import Part, identifier
from planner.tables.refusals import Problems, of_duckdb, refused
from planner.tables.unpacking import Plain

__all__ = ["JsonPart", "folder_part", "lines_part"]

MAX_FILE_BYTES = 64 << 20
"""Of a JSON file that is not lines: all of it is held at once."""

_FIRST_ROWS = 1_000
_COMMA = "regexp_matches(line, ',[ \t\r]*[}\\]]')"


@dataclass(frozen=True, kw_only=True)
class JsonPart(Part):
    """clean: what is read went through the slow pass. elements: of a folder of JSON files,
    where each file's lines begin, and the files' names."""

    plain: Plain
    lines: Lines
    clean: bool = False
    elements: tuple[Sequence[int], Sequence[str]] = ((), ())

    def cleaned(self, *, skip_bad: bool) -> JsonPart:
        source = self._unpacked()
        place = self.lines.folder / f"{source.name}.clean"
        problems = Problems()
        with place.open("wb") as out:
            for line in json_lines(source):
                if line.problem:
                    problems.add(line.problem)
                    if not skip_bad and problems.count > len(problems.first):
                        break
                elif not line.is_empty:
                    out.write(line.raw.strip() + b"\n")
        if problems.count and not skip_bad:
            raise refused(f"{self.name} is refused", problems, code="bad_rows")
        return self.named(_reader(place), skipped=problems)

    def places(self, rows: Iterable[int]) -> Mapping[int, str]:
        wanted = set(rows)
        found: dict[int, str] = {}
        # Where DuckDB took all lines, those that we would not take are rows, too.
        kept = (line for line in json_lines(self._unpacked()) if not (self.clean if line.problem else line.is_empty))
        for row, line in enumerate(kept):
            if row in wanted:
                found[row] = self._told(line.line)
                if len(found) == len(wanted):
                    break
        return found

    def named(self, reader: str, *, skipped: Problems | None = None) -> JsonPart:
        """With the columns that the lines have. Raises duckdb.Error, InvalidInput."""
        names = self.lines.names(reader.format(function="read_ndjson_objects", columns=""), _FIRST_ROWS)
        problems = column_problems(names)
        if problems:
            raise refused(f"the columns of {self.name} are refused", problems, code="bad_columns")
        types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
        columns = f", format = 'newline_delimited', columns = {{{types}}}"
        return replace(
            self,
            columns={name: identifier(name) for name in names},
            relation=reader.format(function="read_json", columns=columns),
            skipped=self.skipped + skipped.skipped() if skipped else self.skipped,
            clean=skipped is not None,
        )

    def _told(self, line: int) -> str:
        starts, names = self.elements
        if not starts:
            return f"line {line:,}"
        file = bisect_right(starts, line) - 1
        return f"{names[file]}, element {line - starts[file] + 1:,}"

    def _unpacked(self) -> Path:
        return self.lines.unpacked(self.plain) if self.plain.zstd else self.plain.path


def lines_part(plain: Plain, lines: Lines, *, skip_bad: bool) -> JsonPart:
    """JSON lines. Raises InvalidInput."""
    part = JsonPart(name=plain.name, columns={}, relation="", plain=plain, lines=lines)
    try:
        # Both read all of it: Python looks for commas while DuckDB looks for names.
        with ThreadPoolExecutor(1) as pool:
            named = pool.submit(part.named, _reader(plain.path, zstd=plain.zstd)) if not plain.zstd else None
            if _is_clean(plain, lines):
                return named.result() if named else part.named(_reader(plain.path, zstd=True))
    except duckdb.Error:
        pass  # the slow pass says why
    try:
        return part.cleaned(skip_bad=skip_bad)
    except duckdb.Error as error:
        raise of_duckdb(error, plain.name) from error


def folder_part(files: Sequence[Plain], folder: Path, lines: Lines, *, skip_bad: bool) -> JsonPart:
    """JSON files, in the natural order of their names, as JSON lines. Of several, `skip_bad` leaves out broken ones.

    Raises InvalidInput, for the first broken files together, TooLarge.
    """
    place = folder / "folder.jsonl"
    starts, names, line = list[int](), list[str](), 1
    problems, broken = Problems(), list[InvalidInput]()
    with place.open("wb") as out:
        for plain in sorted(files, key=lambda file: (natural_key(file.name), file.name)):
            path = lines.unpacked(plain) if plain.zstd else plain.path
            if path.stat().st_size > MAX_FILE_BYTES:
                raise TooLarge(
                    f"{plain.name} has more than {MAX_FILE_BYTES >> 20} MiB, the most of a JSON file; "
                    "send it as JSON lines, one object a line",
                    code="too_large",
                )
            try:
                rows = rows_of_file(plain.name, path.read_bytes())
            except InvalidInput as error:
                problems.add(error.message)
                broken.append(error)
                if len(broken) > MOST_OFFENDERS and not skip_bad:
                    break
                continue
            starts.append(line)
            names.append(plain.name)
            for row in rows:
                out.write(row)
                line += 1
    if len(broken) == 1 and (len(files) == 1 or not skip_bad):
        raise broken[0]
    if broken and (not skip_bad or len(broken) == len(files)):
        raise refused("the folder is refused", problems, code="bad_rows")
    name = files[0].name if len(files) == 1 else "the folder"
    whole = Plain(name, name, place)
    part = JsonPart(name=name, columns={}, relation="", plain=whole, lines=lines, elements=(starts, names))
    part = replace(part, skipped=problems.skipped())
    try:
        return part.named(_reader(place))
    except duckdb.Error as error:
        raise of_duckdb(error, name) from error


def _is_clean(plain: Plain, lines: Lines) -> bool:
    if not plain.zstd:
        return not has_trailing_comma(plain.path)
    return not lines.any_line(plain, _COMMA) or not has_trailing_comma(lines.unpacked(plain))


def _reader(path: Path, *, zstd: bool = False) -> str:
    packed = "zstd" if zstd else "none"
    return (
        f"{{function}}({literal(path.resolve()).replace('{', '{{').replace('}', '}}')}, compression = '{packed}', "
        f"maximum_object_size = {MAX_LINE_BYTES}{{columns}})"
    )
