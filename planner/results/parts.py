"""Parts as Parquet files: written, merged and read by DuckDB.

A part has a row an outcome, as it was told: what stands in several parts, or several times in one, is one of them (the
latest settle number of an item of a run). `latest` is the table that people select from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from penstock.runtime.parquet_files import ParquetFiles, literal

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "LATER",
    "OUTCOME_COLUMNS",
    "Origin",
    "OutcomeRow",
    "Parts",
    "latest",
    "latest_of",
    "listed",
    "outcomes_of_run",
    "run_id_of",
]

_ROW_GROUP = 20_480
_WRITE = f"FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {_ROW_GROUP}, ROW_GROUP_SIZE_BYTES '16MB'"
MAX_LINE_BYTES = 4 << 20

OUTCOME_COLUMNS = {
    "stage": "INTEGER",
    "seq": "BIGINT",
    "settle_number": "BIGINT",
    "key": "VARCHAR",
    "group": "VARCHAR",
    "state": "VARCHAR",  # completed, failed
    "kind": "VARCHAR",  # of a failure
    "error": "VARCHAR",
    "fingerprint": "VARCHAR",
    "confidence": "DOUBLE",  # the result's top-level number of that name
    "result": "VARCHAR",  # JSON; null where it is a blob
    "result_blob": "VARCHAR",
    "cost_micros": "BIGINT",
    "tries": "INTEGER",
    "healed": "BOOLEAN",
    "start_ms": "BIGINT",
    "end_ms": "BIGINT",
}
"""Of an outcome as the scheduler tells it."""


@dataclass(frozen=True)
class Origin:
    """Whose outcomes they are. source: its name, or the id of a version that has none; parameters: a hash of them."""

    run_id: str
    number: int
    stage: int
    source: str
    processor: str
    version: str
    parameters: str


OutcomeRow = dict[str, object]
"""By OUTCOME_COLUMNS."""

_SAME = '"source", "key", processor, version, parameters, payload, state'
"""Of outcomes that agree in these the latest is enough: who asks what was done asks no further back."""
_ITEM = "run_id, stage, seq"
"""Of an item that failed in its run, outcomes of other runs are not enough: people ask what failed in that one."""
LATER = "end_ms DESC NULLS LAST, number DESC, settle_number DESC"


class Parts:
    """`files` may read and write the folder of blobs. Calls block."""

    def __init__(self, files: ParquetFiles) -> None:
        self._files = files

    @staticmethod
    def line(row: OutcomeRow) -> bytes:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)

    def write(self, lines: Path, plan: Path, place: Path, origin: Origin) -> int:
        """Makes the part `place` of lines, each an OutcomeRow; answers how many rows it has.

        From the plan's file comes what the scheduler does not keep: a hash of each item's payload.
        """
        columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in OUTCOME_COLUMNS.items())
        chosen = ", ".join(f'o."{name}"' for name in OUTCOME_COLUMNS)
        told = (
            f"read_json($lines, format = 'newline_delimited', columns = {{{columns}}}, "
            f"maximum_object_size = {MAX_LINE_BYTES})"
        )
        values = {"lines": str(lines.resolve()), "plan": str(plan.resolve()), "stage": origin.stage}
        with self._files.cursor() as cursor:
            first, last = cursor.execute(
                f"SELECT min(seq), max(seq) FROM {told}", {"lines": values["lines"]}
            ).fetchall()[0]
            cursor.execute(
                f"COPY (SELECT {literal(origin.source)} AS source, {literal(origin.processor)} AS processor, "
                f"{literal(origin.version)} AS version, {literal(origin.parameters)} AS parameters, "
                f"{literal(origin.run_id)} AS run_id, {origin.number}::BIGINT AS number, {chosen}, "
                f"md5(p.payload) AS payload FROM {told} AS o LEFT JOIN (SELECT seq, payload FROM read_parquet($plan) "
                f"WHERE stage = $stage AND seq >= {int(first)} AND seq <= {int(last)}) AS p USING (seq)) "
                f"TO {literal(place.resolve())} ({_WRITE})",
                values,
            )
            return _count(cursor, place)

    def merge(self, parts: Sequence[Path], place: Path, *, beside: Sequence[Path]) -> int:
        """Makes one part of several; of outcomes that tell the same the latest stays, and of an item that failed in a
        run the latest of that run, too. `beside`: all parts there are, since that failure may stand in another one.
        Answers how many rows it has.

        Which rows stay is decided without their results, and nothing is sorted: results of some kB were past memory.
        """
        files = f"read_parquet({listed(parts)}, file_row_number = true)"
        failed = f"SELECT {_ITEM} FROM {_read(beside)} WHERE state = 'failed'"
        of_its_run = f"CASE WHEN ({_ITEM}) IN ({failed}) THEN run_id END"
        stay = (
            f"SELECT file_index AS file, file_row_number AS row FROM {files} "
            f"QUALIFY row_number() OVER (PARTITION BY {_SAME}, {of_its_run} ORDER BY {LATER}) = 1"
        )
        with self._files.cursor() as cursor:
            cursor.execute(
                f"COPY (SELECT outcomes.* EXCLUDE (file_row_number) FROM {files} AS outcomes "
                f"SEMI JOIN ({stay}) AS stay "
                "ON stay.file = outcomes.file_index AND stay.row = outcomes.file_row_number) "
                f"TO {literal(place.resolve())} ({_WRITE})"
            )
            return _count(cursor, place)

    def join(self, parts: Sequence[Path], place: Path) -> int:
        """Makes one part of several, as they are. Answers how many rows it has."""
        with self._files.cursor() as cursor:
            cursor.execute(f"COPY (SELECT * FROM {_read(parts)}) TO {literal(place.resolve())} ({_WRITE})")
            return _count(cursor, place)


def latest(parts: Iterable[Path], besides: str = "") -> str:
    """The results as a subquery of DuckDB: of each (source, key, processor) the latest outcome by its end; of each of
    these with the columns `besides`, where they are given."""
    same = 'source, "key", processor' + (f", {besides}" if besides else "")
    return f"(SELECT * FROM {_read(parts)} QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY {LATER}) = 1)"


def latest_of(parts: Iterable[Path], *, source: str, processor: str) -> str:
    """The results of one source and processor: what `latest` has of them, with less ado."""
    return (
        f"(SELECT * FROM {_read(parts)} WHERE source = {literal(source)} AND processor = {literal(processor)} "
        f'QUALIFY row_number() OVER (PARTITION BY "key" ORDER BY {LATER}) = 1)'
    )


def outcomes_of_run(parts: Iterable[Path], run_id: str) -> str:
    """The latest outcome of each item of a run, as a subquery."""
    return (
        f"(SELECT * FROM {_read(parts)} WHERE run_id = {literal(run_id)} "
        "QUALIFY row_number() OVER (PARTITION BY stage, seq ORDER BY settle_number DESC) = 1)"
    )


def run_id_of(parts: Iterable[Path]) -> str:
    """The id of the run $number, as a query."""
    return f"SELECT run_id FROM {_read(parts)} WHERE number = $number LIMIT 1"


def _read(parts: Iterable[Path]) -> str:
    return f"read_parquet({listed(parts)})"


def listed(parts: Iterable[Path]) -> str:
    """Files as a list of DuckDB's."""
    return f"[{', '.join(literal(part.resolve()) for part in parts)}]"


def _count(cursor: duckdb.DuckDBPyConnection, place: Path) -> int:
    cursor.execute("SELECT count(*) FROM read_parquet($part)", {"part": str(place.resolve())})
    return int(cursor.fetchall()[0][0])
