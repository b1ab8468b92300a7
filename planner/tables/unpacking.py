"""gzip, zstd and zip become plain files, bounded while they grow; other encodings than UTF-8 become UTF-8.

gzip and zip are written out: DuckDB reads a plain file with all its threads. zstd is left as it is, since DuckDB alone
unpacks it here; its frames are walked first, because a file that is cut off would end there without a word. UTF-16
and UTF-32 are decoded; a file that is no UTF-8 is told later, by the slow pass that knows the line.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from penstock.databases import database_by_head
from penstock.runtime.errors import InvalidInput, PenstockError, TooLarge
from planner.archive import unpack as unpack_member
from planner.domain.archive_directory import Bounds, Refusal, TooMuch, members, read_directory
from planner.domain.names import mebibytes
from planner.domain.zstd_frames import BrokenZstd, measure
from planner.tables.wanted import TableBounds, TableFile

__all__ = ["PARQUET", "Plain", "Unpacker", "as_utf8"]

_CHUNK = 1 << 20
_PACKED = 128 << 10
"""Of gzip, read at once: mostly it unpacks to less than a chunk, so nothing is left that is copied for the next."""
_SMALL_BYTES = 32 << 20
"""What becomes no more than this is no bomb, whatever its ratio: a table may be all alike."""

PARQUET = b"PAR1"
_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", (b"PK\x03\x04", b"PK\x05\x06")
_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Plain:
    """A file that DuckDB reads. name: as it was sent, in an archive with the archive's; stem: without `.gz`."""

    name: str
    stem: str
    path: Path
    zstd: bool = False


class Unpacker:
    """Unpacks into `folder`; all files of a table together keep the bounds."""

    def __init__(self, folder: Path, bounds: TableBounds) -> None:
        self._folder = folder
        self._bounds = bounds
        self._bytes = 0
        self._files = 0

    def plain(self, file: TableFile) -> Iterator[Plain]:
        """What is in a file, most often one. Raises InvalidInput, TooLarge."""
        with file.path.open("rb") as opened:
            head = opened.read(8)
            opened.seek(0)
            stem = next((file.name[: -len(end)] for end in _SUFFIXES if file.name.lower().endswith(end)), file.name)
            if head.startswith(_ZIP):
                yield from self._zip(file, opened)
            elif head.startswith(_GZIP):
                yield self._kept(Plain(file.name, stem, self._gunzip(file, opened)))
            elif head.startswith(_ZSTD):
                yield self._kept(self._zstd(file, opened, stem))
            else:
                yield self._kept(Plain(file.name, file.name, file.path))

    def _kept(self, plain: Plain) -> Plain:
        self._files += 1
        if self._files > self._bounds.files:
            raise TooLarge(
                f"there are more than {self._bounds.files:,} files, the most of a table", code="too_many_files"
            )
        return plain

    def _place(self) -> Path:
        return self._folder / f"plain-{self._files}"

    def _grow(self, size: int, name: str) -> None:
        self._bytes += size
        if self._bytes > self._bounds.unpacked_bytes:
            raise TooLarge(
                f"{name} unpacks to more than {mebibytes(self._bounds.unpacked_bytes)}, the most of a table",
                code="too_large",
            )

    def _check_ratio(self, name: str, unpacked: int, packed: int) -> None:
        if unpacked > _SMALL_BYTES and unpacked > self._bounds.ratio * packed:
            raise TooLarge(
                f"{name} unpacks to more than {self._bounds.ratio} times its size, the most that is taken",
                code="packed_too_tight",
            )

    def _gunzip(self, file: TableFile, opened: BinaryIO) -> Path:
        place, unpacked, packed = self._place(), 0, file.path.stat().st_size
        inflater = zlib.decompressobj(31)
        rest = b""
        try:
            with place.open("wb") as out:
                while True:
                    data = rest or opened.read(_PACKED)
                    if not data:
                        break
                    if inflater.eof:
                        if not data.strip(b"\0"):
                            rest = b""
                            continue
                        inflater = zlib.decompressobj(31)  # another member follows
                    chunk = inflater.decompress(data, _CHUNK)
                    rest = inflater.unconsumed_tail or inflater.unused_data
                    unpacked += len(chunk)
                    self._grow(len(chunk), file.name)
                    self._check_ratio(file.name, unpacked, packed)
                    out.write(chunk)
                while not inflater.eof and (chunk := inflater.decompress(b"", _CHUNK)):
                    unpacked += len(chunk)
                    self._grow(len(chunk), file.name)
                    self._check_ratio(file.name, unpacked, packed)
                    out.write(chunk)
        except zlib.error as error:
            at = f"after {unpacked:,} unpacked bytes"
            raise InvalidInput(f"{file.name} is damaged {at}: {_reason(error)}", code="broken_gzip") from None
        if not inflater.eof:
            raise InvalidInput(
                f"{file.name} is cut off: its gzip data ends after {unpacked:,} unpacked bytes", code="broken_gzip"
            )
        return place

    def _zstd(self, file: TableFile, opened: BinaryIO, stem: str) -> Plain:
        try:
            size = measure(opened)
        except BrokenZstd as error:
            raise InvalidInput(f"{file.name} {error}", code="broken_zstd") from None
        self._grow(size.unpacked_bytes, file.name)
        self._check_ratio(file.name, size.unpacked_bytes, size.packed_bytes)
        return Plain(file.name, stem, file.path, zstd=True)

    def _zip(self, file: TableFile, opened: BinaryIO) -> Iterator[Plain]:
        bounds = Bounds(self._bounds.files, self._bounds.unpacked_bytes - self._bytes, self._bounds.ratio)
        try:
            directory = read_directory(opened, bounds)
            for member in members(opened, directory):
                if member.ignored:
                    continue
                place = self._place()
                with place.open("wb") as out:
                    for chunk in unpack_member(opened, member):
                        self._grow(len(chunk), file.name)
                        out.write(chunk)
                yield self._kept(Plain(member.name, member.name, place))
        except (TooMuch, Refusal) as error:
            raise _zip_refusal(error, file.name) from None


def as_utf8(plain: Plain, head: bytes, folder: Path) -> Plain:
    """The same text as UTF-8, where a mark or its zeros say that it is UTF-16 or UTF-32. Raises InvalidInput."""
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), "")
    if not encoding and not (head.startswith(PARQUET) or database_by_head(head)):
        encoding = _unmarked(head)
    if not encoding:
        return plain
    if plain.zstd:
        raise InvalidInput(
            f"{plain.name} is {encoding.upper()} within zstd, which is not read; send it as UTF-8, or as gzip",
            code="bad_encoding",
        )
    place = folder / f"{plain.path.name}.utf8"
    decoder = codecs.getincrementaldecoder(encoding)()
    done = 0
    with plain.path.open("rb") as source, place.open("wb") as out:
        while True:
            chunk = source.read(_CHUNK)
            try:
                text = decoder.decode(chunk, final=not chunk)
                out.write(text.encode())
            except UnicodeError as error:
                at = error.start if isinstance(error, UnicodeDecodeError) else 0
                raise InvalidInput(
                    f"{plain.name} begins as {encoding.upper()} and is broken near byte {done + at + 1:,}",
                    code="bad_encoding",
                ) from None
            done += len(chunk)
            if not chunk:
                return Plain(plain.name, plain.stem, place)


def _unmarked(head: bytes) -> str:
    """UTF-16 without a mark: every other byte of what is mostly ASCII is 0."""
    head = head[: len(head) // 2 * 2]
    if len(head) >= 4:
        even, odd = head[0::2], head[1::2]
        if odd.count(0) > 0.4 * len(odd) and not even.count(0):
            return "utf-16-le"
        if even.count(0) > 0.4 * len(even) and not odd.count(0):
            return "utf-16-be"
    return ""


def _zip_refusal(error: Exception, name: str) -> PenstockError:
    if isinstance(error, TooMuch):
        return TooLarge(f"{name}: {error.message}", code=error.code)
    assert isinstance(error, Refusal)
    return InvalidInput(f"{name}: {error.message}", code=error.code)


def _reason(error: zlib.error) -> str:
    return str(error).rpartition(": ")[2] or str(error)
