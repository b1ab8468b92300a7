"""What selections ask of the copy of results: keys, as Parquet files with a column `key` in the source's order.

Each question is one statement over the snapshot, the parts and nothing else. Calls block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.runtime.paging import whole_number
from penstock.runtime.parquet_files import ParquetFiles, literal
from planner.results.parts import OUTCOME_COLUMNS, latest, outcomes_of_run, run_id_of
from planner.results.placed import WRITE, place_latest, write_placed

__all__ = ["Asked", "Done", "Found"]


@dataclass(frozen=True)
class Found:
    """Keys in `file`, how many, and a hash of them in order: what a plan's id says of the results that it read."""

    file: Path
    count: int
    digest: str


@dataclass(frozen=True)
class Done:
    """What counts as done already: an item of this source with the same payload, completed by this very processor."""

    source: str
    processor: str
    version: str
    parameters: str


class Asked:
    """`files` may read and write the folder of blobs; `parts` are those of one catch-up."""

    def __init__(self, files: ParquetFiles, parts: Sequence[Path]) -> None:
        self._files = files
        self._parts = parts

    def missing(self, snapshot: Path, place: Path, *, source: str, processor: str) -> Found:
        """Rows without a completed result of a processor, in whatever version."""
        if not self._parts:
            return self._keys("true", snapshot, place)
        done = f"SELECT key FROM {latest(self._parts)} WHERE {_of(source, processor)} AND state = 'completed'"
        return self._keys(f"key NOT IN ({done})", snapshot, place)

    def below(self, snapshot: Path, place: Path, *, source: str, processor: str, threshold: float) -> tuple[Found, int]:
        """Rows whose latest result is completed with a confidence below a threshold; and how many have no
        confidence."""
        if not self._parts:
            return self._keys("false", snapshot, place), 0
        done = f"{latest(self._parts)} WHERE {_of(source, processor)} AND state = 'completed'"
        found = self._keys(f"key IN (SELECT key FROM {done} AND confidence < {threshold!r})", snapshot, place)
        with self._files.cursor() as cursor:
            (without,) = cursor.execute(f"SELECT count(*) FROM {done} AND confidence IS NULL").fetchall()[0]
        return found, without

    def failed(self, snapshot: Path, place: Path, *, run_id: str) -> Found:
        """Rows whose item failed in a run and was not completed in it since."""
        if not self._parts:
            return self._keys("false", snapshot, place)
        failed = f"SELECT key FROM {outcomes_of_run(self._parts, run_id)} WHERE state = 'failed'"
        return self._keys(f"key IN ({failed})", snapshot, place)

    def run_named(self, named: str) -> str:
        """The id of a run that is named by it, or by its number. What nobody knows stays as it is."""
        number = whole_number(named)
        if number is None or not self._parts:
            return named
        with self._files.cursor() as cursor:
            cursor.execute(run_id_of(self._parts), {"number": number})
            found = cursor.fetchone()
        return named if found is None else str(found[0])

    def changed(self, snapshot: Path, place: Path, *, plan: Path) -> Found:
        """Rows that a plan's first stage has not, or has with another payload or group."""
        same = 'SELECT key, "group", payload FROM read_parquet(' + literal(plan.resolve()) + ") WHERE stage = 0"
        return self._keys(f'(key, "group", payload) NOT IN ({same})', snapshot, place)

    def done(self, snapshot: Path, place: Path, what: Done) -> Found:
        if not self._parts:
            return self._keys("false", snapshot, place)
        done = (
            f"SELECT key, payload FROM {latest(self._parts, 'version, parameters, payload')} "
            f"WHERE {_of(what.source, what.processor)} AND version = {literal(what.version)} "
            f"AND parameters = {literal(what.parameters)} AND state = 'completed'"
        )
        return self._keys(f"(key, md5(payload)) IN ({done})", snapshot, place)

    def table(self, place: Path, *, source: str) -> Sequence[tuple[str, str]]:
        """Writes the results of a source as a table of its own, by key and processor; answers its columns."""
        columns = ["key", "processor", "version", *(name for name in OUTCOME_COLUMNS if name != "key"), "run_id"]
        with self._files.cursor() as cursor:
            count = place_latest(cursor, self._parts, source=source) if self._parts else 0
            if count:
                write_placed(cursor, self._parts, columns, place, count=count)
            else:
                kinds = {"key": "VARCHAR", **OUTCOME_COLUMNS}
                nulls = ", ".join(f'NULL::{kinds.get(name, "VARCHAR")} AS "{name}"' for name in columns)
                cursor.execute(f"COPY (SELECT {nulls} WHERE false) TO {literal(place.resolve())} ({WRITE})")
        return [(name, name) for name in columns]

    def _keys(self, condition: str, snapshot: Path, place: Path) -> Found:
        chosen = f"SELECT key FROM read_parquet({literal(snapshot.resolve())}) WHERE {condition}"
        with self._files.cursor() as cursor:
            cursor.execute(f"COPY ({chosen}) TO {literal(place.resolve())} (FORMAT parquet, COMPRESSION snappy)")
            count, digest = cursor.execute(
                "SELECT count(*), md5(coalesce(string_agg(md5(key), ''), '')) FROM "
                f"read_parquet({literal(place.resolve())})"
            ).fetchall()[0]
        return Found(place, count, digest)


def _of(source: str, processor: str) -> str:
    return f"source = {literal(source)} AND processor = {literal(processor)}"
