"""What comes up, part by part: documents as files, documents as one zip, items as JSONL.

An intake takes names and chunks in the order in which they arrive (`begin`, `write`), and says in `finish` what they
came to, or refuses all of it. It works in the upload's folder alone; `files` of what it answers are complete and
synced, to be renamed onto their hashes once the whole upload has passed. Synchronous: it runs in a thread, one call
at a time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from penstock.runtime.blobs import BlobWriter, blob_trouble
from penstock.runtime.errors import InvalidInput, PenstockError, TooLarge
from penstock.runtime.settings import UploadLimits
from planner.archive import unpack
from planner.domain import names
from planner.domain.archive_directory import Bounds, Refusal, TooMuch, members, read_directory
from planner.domain.names import mebibytes
from planner.domain.rows import MOST_OFFENDERS, ItemLines, Row
from planner.parquet import Parquet
from planner.spool import RowSpool
from planner.staging import Upload

__all__ = ["ArchiveIntake", "FilesIntake", "Intake", "ItemsIntake", "Taken"]

_PART_ROWS = 256


@dataclass(frozen=True)
class Taken:
    """A whole upload that has passed, but for keys that stand twice in items (seen in the snapshot).

    files: (temporary file, hash) of every document's bytes. notices: what a person should know of it (`Notice`s).
    """

    source_id: str
    rows: Path
    count: int
    blocks: tuple[int, ...]
    size_bytes: int
    ignored: int
    files: list[tuple[Path, str]]
    notices: tuple[dict[str, object], ...] = ()


class Intake(Protocol):
    def begin(self, name: str) -> None:
        """The next file; its chunks follow."""

    def write(self, chunk: bytes) -> None: ...

    def finish(self, stop: threading.Event) -> Taken:
        """Nothing more comes. `stop` says that nobody waits for the answer any more."""


class _Documents:
    """Documents in order, each with its bytes or with the problem that it has none."""

    def __init__(self, upload: Upload, limits: UploadLimits) -> None:
        self._upload = upload
        self._limits = limits
        self._spool = RowSpool(upload, "documents 1")
        self._rows: list[Row] = []
        self._files: list[tuple[Path, str]] = []
        self._bytes = 0
        self._name = ""
        self._size = 0
        self._writer: BlobWriter | None = None
        self._open = False
        self.count = 0

    def begin(self, name: str) -> None:
        self.end()
        self.count += 1
        if self.count > self._limits.max_documents:
            raise TooLarge(
                f"the upload has more than {self._limits.max_documents:,} documents, the most that it may have",
                code="too_many_documents",
            )
        self._name, self._size, self._open = name, 0, True
        self._writer = self._upload.writer()

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._writer is None:
            return
        if self._size > self._limits.max_document_bytes:
            self._writer.discard()
            self._writer = None
        else:
            self._writer.write(chunk)

    def end(self) -> None:
        """The document under way is complete."""
        if not self._open:
            return
        payload: dict[str, object] = {"filename": self._name}
        if self._writer is None:
            payload["size"] = self._size
            most = mebibytes(self._limits.max_document_bytes)
            payload["problem"] = f"too large: {mebibytes(self._size)}, at most {most}"
        else:
            try:
                ref = self._writer.finish()
            except OSError as error:
                raise blob_trouble(error, self._upload.blobs.folder) from error
            self._files.append((self._writer.place, ref.sha256))
            self._bytes += self._size
            payload |= {"blob": ref.sha256, "size": self._size}
        self._rows.append((self.count, self._name, "", orjson.dumps(payload)))
        self._open, self._writer = False, None
        if len(self._rows) == _PART_ROWS:
            self._flush()

    def finish(self, *, ignored: int) -> Taken:
        self.end()
        self._flush()
        if self.count == 0:
            raise InvalidInput(
                "there is no document in the upload" + (f" ({ignored:,} entries were ignored)" if ignored else ""),
                code="no_documents",
            )
        source_id = self._spool.finish()
        return Taken(
            source_id, self._spool.place, self.count, tuple(self._spool.blocks), self._bytes, ignored, self._files
        )

    def _flush(self) -> None:
        self._spool.add(self._rows)
        self._rows.clear()


class FilesIntake:
    """Documents as they were sent, one file each. Equal names become `a (2).txt`."""

    def __init__(self, upload: Upload, limits: UploadLimits) -> None:
        self._documents = _Documents(upload, limits)
        self._limits = limits
        self._taken: set[str] = set()
        self._counters: dict[str, int] = {}
        self._bytes = 0

    def begin(self, name: str) -> None:
        problem = names.text_problem(name)
        if problem is not None:
            raise InvalidInput(
                f"file {self._documents.count + 1:,} of the upload, {name[:120]!r}, {problem.text}", code=problem.code
            )
        self._documents.begin(names.unique_name(name, self._taken, self._counters))

    def write(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        _check_upload(self._bytes, self._limits)
        self._documents.write(chunk)

    def finish(self, stop: threading.Event) -> Taken:
        return self._documents.finish(ignored=0)


class ArchiveIntake:
    """One zip, spooled first and checked in whole before anything of it is kept."""

    def __init__(self, upload: Upload, limits: UploadLimits) -> None:
        self._upload = upload
        self._limits = limits
        self._file = upload.open("archive")
        self._bytes = 0
        self._begun = False

    def begin(self, name: str) -> None:
        if self._begun:
            raise InvalidInput("an upload takes one zip archive, and a second one was sent", code="several_archives")
        self._begun = True

    def write(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        _check_upload(self._bytes, self._limits)
        try:
            self._file.write(chunk)
        except OSError as error:
            raise blob_trouble(error, self._upload.blobs.folder) from error

    def finish(self, stop: threading.Event) -> Taken:
        if not self._begun:
            raise InvalidInput("there is no document in the upload: the zip archive is missing", code="no_documents")
        try:
            return self._unpacked(stop)
        except TooMuch as error:
            raise TooLarge(error.message, code=error.code) from None
        except Refusal as error:
            raise InvalidInput(error.message, code=error.code) from None
        except OSError as error:
            raise blob_trouble(error, self._upload.blobs.folder) from error
        finally:
            self._file.close()

    def _unpacked(self, stop: threading.Event) -> Taken:
        limits = self._limits
        bounds = Bounds(limits.max_documents, limits.max_upload_bytes, limits.max_zip_ratio)
        directory = read_directory(self._file, bounds)
        documents = _Documents(self._upload, limits)
        for member in members(self._file, directory):
            if member.ignored:
                continue
            documents.begin(member.name)
            for chunk in unpack(self._file, member):
                documents.write(chunk)
                if stop.is_set():
                    raise InvalidInput("the upload was given up", code="cancelled")
        return documents.finish(ignored=directory.ignored)


class ItemsIntake:
    """Lines of JSON. The first offenders are told with their lines."""

    def __init__(self, upload: Upload, limits: UploadLimits, parquet: Parquet) -> None:
        self._limits = limits
        self._parquet = parquet
        self._spool = RowSpool(upload, "items 1")
        self._lines = ItemLines()
        self._bytes = 0
        self._files = 0

    def begin(self, name: str) -> None:
        self._files += 1
        if self._files > 1:
            raise InvalidInput("an upload takes one file of items, and a second one was sent", code="several_files")

    def write(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        _check_upload(self._bytes, self._limits)
        for rows in self._lines.feed(chunk):
            self._spool.add(rows)

    def finish(self, stop: threading.Event) -> Taken:
        self._spool.add(self._lines.end())
        source_id = self._spool.finish()
        if self._lines.offenders:
            raise self.refusal()
        if self._spool.count == 0:
            raise InvalidInput(
                'there is no item in the upload: one JSON object a line, {"key": …, "payload": {…}}, is expected',
                code="no_items",
            )
        spool = self._spool
        return Taken(source_id, spool.place, spool.count, tuple(spool.blocks), self._bytes, 0, [])

    def refusal(self) -> PenstockError:
        """Every offender so far, keys that stand twice among them, as one error."""
        told = list(self._lines.offenders)
        if self._spool.count:
            for second, first, key in self._parquet.duplicates(self._spool.place, most=MOST_OFFENDERS):
                line = self._spool.line_of(second)
                told.append((line, f"key {key!r} stands in line {self._spool.line_of(first)} already"))
        told.sort()
        sentences = "; ".join(f"line {line}: {text}" for line, text in told[:MOST_OFFENDERS])
        more = " (the first ten are told)" if len(told) >= MOST_OFFENDERS or self._lines.hopeless else ""
        return InvalidInput(f"the items are refused: {sentences}{more}", code="bad_items")


def _check_upload(size: int, limits: UploadLimits) -> None:
    if size > limits.max_upload_bytes:
        raise TooLarge(
            f"the upload is larger than {mebibytes(limits.max_upload_bytes)}, the most that it may be", code="too_large"
        )
