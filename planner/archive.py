"""Unpacks the members of an archive whose directory has been checked.

Every member is read to its end, also one that is too large to be kept: it must be as long as it says, have the
checksum that it says, and be no archive itself. Nothing is written here; the caller gets chunks and throws away what
it made of them on a Refusal.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from planner.domain import names
from planner.domain.archive_directory import Member, Refusal

__all__ = ["unpack"]

_CHUNK = 256 << 10


def unpack(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """The member's bytes in chunks.

    Raises Refusal (zip_crc, zip_mismatch, zip_broken, zip_nested) at the latest with the last.
    """
    name = member.name
    done = crc = 0
    for chunk in _inflated(file, member) if member.method else _stored(file, member):
        if done == 0 and names.looks_packed(name, chunk[:8]):
            raise Refusal("zip_nested", f"{name!r} is an archive inside the archive, under the name of a document")
        done += len(chunk)
        if done > member.unpacked_bytes:
            raise Refusal(
                "zip_mismatch",
                f"{name!r} unpacks to more than the {member.unpacked_bytes:,} bytes that the archive says",
            )
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if done != member.unpacked_bytes:
        raise Refusal("zip_mismatch", f"{name!r} unpacks to {done:,} bytes, the archive says {member.unpacked_bytes:,}")
    if crc != member.crc:
        raise Refusal("zip_crc", f"{name!r} is damaged: its checksum is not what the archive says")


def _stored(file: BinaryIO, member: Member) -> Iterator[bytes]:
    left, at = member.packed_bytes, member.data_offset
    while left:
        file.seek(at)
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise Refusal("zip_truncated", f"the archive ends within {member.name!r}")
        left -= len(chunk)
        at += len(chunk)
        yield chunk


def _inflated(file: BinaryIO, member: Member) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-15)
    try:
        for packed in _stored(file, member):
            if inflater.eof:
                raise Refusal("zip_broken", f"{member.name!r} has foreign bytes after its data")
            while packed:
                chunk = inflater.decompress(packed, _CHUNK)
                packed = inflater.unconsumed_tail
                if chunk:
                    yield chunk
                elif not inflater.eof:
                    break
            if inflater.unused_data:
                raise Refusal("zip_broken", f"{member.name!r} has foreign bytes after its data")
    except zlib.error:
        raise Refusal("zip_broken", f"{member.name!r} is damaged: its data can't be unpacked") from None
    while not inflater.eof:
        chunk = inflater.decompress(b"", _CHUNK)
        if not chunk:
            raise Refusal("zip_broken", f"{member.name!r} is damaged: its data ends too early")
        yield chunk
