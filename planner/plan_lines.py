"""The lines of a plan's file as they arrive: unpacked within bounds, told apart, and written where they are read from.

What comes is a stranger's: it is never unpacked past what it may become, no line is longer than a row may be, and
nothing is believed that the lines do not hold (counts, the hash at their end). Calls block. Raises InvalidInput
(`bad_plan_file`), TooLarge, Unavailable.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson

from penstock.runtime.blobs import blob_trouble
from penstock.runtime.errors import TooLarge
from penstock.runtime.settings import TableLimits
from planner.domain.names import mebibytes
from planner.domain.rows import MAX_LINE_BYTES
from planner.plan_manifest import Manifest, bad_file, manifest_of
from planner.staging import Upload

__all__ = ["PlanLines"]

_PIECE = 1 << 20
_FREE = 16 << 20
"""So much may be unpacked before the ratio counts: small files of like rows pack very well."""
_LEAST_PLACES = 1_000
"""In a line that is not the last one of items: lines cost, and a few packed bytes could be millions of them."""


class PlanLines:
    """`feed` all chunks, then `end`. `rows`: a file of places, one a line; `source`: one of JSON lines."""

    def __init__(self, upload: Upload, limits: TableLimits) -> None:
        self.manifest: Manifest | None = None
        self.rows: Path = upload.path("rows")
        self.source: Path = upload.path("source.jsonl")
        self._upload = upload
        self._limits = limits
        self._inflater = zlib.decompressobj(31)
        self._packed = self._unpacked = 0
        self._rest = b""
        self._hash = hashlib.sha256()
        self._items = self._sourced = 0
        self._ended = False
        self._files = (upload.open("rows"), upload.open("source.jsonl"))

    def feed(self, chunk: bytes) -> None:
        self._packed += len(chunk)
        if self._packed > self._limits.max_bytes:
            raise TooLarge(
                f"the plan file is larger than {mebibytes(self._limits.max_bytes)}, the most that one may be",
                code="too_large",
            )
        for piece in self._inflated(chunk):
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                self._line(line)
            if len(self._rest) > MAX_LINE_BYTES:
                raise bad_file(f"a line is longer than {MAX_LINE_BYTES >> 20} MiB")

    def end(self) -> Manifest:
        """The manifest, once all came that it says."""
        if not self._packed:
            raise bad_file("it is empty")
        if not self._inflater.eof:
            raise bad_file("it breaks off: its end is missing")
        if not self._ended or self._rest or self.manifest is None:
            raise bad_file("its last line is missing")
        try:
            for file in self._files:
                file.close()
        except OSError as error:
            raise blob_trouble(error, self._upload.blobs.folder) from error
        return self.manifest

    def _inflated(self, chunk: bytes) -> Iterator[bytes]:
        limits = self._limits
        try:
            while chunk:
                piece = self._inflater.decompress(chunk, _PIECE)
                self._unpacked += len(piece)
                if self._unpacked > limits.max_unpacked_bytes:
                    raise TooLarge(
                        f"the plan file unpacks to more than {mebibytes(limits.max_unpacked_bytes)}", code="too_large"
                    )
                if self._unpacked > _FREE + limits.max_ratio * self._packed:
                    raise TooLarge(
                        f"the plan file unpacks to more than {limits.max_ratio} times its size", code="too_large"
                    )
                if piece:
                    yield piece
                if self._inflater.unused_data:
                    raise bad_file("bytes stand after its end")
                chunk = self._inflater.unconsumed_tail
        except zlib.error:
            raise bad_file("it is no gzip, or damaged") from None

    def _line(self, line: bytes) -> None:
        manifest = self.manifest
        if self._ended:
            raise bad_file("lines stand after the last one")
        if manifest is None:
            self.manifest = manifest_of(line)
        elif self._items < manifest.item_count:
            self._places(line, manifest)
        elif manifest.source.carried and self._sourced < manifest.source.item_count:
            self._write(1, line + b"\n")
            self._sourced += 1
        else:
            self._last(line)
            return
        self._hash.update(line + b"\n")

    def _places(self, line: bytes, manifest: Manifest) -> None:
        try:
            places = orjson.loads(line)
        except ValueError:
            places = None
        if not isinstance(places, list) or not places or not all(type(place) is int for place in places):
            raise bad_file(f"after {self._items:,} items stands no line of places")
        self._items += len(places)
        if self._items > manifest.item_count:
            raise bad_file(f"it has more items than the {manifest.item_count:,} that it says")
        if len(places) < _LEAST_PLACES and self._items < manifest.item_count:
            raise bad_file(f"after {self._items:,} items a line of places ends too early")
        if min(places) < 0 or max(places) >= manifest.source.item_count:
            raise bad_file(f"an item has no row: the source has {manifest.source.item_count:,}")
        self._write(0, b"\n".join(b"%d" % place for place in places) + b"\n")

    def _last(self, line: bytes) -> None:
        try:
            told = orjson.loads(line)
        except ValueError:
            told = None
        if told != {"sha256": self._hash.hexdigest()}:
            raise bad_file("it is damaged: its lines do not have the hash that its last one says")
        self._ended = True

    def _write(self, which: int, data: bytes) -> None:
        try:
            self._files[which].write(data)
        except OSError as error:
            raise blob_trouble(error, self._upload.blobs.folder) from error
