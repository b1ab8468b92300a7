"""The frames of a zstd file, walked by their headers: is it whole, and how much can it become?

DuckDB unpacks zstd, and ends without a word where a file is cut off. So its structure is checked first, and its size
once unpacked is bounded before a byte of it is: a block never becomes more than 128 KiB. Checksums are the unpacker's.
Pure. Format: RFC 8878.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["BrokenZstd", "ZstdSize", "measure"]

_MAGIC = 0xFD2FB528
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_BLOCK_BYTES = 128 << 10
_RAW, _RLE, _PACKED = 0, 1, 2


class BrokenZstd(Exception):
    """What is wrong with the file, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class ZstdSize:
    """`unpacked_bytes` is the most that the file can become."""

    packed_bytes: int
    unpacked_bytes: int


def measure(file: BinaryIO) -> ZstdSize:
    """Walks the file from its beginning. Raises BrokenZstd."""
    size = file.seek(0, 2)
    file.seek(0)
    unpacked = 0
    while file.tell() < size:
        start = file.tell()
        magic = int.from_bytes(_take(file, 4), "little")
        if magic in _SKIPPABLE:
            length = int.from_bytes(_take(file, 4), "little")
            _skip(file, length, size)
        elif magic == _MAGIC:
            unpacked += _frame(file, size)
        else:
            raise BrokenZstd(f"has foreign bytes at byte {start + 1:,}" if start else "is not zstd")
    return ZstdSize(size, unpacked)


def _frame(file: BinaryIO, size: int) -> int:
    """The most bytes that a frame becomes."""
    described = _take(file, 1)[0]
    single = bool(described & 0x20)
    content = (1 if single else 0, 2, 4, 8)[described >> 6]
    _take(file, (0 if single else 1) + (0, 1, 2, 4)[described & 3])
    raw = _take(file, content)
    told = int.from_bytes(raw, "little") + (256 if content == 2 else 0) if content else None
    most = 0
    while True:
        header = int.from_bytes(_take(file, 3), "little")
        kind, length = header >> 1 & 3, header >> 3
        if kind == _RLE:
            most += length
            length = 1
        elif kind == _RAW:
            most += length
        elif kind == _PACKED:
            most += _BLOCK_BYTES
        else:
            raise BrokenZstd(f"is damaged at byte {file.tell() - 2:,}")
        _skip(file, length, size)
        if header & 1:
            break
    if described & 4:
        _take(file, 4)
    return most if told is None else min(most, told)


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise BrokenZstd("is cut off: it ends within its data")
    return data


def _skip(file: BinaryIO, count: int, size: int) -> None:
    if file.tell() + count > size:
        raise BrokenZstd("is cut off: it ends within its data")
    file.seek(count, 1)
