"""A plan of a catalog or table as one file, streamed: see `planner.plan_manifest` for what stands in it.

The rows of the source go with it as they are in its snapshot, since the plan's id, its grid, its comparisons and the
results of its runs all are about that very version. Calls block. Raises InvalidInput for a plan that can't be exported,
Unavailable.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Generator, Iterator, Mapping
from typing import Literal

import orjson

from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import InvalidInput
from penstock.runtime.parquet_files import ParquetFiles
from planner.domain.schema import Schema
from planner.plan_manifest import ROWS_A_LINE, VERSION, Manifest, SourceManifest, StageManifest
from planner.sources import CATALOG, TABLE
from planner.store import PlanRow, SourceRow
from planner.translate import schema_of

__all__ = ["KINDS", "PlanExport"]

KINDS: Mapping[int, Literal["catalog", "table"]] = {CATALOG: "catalog", TABLE: "table"}
PART_BYTES = 256 << 10


class PlanExport:
    def __init__(self, files: ParquetFiles, blobs: BlobStore) -> None:
        self._files = files
        self._blobs = blobs

    def parts(self, plan: PlanRow, source: SourceRow, *, carried: bool) -> Generator[bytes, None, None]:
        """The file, some hundred kilobytes at a time."""
        manifest = _manifest(plan, source, carried=carried)
        packer = zlib.compressobj(level=1, wbits=31)
        digest = hashlib.sha256()
        held: list[bytes] = []
        size = 0
        for lines in self._lines(manifest, plan, source):
            digest.update(lines)
            packed = packer.compress(lines)
            held.append(packed)
            size += len(packed)
            if size >= PART_BYTES:
                yield b"".join(held)
                held, size = [], 0
        last = orjson.dumps({"sha256": digest.hexdigest()}, option=orjson.OPT_APPEND_NEWLINE)
        yield b"".join([*held, packer.compress(last), packer.flush()])

    def _lines(self, manifest: Manifest, plan: PlanRow, source: SourceRow) -> Iterator[bytes]:
        """All but the last line, many at a time."""
        yield manifest.line()
        snapshot = self._blobs.path(source.snapshot_sha256).resolve()
        items = self._blobs.path(plan.items_sha256).resolve()
        with self._files.cursor() as cursor:
            places = cursor.execute(
                "SELECT items.place FROM read_parquet($plan) AS plan JOIN (SELECT key, file_row_number AS place "
                "FROM read_parquet($snapshot, file_row_number = true)) AS items USING (key) "
                "WHERE plan.stage = 0 ORDER BY plan.seq",
                {"plan": str(items), "snapshot": str(snapshot)},
            )
            while some := places.fetchmany(ROWS_A_LINE):
                yield orjson.dumps([row[0] for row in some], option=orjson.OPT_APPEND_NEWLINE)
            if not manifest.source.carried:
                return
            rows = cursor.execute("SELECT payload FROM read_parquet($snapshot)", {"snapshot": str(snapshot)})
            first = True
            while found := rows.fetchmany(2_048):
                texts = [row[0] for row in found]
                if first:
                    texts[0], first = _whole(texts[0], schema_of(source)), False
                yield ("\n".join(texts) + "\n").encode()


def _whole(payload: str, schema: Schema) -> str:
    """With the columns that it lacks as nulls: one that is null in all rows is a column none the less."""
    held = orjson.loads(payload)
    nulls = "".join(f",{orjson.dumps(one.name).decode()}:null" for one in schema.columns if one.name not in held)
    return "{" + nulls[1:] + "}" if not held else payload[:-1] + nulls + "}"


def _manifest(plan: PlanRow, source: SourceRow, *, carried: bool) -> Manifest:
    if source.kind not in KINDS:
        raise InvalidInput(
            f"plan {plan.plan_id} is not of a catalog or table: upload its source and make it again where it is needed",
            code="plan_not_exportable",
        )
    if "identity" not in plan.details or len(plan.stages) != 1:
        raise InvalidInput(
            f"plan {plan.plan_id} does not know what its id is made of (it was made by an earlier version, or of "
            "another plan's items): make it again, and export that",
            code="plan_not_exportable",
        )
    settings = plan.stages[0].settings
    return Manifest(
        penstock_plan=VERSION,
        plan_id=plan.plan_id,
        name=plan.name,
        actor=plan.details.get("actor", ""),
        item_count=plan.stages[0].item_count,
        source=SourceManifest(
            source_id=source.source_id,
            kind=KINDS[source.kind],
            name=plan.source_name,
            version=plan.source_version,
            item_count=source.item_count,
            table_schema=schema_of(source).values(),
            carried=carried,
        ),
        stage=StageManifest(**{**settings.__dict__, "parameters": dict(settings.parameters)}),
        identity=dict(plan.details["identity"]),
        selection=plan.details.get("selection", {}),
        ordering=plan.details.get("ordering", {}),
        rule=plan.details.get("rule", ""),
    )
