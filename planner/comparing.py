"""Two plans beside each other: which items one has and the other has not, what has moved, what is set otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from penstock.runtime.blobs import BlobStore
from penstock.runtime.parquet_files import ParquetFiles, literal
from penstock.v1 import planner_pb2
from planner.domain.differences import differences
from planner.domain.setting_words import selection_words, stage_words
from planner.domain.stages import StageSettings
from planner.rules import as_told
from planner.store import PlanRow

__all__ = ["Comparing"]

TOLD = 100


class Comparing:
    """Of first stages. Calls block; raises Unavailable."""

    def __init__(self, files: ParquetFiles, blobs: BlobStore) -> None:
        self._files = files
        self._blobs = blobs

    def compare(self, one: PlanRow, other: PlanRow) -> planner_pb2.PlanComparison:
        """What `other` has that `one` has not, and so on. An item has moved when it stands elsewhere among the items
        that both have."""
        answer = planner_pb2.PlanComparison(settings=list(_settings(one, other)))
        if one.items_sha256 == other.items_sha256:
            return answer
        # The files stay as long as their paths are kept.
        files = [self._blobs.path(plan.items_sha256).resolve() for plan in (one, other)]
        first, second = map(_items, files)
        both = (
            "SELECT o.key, n.seq, row_number() OVER (ORDER BY o.seq) AS was, "
            "row_number() OVER (ORDER BY n.seq) AS now, o.payload <> n.payload AS changed "
            f"FROM {first} AS o JOIN {second} AS n USING (key)"
        )
        questions = {
            "added": f"SELECT n.key, n.seq FROM {second} AS n ANTI JOIN {first} AS o USING (key)",
            "removed": f"SELECT o.key, o.seq FROM {first} AS o ANTI JOIN {second} AS n USING (key)",
            "moved": f"SELECT key, seq FROM ({both}) WHERE was <> now",
            "changed": f"SELECT key, seq FROM ({both}) WHERE changed",
        }
        with self._files.cursor() as cursor:
            for name, question in questions.items():
                rows = cursor.execute(
                    f"SELECT key, count(*) OVER () FROM ({question}) ORDER BY seq LIMIT {TOLD}"
                ).fetchall()
                setattr(answer, f"{name}_count", rows[0][1] if rows else 0)
                getattr(answer, name).extend(row[0] for row in rows)
        return answer


def _items(file: Path) -> str:
    return f"(SELECT seq, key, payload FROM read_parquet({literal(file)}) WHERE stage = 0)"


def _settings(one: PlanRow, other: PlanRow) -> Iterator[str]:
    """A sentence for each thing that is set otherwise."""
    if one.source_id != other.source_id:
        yield f"source: {_source(other)}, was {_source(one)}"
    if one.granularity != other.granularity:
        yield f"granularity: {other.granularity or 'none'}, was {one.granularity or 'none'}"
    if len(one.stages) != len(other.stages):
        yield f"stages: {len(other.stages)}, was {len(one.stages)}"
    for number, (before, after) in enumerate(zip(one.stages, other.stages, strict=False)):
        yield from differences(f"stage {number}", _told(before.settings), _told(after.settings))
    selections = (selection_words(plan.details.get("selection", {})) for plan in (one, other))
    yield from differences("selection", *selections)
    yield from differences("ordering", one.details.get("ordering", {}), other.details.get("ordering", {}))


def _told(settings: StageSettings) -> dict[str, object]:
    return stage_words({**settings.__dict__, "rules": as_told(settings.rules)})


def _source(plan: PlanRow) -> str:
    return f"{plan.source_name} version {plan.source_version}" if plan.source_name else plan.source_id
