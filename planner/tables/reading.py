"""One table from what was sent to a complete version, step by step. Runs in the child process.

What fails leaves nothing but files in the given folder, which goes with the upload. A query of DuckDB that fails
sends the parts through the slow pass once, which says what is wrong; if it finds nothing, what it wrote is tried.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from penstock.filter_places import nearest
from penstock.runtime.errors import InvalidInput
from penstock.runtime.parquet_files import literal
from planner.domain.rows import MAX_PAYLOAD_BYTES, MOST_OFFENDERS
from planner.domain.schema import Column, ColumnKind, Schema
from planner.domain.table_columns import (
    HASH,
    Parts,
    column_problems,
    guess_group,
    guess_key,
    guess_sort,
    part_problems,
)
from planner.domain.table_kinds import candidates
from planner.tables.csv_part import csv_part
from planner.tables.databases import database_part
from planner.tables.formats import format_of
from planner.tables.identity import Identity, identify
from planner.tables.json_part import folder_part, lines_part
from planner.tables.keys import KeyCounts, check_keys, count_keys, key_hint
from planner.tables.lines import Lines
from planner.tables.nesting import check_depth
from planner.tables.parquet_part import parquet_part
from planner.tables.parts import Part, raw_sql
from planner.tables.profile import GUARD, Profile, TypedColumn, class_sql, profile, seeming
from planner.tables.refusals import Problems, count_of, of_duckdb, refused, short
from planner.tables.snapshot import SnapshotQuery
from planner.tables.statistics import statistics
from planner.tables.unpacking import Plain, Unpacker, as_utf8
from planner.tables.wanted import ColumnStatistics, Database, Skipped, TableBounds, TableFile, TableVersion, Wanted

__all__ = ["connect", "read_table"]

SNAPSHOT = "snapshot.parquet"

WIDE_COLUMNS = 200
"""DuckDB holds some thousand cells of every column at once, for each thread: wider tables get one, and more memory."""
_COLUMN_BYTES = 512 << 10


def connect(folder: Path, bounds: TableBounds, *, files: Iterable[Path] = ()) -> duckdb.DuckDBPyConnection:
    """DuckDB over one folder and some files: no other file, no network, no extension, UTC."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": bounds.threads,
            "memory_limit": f"{bounds.memory_bytes >> 20}MiB",
            "temp_directory": str(folder / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_directories = [{literal(folder.resolve())}]")
    if files:
        connection.execute(f"SET allowed_paths = [{', '.join(literal(file.resolve()) for file in files)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def read_table(
    source: Sequence[TableFile] | Database, wanted: Wanted, *, folder: Path, bounds: TableBounds
) -> TableVersion:
    """The version that the files, or the database, have now. Raises InvalidInput, TooLarge, NotFound, Unavailable."""
    files = [] if isinstance(source, Database) else [file.path for file in source]
    connection = connect(folder, bounds, files=files)
    try:
        if isinstance(source, Database):
            parts: list[Part] = [database_part(source, folder, bounds)]
        else:
            parts = _file_parts(source, wanted, folder=folder, bounds=bounds, cursor=connection)
        by_key = isinstance(source, Database) and bool(source.table)
        columns = len({name for part in parts for name in part.columns})
        if columns > WIDE_COLUMNS:
            connection.close()
            connection = connect(folder, _wide(bounds, columns), files=files)
        try:
            return _Table(parts, wanted, folder, connection, by_key=by_key).version()
        except duckdb.OutOfMemoryException:
            connection.close()
            connection = connect(folder, _long(bounds), files=files)
            return _Table(parts, wanted, folder, connection, by_key=by_key).version()
        except duckdb.Error as first:
            if isinstance(first, duckdb.InternalException):
                raise
            parts = [part.cleaned(skip_bad=wanted.skip_bad) for part in parts]
            return _Table(parts, wanted, folder, connection, by_key=by_key).version()
    except duckdb.Error as error:
        raise of_duckdb(error, "the table") from error
    finally:
        connection.close()


def _long(bounds: TableBounds) -> TableBounds:
    """For rows of many kilobytes: DuckDB holds two thousand of them at once, for each thread, at each step."""
    return replace(bounds, threads=1, memory_bytes=2 * bounds.memory_bytes)


def _wide(bounds: TableBounds, columns: int) -> TableBounds:
    return replace(bounds, threads=1, memory_bytes=bounds.memory_bytes + columns * _COLUMN_BYTES)


def _file_parts(
    files: Sequence[TableFile],
    wanted: Wanted,
    *,
    folder: Path,
    bounds: TableBounds,
    cursor: duckdb.DuckDBPyConnection,
) -> list[Part]:
    lines = Lines(cursor, folder)
    unpacker = Unpacker(folder, bounds)
    parts, documents = list[Part](), list[Plain]()
    for file in files:
        for packed in unpacker.plain(file):
            plain = as_utf8(packed, lines.head(packed), folder)
            match format_of(plain, lines.head(plain), wanted.kind):
                case "jsonl":
                    parts.append(lines_part(plain, lines, skip_bad=wanted.skip_bad))
                case "json":
                    documents.append(plain)
                case "parquet":
                    parts.append(parquet_part(plain, cursor))
                case kind:
                    parts.append(csv_part(plain, tabs=kind == "tsv", folder=folder, lines=lines))
    if documents:
        parts.append(folder_part(documents, folder, lines, skip_bad=wanted.skip_bad))
    if not parts:
        raise InvalidInput("no file was sent", code="no_rows")
    return parts


@dataclass
class _Table:
    parts: list[Part]
    wanted: Wanted
    folder: Path
    cursor: duckdb.DuckDBPyConnection
    by_key: bool
    _query: SnapshotQuery = field(init=False)

    def version(self) -> TableVersion:
        names = list(dict.fromkeys(name for part in self.parts for name in part.columns))
        if not names:
            raise _no_rows()
        problems = column_problems(names)
        if problems:
            raise refused("the columns are refused", problems, code="bad_columns")
        roles, guessed = _parts(names, self.wanted)
        place = self.folder / SNAPSHOT
        found = self._write(names, roles, place)
        schema = Schema(
            columns=tuple(Column(column.name, column.kind) for column in found.columns),
            key=roles.key,
            group=roles.group,
            sort=roles.sort,
        )
        identity, told, counts = self._read(schema, found, place)
        if not identity.rows:
            raise _no_rows()
        skipped = Skipped()
        for part in self.parts:
            skipped += part.skipped
        large = self._large(place) if identity.large else Skipped()
        if large.count:
            self._query.write(place, self.cursor, most_bytes=MAX_PAYLOAD_BYTES)
            identity, told, counts = self._read(schema, found, place)
            skipped += large
        check_depth(found.columns, place, places=self._places, cursor=self.cursor)
        check_keys(counts, place, key=roles.key, guessed="key" in guessed, places=self._places, cursor=self.cursor)
        return TableVersion(
            version_id=identity.version_id,
            schema=schema,
            row_count=identity.rows,
            snapshot=place,
            statistics=told,
            notes=tuple(self._notes(found, place)),
            skipped=skipped,
            guessed=guessed,
        )

    def _read(
        self, schema: Schema, found: Profile, place: Path
    ) -> tuple[Identity, tuple[ColumnStatistics, ...], KeyCounts]:
        """What all rows of the snapshot tell, and the snapshot on the disk: who keeps it need not wait for that."""
        with closing(self.cursor.cursor()) as cursor, ThreadPoolExecutor(2) as pool:
            told = pool.submit(lambda: (statistics(found.columns, place, cursor), count_keys(place, cursor)))
            written = pool.submit(_write_through, place)
            identity = identify(schema, place, self.cursor, large_bytes=MAX_PAYLOAD_BYTES)
            written.result()
            return identity, *told.result()

    def _write(self, names: Sequence[str], roles: Parts, place: Path) -> Profile:
        """Makes the snapshot, of kinds that hold for all rows."""
        raw = raw_sql(self.parts, names)
        counts, found = seeming(raw, names, self.cursor)
        if found is not None:
            columns = [replace(column, typed=self._is_typed(column)) for column in found.columns]
            cells = raw_sql(self.parts, names, {column.name for column in columns if column.typed})
            try:
                self._query = SnapshotQuery(cells, columns, roles, empty=None, by_key=self.by_key)
                self._query.write(place, self.cursor)
                return found
            except duckdb.InvalidInputException as error:
                if GUARD not in str(error):
                    raise
        found = profile(raw, names, counts, self.cursor)
        self._query = SnapshotQuery(raw, found.columns, roles, empty=found.empty, by_key=self.by_key)
        self._query.write(place, self.cursor)
        return found

    def _is_typed(self, column: TypedColumn) -> bool:
        """Whether the column need not go by texts: wherever it stands, its values are of its kind."""
        there = [part.typed.get(column.name) for part in self.parts if column.name in part.columns]
        return all(one is not None and one.kind is column.kind for one in there)

    def _large(self, place: Path) -> Skipped:
        """Rows whose payload is too large: refused, or left out."""
        relation = f"read_parquet({literal(place.resolve())}, file_row_number = true)"
        found = self.cursor.execute(
            f"SELECT file_row_number, strlen(payload) FROM {relation} "
            f"WHERE strlen(payload) > {MAX_PAYLOAD_BYTES} ORDER BY 1"
        ).fetchall()
        if not found:
            return Skipped()
        at = self._places(row for row, _ in found[:MOST_OFFENDERS])
        told = [
            f"{at[row]} has {size:,} bytes as JSON, at most {MAX_PAYLOAD_BYTES:,} are taken"
            for row, size in found[:MOST_OFFENDERS]
        ]
        if not self.wanted.skip_bad:
            raise refused("the rows are refused", Problems(told, len(found)), code="row_too_large")
        return Skipped(len(found), tuple(told))

    def _places(self, rows: Iterable[int]) -> Mapping[int, str]:
        """Where rows of the snapshot stand in what was sent."""
        wanted = sorted(set(rows))
        if self.by_key:
            return {row: f"row {row + 1:,} by key" for row in wanted}
        if len(self.parts) == 1:
            return self.parts[0].places(wanted)
        found: dict[int, str] = {}
        first = 0
        for part in self.parts:
            every = ", ".join(f"NULLIF({text}, '')" for text in part.columns.values())
            answer = self.cursor.execute(
                f"SELECT count(*) FROM {part.relation} WHERE COALESCE({every}) IS NOT NULL"
            ).fetchone()
            end = first + (answer[0] if answer else 0)
            here = [row - first for row in wanted if first <= row < end]
            if here:
                found |= {first + row: f"{part.name}, {place}" for row, place in part.places(here).items()}
            first = end
        return found

    def _notes(self, found: Profile, place: Path) -> Iterable[str]:
        if found.empty:
            yield f"{count_of(found.empty, 'row was', 'rows were')} left out for having no value at all"
        for column in found.columns:
            if column.nans:
                yield f"column {column.name!r}: {count_of(column.nans, 'NaN', 'NaN')} taken as null"
            kind = _nearly(column)
            if kind is not None:
                yield from self._mixed(column, kind, place)

    def _mixed(self, column: TypedColumn, kind: ColumnKind, place: Path) -> Iterable[str]:
        value = f"f{column.place}"
        kinds = frozenset({kind, ColumnKind.WHOLE} if kind is ColumnKind.NUMBER else {kind})
        other = f"{value} IS NOT NULL AND {class_sql(value, kinds)} IS NULL"
        cells, others, first, example = self.cursor.execute(
            f"SELECT count({value}), count(*) FILTER ({other}), min(file_row_number) FILTER ({other}), "
            f"arg_min({value}, file_row_number) FILTER ({other}) "
            f"FROM read_parquet({literal(place.resolve())}, file_row_number = true)"
        ).fetchone() or (0, 0, 0, "")
        if 0 < others <= cells // 10:
            verb = "is" if others == 1 else "are"
            yield (
                f"column {column.name!r} is text: {others:,} of {cells:,} values {verb} "
                f"not of kind {kind}, the first is {short(example)} in row {first + 1:,}"
            )


def _write_through(place: Path) -> None:
    """Waits until the bytes of a file are on the disk. Raises OSError."""
    with place.open("rb") as file:
        os.fdatasync(file.fileno())


def _no_rows() -> InvalidInput:
    return InvalidInput("there is no row with a value in the table", code="no_rows")


def _nearly(column: TypedColumn) -> ColumnKind | None:
    """The kind that nearly all counted values of a text column have."""
    if column.kind is not ColumnKind.TEXT or not column.counts.cells:
        return None
    kinds = candidates(column.counts) - {ColumnKind.WHOLE}
    return next(iter(kinds), None)


def _parts(names: Sequence[str], wanted: Wanted) -> tuple[Parts, tuple[str, ...]]:
    """Which column plays which part, and what of it was guessed. Raises InvalidInput."""
    guessed = []
    key = () if wanted.key == (HASH,) and HASH not in names else wanted.key
    if not wanted.key:
        key = guess_key(names)
        guessed.append("key")
        if not key:
            raise InvalidInput(f"no column has the name of a key: {key_hint(names)}", code="no_key")
    group = guess_group(names) if wanted.group is None else wanted.group
    if wanted.group is None:
        guessed.append("group")
    if problems := part_problems({"key": key, "order": wanted.sort}):
        raise InvalidInput("; ".join(problems), code="bad_columns")
    named = (*key, *([group] if group else []), *wanted.sort)
    unknown = [name for name in dict.fromkeys(named) if name not in names]
    if unknown:
        told = "; ".join(
            f"there is no column {short(name)}; {nearest(name, names)}" for name in unknown[:MOST_OFFENDERS]
        )
        raise InvalidInput(told, code="unknown_column")
    return Parts(tuple(key), group, wanted.sort or guess_sort(names)), tuple(guessed)
