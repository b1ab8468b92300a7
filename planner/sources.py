"""CreateSource after the wire: from an intake that has finished to a source that is kept.

Order matters: document bytes, then the snapshot, then the row that names both. A failure before the row leaves nothing
that anyone sees.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson

from penstock.runtime.blobs import BlobFile, blob_trouble
from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput
from penstock.runtime.settings import UploadLimits
from penstock.tasks import DEFAULT_BATCH_SIZE
from penstock.v1 import common_pb2, planner_pb2, sources_pb2
from planner.intake import ArchiveIntake, FilesIntake, Intake, ItemsIntake, Taken
from planner.parquet import Parquet
from planner.staging import Upload
from planner.store import SourceRow, Store
from planner.task_intake import TaskIntake

__all__ = ["CATALOG", "DOCUMENTS", "ITEMS", "TABLE", "TASKS", "Part", "SourceUpload", "Sources", "keep_file"]

DOCUMENTS, ITEMS = planner_pb2.SOURCE_KIND_DOCUMENTS, planner_pb2.SOURCE_KIND_ITEMS
CATALOG, TABLE = planner_pb2.SOURCE_KIND_CATALOG, planner_pb2.SOURCE_KIND_TABLE
TASKS = planner_pb2.SOURCE_KIND_TASKS

Part = str | bytes
"""A file's name, or a chunk of the latest file."""


class SourceUpload:
    """One upload under way: `feed` its parts, then `finish`. Each call runs in a thread of its own.

    Blobs of documents are written without being announced: items name them, and no row, so whoever looks for the rows
    that have an announced file would remove them. Where the source's row never comes they stay.
    """

    def __init__(self, sources: Sources, upload: Upload, intake: Intake, kind: int) -> None:
        self._sources = sources
        self._upload = upload
        self._intake = intake
        self._kind = kind
        self.stop = threading.Event()

    def feed(self, parts: Sequence[Part]) -> None:
        """Raises InvalidInput, TooLarge, Unavailable."""
        for part in parts:
            if isinstance(part, str):
                self._intake.begin(part)
            else:
                self._intake.write(part)

    def finish(self, request_id: str) -> SourceRow:
        """The kept source, with this upload's own number of ignored entries."""
        taken = self._intake.finish(self.stop)
        kept = self._sources.store.find_source(taken.source_id)
        if kept is None:
            kept = self._snapshot(taken)
        row = replace(kept, ignored_count=taken.ignored)
        return self._sources.store.keep_source(row, request_id=request_id, now_ms=self._sources.clock.now_ms())

    def _snapshot(self, taken: Taken) -> SourceRow:
        place = self._upload.path("snapshot")
        self._sources.parquet.write_snapshot(taken.rows, place)
        if isinstance(self._intake, ItemsIntake) and self._sources.parquet.has_duplicates(place):
            raise self._intake.refusal()
        self._upload.blobs.adopt(taken.files)
        snapshot = keep_file(self._upload, "snapshot")
        return SourceRow(
            source_id=taken.source_id,
            kind=self._kind,
            item_count=taken.count,
            size_bytes=taken.size_bytes,
            ignored_count=taken.ignored,
            snapshot_sha256=snapshot.sha256,
            snapshot_bytes=snapshot.size_bytes,
            blocks=taken.blocks,
            create_ms=self._sources.clock.now_ms(),
            notices=orjson.dumps(taken.notices).decode(),
        )


class Sources:
    def __init__(self, *, store: Store, parquet: Parquet, limits: UploadLimits, clock: Clock) -> None:
        self.store = store
        self.parquet = parquet
        self.clock = clock
        self._limits = limits

    def begin(self, upload: Upload, *, kind: int, archive: bool, tasks: sources_pb2.TaskOptions) -> SourceUpload:
        """Raises InvalidInput for a kind that can't be uploaded."""
        intake: Intake
        if kind == DOCUMENTS:
            intake = ArchiveIntake(upload, self._limits) if archive else FilesIntake(upload, self._limits)
        elif kind == ITEMS and not archive:
            intake = ItemsIntake(upload, self._limits, self.parquet)
        elif kind == TASKS and not archive:
            size = tasks.batch_size or DEFAULT_BATCH_SIZE
            intake = TaskIntake(upload, unit="task" if tasks.each_task else "batch", batch_size=size)
        else:
            raise InvalidInput(
                "a source is uploaded as documents (files or one zip), items (one JSONL file), catalog, table (a "
                "database file) or tasks (one markdown file)",
                code="bad_kind",
            )
        return SourceUpload(self, upload, intake, kind)


def keep_file(upload: Upload, name: str, *, announced: bool = False) -> common_pb2.BlobRef:
    """Makes a complete file of the upload a durable blob; it is no longer in the upload then. announced: whoever calls
    has seen to it that the file goes where no row names it. Raises Unavailable."""
    try:
        place = upload.path(name)
        if place.is_symlink():  # a blob that is there already: it keeps its place
            place = Path(shutil.copyfile(place, upload.path(f"{name}.own")))
        file = BlobFile(place)
        sha256 = file.finish().sha256
    except OSError as error:
        raise blob_trouble(error, upload.blobs.folder) from error
    if not announced:
        upload.announce(sha256)
    return upload.blobs.keep([file])[0]
