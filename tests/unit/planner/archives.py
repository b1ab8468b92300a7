"""Zip archives byte by byte: also those that no honest program would make."""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

__all__ = ["HOSTILE", "Entry", "archive", "deflated"]


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@dataclass(frozen=True)
class Entry:
    """One member. What is not given is as it should be; `local_*` are what its own header says instead."""

    name: bytes
    data: bytes = b"some text"
    method: int = 8
    flags: int = 0
    mode: int = stat.S_IFREG | 0o644
    packed: bytes | None = None
    crc: int | None = None
    size: int | None = None
    packed_size: int | None = None
    offset: int | None = None
    local_name: bytes | None = None
    local_size: int | None = None
    local_crc: int | None = None
    local_method: int | None = None
    hidden: bool = False
    """Has an entry in the directory and no bytes of its own."""
    extra: bytes = b""
    disk: int = 0


@dataclass
class _Parts:
    body: bytearray = field(default_factory=bytearray)
    directory: bytearray = field(default_factory=bytearray)


def archive(
    entries: Sequence[Entry],
    *,
    before: bytes = b"",
    gaps: Mapping[int, bytes] | None = None,
    comment: bytes = b"",
    count: int | None = None,
    directory_shift: int = 0,
    disk: int = 0,
    zip64: bool = False,
) -> bytes:
    parts = _Parts()
    gaps = gaps or {}
    for number, entry in enumerate(entries):
        parts.body += gaps.get(number, b"")
        _add(parts, entry)
    parts.body += gaps.get(len(entries), b"")
    count = len(entries) if count is None else count
    offset, size = len(parts.body) + directory_shift, len(parts.directory)
    tail = b""
    if zip64:
        at = len(parts.body) + size
        tail = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
        tail += struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
        count, size, offset = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", disk, disk, count, count, size, offset, len(comment))
    return before + bytes(parts.body) + bytes(parts.directory) + tail + end + comment


def _add(parts: _Parts, entry: Entry) -> None:
    packed = entry.packed
    if packed is None:
        packed = deflated(entry.data) if entry.method == 8 else entry.data
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    size = len(entry.data) if entry.size is None else entry.size
    packed_size = len(packed) if entry.packed_size is None else entry.packed_size
    offset = len(parts.body) if entry.offset is None else entry.offset
    streamed = entry.flags & 8
    if not entry.hidden:
        local_size = size if entry.local_size is None else entry.local_size
        local_name = entry.name if entry.local_name is None else entry.local_name
        parts.body += struct.pack(
            "<4s5H3L2H",
            *(b"PK\x03\x04", 20, entry.flags, entry.method if entry.local_method is None else entry.local_method, 0, 0),
            0 if streamed else (crc if entry.local_crc is None else entry.local_crc),
            *(0 if streamed else packed_size, 0 if streamed else local_size, len(local_name), 0),
        )
        parts.body += local_name + packed
        if streamed:
            parts.body += struct.pack("<4s3L", b"PK\x07\x08", crc, packed_size, size)
    parts.directory += struct.pack(
        "<4s6H3L5H2L",
        *(b"PK\x01\x02", 20 | 3 << 8, 20, entry.flags, entry.method, 0, 0, crc, packed_size, size),
        *(len(entry.name), len(entry.extra), 0, entry.disk, 0, entry.mode << 16, offset),
    )
    parts.directory += entry.name + entry.extra


PLAIN = Entry(b"a.txt", b"first " * 10)


def _overlapping(count: int) -> bytes:
    """Many entries of the directory for the same bytes."""
    zeros = bytes(1 << 20)
    kernel = Entry(b"0.txt", b"", packed=deflated(zeros), size=len(zeros), crc=zlib.crc32(zeros))
    return archive([kernel, *(replace(kernel, name=b"%d.txt" % i, offset=0, hidden=True) for i in range(1, count))])


def _quoted() -> bytes:
    """A member that lies inside another's data, both with headers of their own."""
    inner = archive([Entry(b"b.txt", b"x" * 100, method=0)])
    local = inner[: inner.index(b"PK\x01\x02")]
    outer = Entry(b"a.txt", local, method=0)
    inside = Entry(b"b.txt", b"x" * 100, method=0, offset=30 + len(b"a.txt"), hidden=True)
    return archive([outer, inside])


def _damaged() -> bytes:
    data = bytearray(archive([Entry(b"a.txt", b"honest text, " * 9, method=0)]))
    data[60] ^= 1
    return bytes(data)


def _two_ends() -> bytes:
    inner = archive([Entry(b"other.txt")])
    return archive([PLAIN], comment=inner)


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "parent": ("zip_name_parent", lambda: archive([PLAIN, Entry(b"../etc/passwd.txt")])),
    "parent in the middle": ("zip_name_parent", lambda: archive([Entry(b"a/../../b.txt")])),
    "parent by backslash": ("zip_name_parent", lambda: archive([Entry(b"a\\..\\..\\b.txt")])),
    "parent in an ignored entry": ("zip_name_parent", lambda: archive([PLAIN, Entry(b"__MACOSX/../../x.txt")])),
    "absolute": ("zip_name_absolute", lambda: archive([Entry(b"/etc/passwd.txt")])),
    "absolute by backslash": ("zip_name_absolute", lambda: archive([Entry(b"\\\\host\\share\\a.txt")])),
    "drive letter": ("zip_name_drive", lambda: archive([Entry(b"C:\\a.txt")])),
    "drive letter in the middle": ("zip_name_drive", lambda: archive([Entry(b"x/C:/a.txt")])),
    "drive letter without slash": ("zip_name_drive", lambda: archive([Entry(b"c:a.txt")])),
    "NUL": ("zip_name_nul", lambda: archive([Entry(b"a.txt\x00.exe")])),
    "control characters": ("zip_name_control", lambda: archive([Entry(b"a\x1b[2Jb.txt")])),
    "no name": ("zip_name_empty", lambda: archive([Entry(b"")])),
    "name is not the UTF-8 it says": ("zip_name_encoding", lambda: archive([Entry(b"caf\xe9.txt", flags=0x800)])),
    "twice": ("zip_duplicate", lambda: archive([PLAIN, PLAIN])),
    "twice by case": ("zip_duplicate", lambda: archive([PLAIN, Entry(b"A.TXT")])),
    "twice by Unicode form": (
        "zip_duplicate",
        lambda: archive([Entry("é.txt".encode()), Entry("e\u0301.txt".encode())]),
    ),
    "twice by steps": ("zip_duplicate", lambda: archive([Entry(b"d/a.txt"), Entry(b"d/./a.txt")])),
    "twice by separator": ("zip_duplicate", lambda: archive([Entry(b"d/a.txt"), Entry(b"d\\a.txt")])),
    "link": ("zip_link", lambda: archive([Entry(b"a.txt", b"/etc/passwd", mode=stat.S_IFLNK | 0o777)])),
    "device": ("zip_special", lambda: archive([Entry(b"a.txt", mode=stat.S_IFCHR | 0o666)])),
    "encrypted": ("zip_encrypted", lambda: archive([Entry(b"a.txt", flags=1)])),
    "strongly encrypted": ("zip_encrypted", lambda: archive([Entry(b"a.txt", flags=1 | 1 << 6)])),
    "encrypted by AES": ("zip_encrypted", lambda: archive([Entry(b"a.txt", method=99, packed=b"x")])),
    "foreign method": ("zip_method", lambda: archive([Entry(b"a.txt", method=14, packed=b"x")])),
    "nested": ("zip_nested", lambda: archive([PLAIN, Entry(b"more.zip")])),
    "nested tar": ("zip_nested", lambda: archive([Entry(b"d/more.tar.gz")])),
    "nested in disguise": ("zip_nested", lambda: archive([Entry(b"b.txt", archive([PLAIN]))])),
    "bomb": ("zip_bomb", lambda: archive([PLAIN, Entry(b"b.txt", bytes(50 << 20))])),
    "bomb of many": (
        "zip_bomb",
        lambda: archive([Entry(b"%d.txt" % i, bytes(64 << 10)) for i in range(200)]),
    ),
    "bomb that lies about its size": ("zip_mismatch", lambda: archive([Entry(b"b.txt", bytes(50 << 20), size=100)])),
    "overlapping": ("zip_overlap", lambda: archive([PLAIN, Entry(b"b.txt", PLAIN.data, offset=0, hidden=True)])),
    "overlapping bomb": ("zip_bomb", lambda: _overlapping(1_000)),
    "quoted": ("zip_overlap", _quoted),
    "another name in its own header": ("zip_mismatch", lambda: archive([Entry(b"a.txt", local_name=b"b.txt")])),
    "another size in its own header": ("zip_mismatch", lambda: archive([Entry(b"a.txt", local_size=3)])),
    "another checksum in its own header": ("zip_mismatch", lambda: archive([Entry(b"a.txt", local_crc=3)])),
    "another method in its own header": ("zip_mismatch", lambda: archive([Entry(b"a.txt", local_method=0)])),
    "less than it says": ("zip_mismatch", lambda: archive([Entry(b"a.txt", b"abc", size=9)])),
    "wrong checksum": ("zip_crc", lambda: archive([Entry(b"a.txt", crc=1)])),
    "damaged": ("zip_crc", _damaged),
    "no deflate": ("zip_broken", lambda: archive([Entry(b"a.txt", b"abcdef", packed=b"\xff\xff\xff\xff")])),
    "deflate that does not end": (
        "zip_broken",
        lambda: archive([Entry(b"a.txt", b"abc" * 50, packed=deflated(b"abc" * 50)[:-3])]),
    ),
    "bytes after the deflate": (
        "zip_broken",
        lambda: archive([Entry(b"a.txt", b"abc", packed=deflated(b"abc") + b"hidden")]),
    ),
    "truncated": ("zip_truncated", lambda: archive([PLAIN] * 3)[:-40]),
    "truncated in the middle": ("zip_truncated", lambda: archive([PLAIN])[:50]),
    "directory past the end": ("zip_truncated", lambda: archive([PLAIN], directory_shift=1_000)),
    "foreign bytes in front, with offsets that fit": (
        "zip_broken",
        lambda: archive([PLAIN], gaps={0: b"MZ" * 50}),
    ),
    "foreign bytes between": ("zip_broken", lambda: archive([PLAIN, Entry(b"b.txt")], gaps={1: b"hidden"})),
    "foreign bytes before the directory": ("zip_broken", lambda: archive([PLAIN], gaps={1: b"hidden"})),
    "foreign bytes after streamed data": (
        "zip_broken",
        lambda: archive([Entry(b"b.txt", flags=8), PLAIN], gaps={1: b"hidden"}),
    ),
    "bytes after": ("zip_broken", lambda: archive([PLAIN]) + b"junk" * 25),
    "bytes before": ("zip_broken", lambda: archive([PLAIN], before=b"#!/bin/sh\n" * 9)),
    "count too high": ("zip_broken", lambda: archive([PLAIN], count=7)),
    "count too low": ("zip_broken", lambda: archive([PLAIN, Entry(b"b.txt")], count=1)),
    "two ends": ("zip_broken", _two_ends),
    "several parts": ("zip_multi_disk", lambda: archive([PLAIN], disk=1)),
    "entry on another part": ("zip_multi_disk", lambda: archive([Entry(b"a.txt", disk=3)])),
    "no archive": ("zip_not_an_archive", lambda: b"just some text, not packed at all"),
    "no bytes": ("zip_not_an_archive", lambda: b""),
    "offset outside": ("zip_broken", lambda: archive([Entry(b"a.txt", offset=1 << 20, hidden=True)])),
    "zip64 size missing": ("zip_broken", lambda: archive([Entry(b"a.txt", size=0xFFFFFFFF)])),
    "a million entries": ("too_many_documents", lambda: archive([PLAIN], count=1_000_000, zip64=True)),
    "too many documents": (
        "too_many_documents",
        lambda: archive([Entry(b"%d.txt" % i, b"x", method=0) for i in range(1_001)]),
    ),
    "too large unpacked": (
        "too_large",
        lambda: archive([Entry(b"%d.txt" % i, method=0, size=40 << 20, packed_size=40 << 20) for i in range(2)]),
    ),
    "only ignored entries": (
        "no_documents",
        lambda: archive([Entry(b"d/", b"", method=0), Entry(b".hidden.txt"), Entry(b"__MACOSX/._a.txt")]),
    ),
    "no entries": ("no_documents", lambda: archive([])),
}
"""Kind -> the code it is refused with, and the bytes. Made for bounds of 1,000 documents and 64 MiB."""
