"""A plan out of a file, the same as it was: what stands in it is made again from what came, and compared.

The source's rows are read like any upload of a stranger (`planner.tables`, in a process of its own), and must be the
version that the file names; the settings go through the same checks as those of a new plan, and must come out as they
are in the file; from these, and from what the file says of the selection, the plan's id is made again. The order alone
is the file's word, so the plan says that it was imported, and starts only when somebody confirms it.
What fails keeps nothing. Calls block. Raises InvalidInput, Conflict, TooLarge, NotFound, Unavailable.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from penstock.runtime.clock import Clock
from penstock.runtime.errors import AlreadyExists, Conflict, InvalidInput
from penstock.runtime.parquet_files import ParquetFiles, literal
from penstock.runtime.plain_text import plain_text
from penstock.v1 import sources_pb2
from penstock.words import source_name_problem
from planner.domain.differences import differences
from planner.domain.objections import Objection
from planner.domain.stages import StageRequest, plan_id
from planner.naming import NamedSources, Version
from planner.ordered import GroupCount, groups_of, is_grouped
from planner.parquet import COPY_OPTIONS, Parquet
from planner.plan_export import KINDS
from planner.plan_lines import PlanLines
from planner.plan_manifest import Manifest, bad_file
from planner.planning import Keeping, Planning, SettledStage
from planner.rules import as_message
from planner.staging import Upload
from planner.store import PlanRow, SourceRow, StageRow, Store
from planner.table_planning import kept_items
from planner.table_sources import TableSources
from planner.tables.wanted import TableFile, TableVersion, Wanted

__all__ = ["PlanImport", "PlanImports"]

_OF_WORD = {word: kind for kind, word in KINDS.items()}
_PLACES = (
    "read_csv($rows, columns = {place: 'BIGINT'}, auto_detect = false, header = false, quote = '', escape = '', "
    "delim = '\x1f', strict_mode = false)"
)


class PlanImport:
    """One file under way: `feed` its chunks, then `finish`."""

    def __init__(self, imports: PlanImports, upload: Upload) -> None:
        self._imports = imports
        self._upload = upload
        self._lines = PlanLines(upload, imports.tables.limits)
        self._stage: SettledStage | None = None
        self.stop = threading.Event()

    def feed(self, chunk: bytes) -> None:
        self._lines.feed(chunk)
        if self._lines.manifest is not None and self._stage is None:
            # What can't be imported is told before the rest is sent.
            self._stage = self._imports.settled(self._lines.manifest)

    def finish(self, *, name: str, actor: str, request_id: str) -> PlanRow:
        manifest = self._lines.end()
        assert self._stage is not None
        return self._imports.finish(
            manifest,
            self._stage,
            self._lines,
            self._upload,
            keeping=Keeping(name=name or manifest.name, request_id=request_id),
            actor=actor,
            stop=self.stop,
        )


class PlanImports:
    def __init__(
        self,
        *,
        planning: Planning,
        tables: TableSources,
        names: NamedSources,
        files: ParquetFiles,
        parquet: Parquet,
        store: Store,
        clock: Clock,
    ) -> None:
        self.tables = tables
        self._planning = planning
        self._names = names
        self._files = files
        self._parquet = parquet
        self._store = store
        self._clock = clock

    def begin(self, upload: Upload) -> PlanImport:
        return PlanImport(self, upload)

    def settled(self, manifest: Manifest) -> SettledStage:
        """The stage as it is here; it and the plan's id must be what the file says."""
        for text, what in ((manifest.name, "name"), (manifest.actor, "actor"), (manifest.rule, "rule")):
            plain_text(text, f"{what} in the plan file", most=20_000)
        if manifest.source.name and (problem := source_name_problem(manifest.source.name)):
            raise bad_file(problem)
        _messages(manifest)
        said = manifest.stage
        try:
            rules = as_message(said.rules).SerializeToString()
        except json_format.ParseError as error:
            raise bad_file(f"stage.rules: {error}") from None
        asked = StageRequest(
            processor=plain_text(said.processor, "processor"),
            parameters=said.parameters,
            concurrency=said.concurrency,
            max_tries=said.max_tries,
            max_run_seconds=said.max_run_seconds,
            worker_class=plain_text(said.worker_class, "worker_class", most=63),
            rules=rules,
        )
        stage = self._planning.settled_stage(asked)
        if told := differences(said.processor, said.model_dump(), stage.settings.__dict__):
            raise InvalidInput(
                f"the plan can't run here as it was: {'; '.join(told)}. Its id says how it runs, so make it anew here",
                code="plan_settings_differ",
            )
        identity = plan_id(manifest.source.source_id, "", [stage.settings], selection=manifest.identity)
        if identity != manifest.plan_id:
            raise InvalidInput(
                f"the file says that it is {manifest.plan_id}, and what stands in it is {identity}: it was changed",
                code="plan_mismatch",
            )
        return stage

    def finish(
        self,
        manifest: Manifest,
        stage: SettledStage,
        lines: PlanLines,
        upload: Upload,
        *,
        keeping: Keeping,
        actor: str,
        stop: threading.Event,
    ) -> PlanRow:
        here = self._store.find_source(manifest.source.source_id)
        if here is not None:
            snapshot = upload.blobs.path(here.snapshot_sha256)
        else:
            version = self._read(manifest, lines.source, upload, stop)
            snapshot = version.snapshot
        self._write(manifest, lines.rows, snapshot, upload.path("ordered"))
        found = self._store.find_plan(manifest.plan_id, now_ms=self._clock.now_ms())
        if found is not None:
            self._same(found, upload.path("ordered"), upload)
            return self._planning.kept(found, keeping)
        blocks = tuple(self._parquet.blocks(upload.path("ordered"), stage=0))
        with self._files.cursor() as cursor:
            groups, group_count = groups_of(cursor, upload.path("ordered").resolve())
        items, table = kept_items(upload, "ordered", stage, self._parquet)
        source = here or self.tables.kept(version, upload, kind=_OF_WORD[manifest.source.kind], request_id="")
        named = self._named(manifest, source, actor)
        details = _details(manifest, actor, named=named is not None, groups=groups, group_count=group_count)
        row = PlanRow(
            plan_id=manifest.plan_id,
            source_id=source.source_id,
            kind=source.kind,
            name="",
            granularity="",
            stages=(StageRow(stage.settings, manifest.item_count, blocks),),
            items_sha256=items.sha256,
            items_bytes=items.size_bytes,
            create_ms=self._clock.now_ms(),
            expire_ms=None,
            lanes_sha256=table,
            source_name=named.name if named is not None else "",
            source_version=named.version if named is not None else 0,
            details=details,
        )
        return self._planning.kept(row, keeping)

    def _read(self, manifest: Manifest, rows: Path, upload: Upload, stop: threading.Event) -> TableVersion:
        said = manifest.source
        if not said.carried:
            raise InvalidInput(
                f"the plan needs {said.source_id}, which is not here, and the file is without it: register the same "
                "rows first, or export the plan with its source",
                code="source_missing",
            )
        schema = said.table_schema
        try:
            wanted = Wanted(
                kind="jsonl",
                key=tuple(map(str, schema["key"])) or ("hash",),
                group=str(schema["group"]),
                sort=tuple(map(str, schema["sort"])),
            )
        except (KeyError, TypeError):
            raise bad_file("source.table_schema is none") from None
        version = self.tables.version([TableFile("the source in the plan file", rows)], wanted, upload, stop=stop)
        if version.version_id != said.source_id:
            raise InvalidInput(
                f"the file says that its rows are {said.source_id[:60]}, and they are {version.version_id}: they were "
                "changed",
                code="source_mismatch",
            )
        return version

    def _write(self, manifest: Manifest, rows: Path, snapshot: Path, place: Path) -> None:
        """The items, from the rows of the source itself."""
        values = {"rows": str(rows.resolve()), "snapshot": str(snapshot.resolve())}
        with self._files.cursor() as cursor:
            cursor.execute(
                'COPY (SELECT 0::INTEGER AS stage, chosen.seq AS seq, key, "group", payload, '
                "strlen(payload)::INTEGER AS size FROM "
                f"(SELECT row_number() OVER () - 1 AS seq, place FROM {_PLACES}) AS chosen "
                "JOIN read_parquet($snapshot, file_row_number = true) AS items ON items.file_row_number = chosen.place "
                f"ORDER BY chosen.seq) TO {literal(place.resolve())} ({COPY_OPTIONS})",
                values,
            )
            count, keys = cursor.execute(
                "SELECT count(*), count(DISTINCT key) FROM read_parquet($plan)", {"plan": str(place.resolve())}
            ).fetchall()[0]
        if keys != count:
            raise bad_file("a row of the source is in it twice")
        if count != manifest.item_count:
            raise bad_file("an item has no row in the source")

    def _same(self, found: PlanRow, place: Path, upload: Upload) -> None:
        """Raises Conflict when the plan that is here has other items, or in another order."""
        here = upload.blobs.path(found.items_sha256).resolve()
        with self._files.cursor() as cursor:
            (other,) = cursor.execute(
                "SELECT count(*) FROM (SELECT seq, key FROM read_parquet($one) WHERE stage = 0) AS one "
                "FULL OUTER JOIN (SELECT seq, key FROM read_parquet($other)) AS other USING (seq) "
                "WHERE one.key IS DISTINCT FROM other.key",
                {"one": str(here), "other": str(place.resolve())},
            ).fetchall()[0]
        if other:
            raise Conflict(
                f"plan {found.plan_id} is here already, and {other:,} of its items are others than in the file",
                code="plan_differs",
            )

    def _named(self, manifest: Manifest, source: SourceRow, actor: str) -> Version | None:
        """The source's version as it stands under its name here; None where that name is another's."""
        found = self._names.of_source(source.source_id)
        name = manifest.source.name
        if not name or (found is not None and found.name == name):
            return found if name else None
        if self._names.latest(name) is not None:
            return None
        try:
            return self._names.add(
                name,
                source.kind,
                source.source_id,
                before=0,
                reading={},
                change={},
                actor=actor,
                now_ms=self._clock.now_ms(),
            )
        except (AlreadyExists, Conflict):
            return None  # somebody took the name meanwhile


def _messages(manifest: Manifest) -> None:
    for told, message in ((manifest.selection, sources_pb2.Selection()), (manifest.ordering, sources_pb2.Ordering())):
        try:
            json_format.ParseDict(told, message)
        except json_format.ParseError as error:
            raise bad_file(str(error)) from None


def _details(
    manifest: Manifest, actor: str, *, named: bool, groups: Sequence[GroupCount], group_count: int
) -> Mapping[str, Any]:
    by = f" by {actor}" if actor else ""
    warnings = [Objection("imported", f"it was imported from a file{by}: its order is as the file says")]
    if manifest.source.name and not named:
        source = manifest.source
        told = f"source {source.name!r} is another one here: results of this plan are kept under {source.source_id}"
        warnings.append(Objection("other_source", told))
    return {
        "selection": manifest.selection,
        "ordering": manifest.ordering,
        "actor": manifest.actor,
        "groups": [{"group": one.group, "count": one.count} for one in groups],
        "grouped": is_grouped(groups, group_count=group_count, count=manifest.item_count),
        "more_groups": group_count - len(groups),
        "left_out": [],
        "warnings": [one.kept() for one in warnings],
        "needs_confirm": True,
        "rule": manifest.rule,
        "identity": manifest.identity,
    }
