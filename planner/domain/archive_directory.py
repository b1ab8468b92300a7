"""The directory of a zip archive, checked in whole before any member is unpacked.

What archives lie about lies here: the central directory is read twice as a stream (never in memory) and compared with
the header before each member. A refusal is a stable code and a sentence. What passes is unambiguous: one directory,
members that do not overlap, plain files with relative, distinct names, stored or deflated, within the bounds that it
declares; whether the bytes keep those promises is seen when they are unpacked (planner.archive).

Source of the layout: PKWARE APPNOTE 6.3, sections 4.3-4.5.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from planner.domain import names
from planner.domain.names import mebibytes

__all__ = ["Bounds", "Directory", "Member", "Refusal", "TooMuch", "members", "read_directory"]

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_END_MAGIC = b"PK\x05\x06"
_MAX_COMMENT = 0xFFFF
_SMALL_BYTES = 64 << 10
"""No ratio is asked of what unpacks to so little: a page of blanks is no bomb."""
_STORED, _DEFLATED = 0, 8
_NOTHING = frozenset({0})
_DESCRIPTORS = frozenset({0, 12, 16, 20, 24})
"""Sizes of what follows data that was streamed: checksum and sizes, with a signature or without; or nothing."""


class Refusal(Exception):
    """The archive is refused whole. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class TooMuch(Refusal):
    """Honest perhaps, but past the bounds."""


@dataclass(frozen=True)
class Bounds:
    max_documents: int
    max_unpacked_bytes: int
    max_ratio: int


@dataclass(frozen=True)
class Member:
    """One entry. `data_offset` is 0 until its local header has been read."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed_bytes: int
    unpacked_bytes: int
    header_offset: int
    ignored: bool
    data_offset: int = 0


@dataclass(frozen=True)
class Directory:
    offset: int
    size_bytes: int
    entries: int
    documents: int = 0
    ignored: int = 0


def read_directory(file: BinaryIO, bounds: Bounds) -> Directory:
    """Finds the directory and checks all of it. Raises Refusal, TooMuch."""
    found = _find(file)
    if found.entries > 3 * bounds.max_documents + 1_000:
        raise TooMuch(
            "too_many_documents",
            f"the archive has {found.entries:,} entries, at most {bounds.max_documents:,} documents are taken",
        )
    documents = ignored = unpacked = packed = 0
    seen: set[bytes] = set()
    starts, ends = array("Q"), array("Q")
    for member in _entries(file, found):
        _check(member, bounds)
        key = hashlib.blake2b(names.normalised(member.name).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in seen:
            raise Refusal(
                "zip_duplicate",
                f"the archive holds {member.name!r} twice, or under names that some systems take for the same",
            )
        seen.add(key)
        starts.append(member.header_offset)
        ends.append(member.header_offset + _LOCAL.size + len(member.raw_name) + member.packed_bytes)
        if member.ignored:
            ignored += 1
            continue
        documents += 1
        unpacked += member.unpacked_bytes
        packed += member.packed_bytes
        if documents > bounds.max_documents:
            raise TooMuch(
                "too_many_documents",
                f"the archive has more than {bounds.max_documents:,} documents, the most that an upload may have",
            )
        if unpacked > bounds.max_unpacked_bytes:
            raise TooMuch(
                "too_large",
                f"the archive unpacks to more than {mebibytes(bounds.max_unpacked_bytes)}, "
                "the most that an upload may have",
            )
    if unpacked > _SMALL_BYTES and unpacked > bounds.max_ratio * packed:
        raise Refusal(
            "zip_bomb",
            f"the archive unpacks to {unpacked // max(packed, 1):,} times its "
            f"size, at most {bounds.max_ratio} times is taken",
        )
    _check_overlap(starts, ends, found)
    _check_gaps(members(file, found), found)
    return Directory(found.offset, found.size_bytes, found.entries, documents, ignored)


def members(file: BinaryIO, directory: Directory) -> Iterator[Member]:
    """Every entry in the directory's order, with the place of its data; its own header says the same as its entry."""
    end = 0
    for member in _entries(file, directory):
        file.seek(member.header_offset)
        located = _compared(member, file.read(_LOCAL.size), file)
        end = located.data_offset + member.packed_bytes
        if end > directory.offset:
            raise Refusal("zip_overlap", f"{member.name!r} reaches into the archive's directory")
        yield located


def _find(file: BinaryIO) -> Directory:
    size = file.seek(0, 2)
    if size == 0:
        raise Refusal("zip_not_an_archive", "the archive is empty: it has no bytes at all")
    tail_size = min(size, _END.size + _MAX_COMMENT)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    fits = []
    at = tail.rfind(_END_MAGIC)
    while at >= 0:
        if len(tail) - at >= _END.size and at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") == len(
            tail
        ):
            fits.append(at)
        at = tail.rfind(_END_MAGIC, 0, at)
    if not fits:
        _check_trail(tail, size)
        file.seek(0)
        if file.read(4) in (b"PK\x03\x04", _END_MAGIC):
            raise Refusal(
                "zip_truncated", "the archive is truncated: its directory, which stands at the end, is missing"
            )
        raise Refusal("zip_not_an_archive", "this is no zip archive")
    if len(fits) > 1:
        raise Refusal("zip_broken", "the archive has two ends, so programs would not agree on what it holds")
    end_offset = size - tail_size + fits[0]
    _, disk, first_disk, here, entries, length, offset, _ = _END.unpack_from(tail, fits[0])
    if 0xFFFF in (disk, first_disk, here, entries) or 0xFFFFFFFF in (length, offset):
        end_offset, disk, first_disk, here, entries, length, offset = _find64(file, end_offset)
    if disk or first_disk or here != entries:
        raise Refusal("zip_multi_disk", "the archive is one part of several; put it together first")
    if offset + length > end_offset:
        raise Refusal("zip_truncated", "the archive is truncated: its directory is said to reach past its end")
    if offset + length < end_offset:
        raise Refusal("zip_broken", "the archive has foreign bytes before its first member or after its directory")
    return Directory(offset, length, entries)


def _check_trail(tail: bytes, size: int) -> None:
    """An end whose directory reaches up to it is one: what follows is not the archive's."""
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        return
    *_, length, offset, comment = _END.unpack_from(tail, at)
    extra = len(tail) - at - _END.size - comment
    if extra > 0 and (offset == 0xFFFFFFFF or offset + length == size - len(tail) + at):
        raise Refusal("zip_broken", f"the archive has {extra:,} foreign bytes after its end")


def _find64(file: BinaryIO, end_offset: int) -> tuple[int, int, int, int, int, int, int]:
    at = end_offset - _END64_LOCATOR.size
    file.seek(max(at, 0))
    raw = file.read(_END64_LOCATOR.size) if at >= 0 else b""
    if len(raw) < _END64_LOCATOR.size or raw[:4] != b"PK\x06\x07":
        raise Refusal("zip_broken", "the archive's zip64 directory is missing")
    _, disk, offset64, disks = _END64_LOCATOR.unpack(raw)
    file.seek(min(offset64, end_offset))
    raw = file.read(_END64.size)
    if len(raw) < _END64.size or raw[:4] != b"PK\x06\x06" or disk or disks > 1:
        raise Refusal("zip_broken", "the archive's zip64 directory is not where it is said to be")
    _, record, _, _, this_disk, first_disk, here, entries, length, offset = _END64.unpack(raw)
    if offset64 + 12 + record != at:
        raise Refusal("zip_broken", "the archive's zip64 directory is not as long as it says")
    return offset64, this_disk, first_disk, here, entries, length, offset


def _entries(file: BinaryIO, directory: Directory) -> Iterator[Member]:
    """The central directory, entry by entry; others may move the file between two of them."""
    at, end = directory.offset, directory.offset + directory.size_bytes
    count = 0
    while at < end:
        file.seek(at)
        raw = file.read(_CENTRAL.size)
        if len(raw) < _CENTRAL.size or raw[:4] != b"PK\x01\x02":
            raise Refusal("zip_broken", f"the archive's directory is broken after {count:,} entries")
        (_, _, _, flags, method, _, _, crc, packed, unpacked, n, m, k, disk, _, attributes, offset) = _CENTRAL.unpack(
            raw
        )
        variable = file.read(n + m)
        at += _CENTRAL.size + n + m + k
        count += 1
        if len(variable) < n + m or at > end or count > directory.entries:
            raise Refusal(
                "zip_broken",
                f"the archive's directory is broken: it holds more than the {directory.entries:,} entries that it says",
            )
        raw_name, extra = variable[:n], variable[n:]
        unpacked, packed, offset = _wide(extra, unpacked, packed, offset)
        name = _decoded(raw_name, flags)
        if disk not in (0, 0xFFFF):
            raise Refusal("zip_multi_disk", "the archive is one part of several; put it together first")
        if offset >= directory.offset:
            raise Refusal("zip_broken", f"{name!r} is said to lie outside the archive")
        _check_kind(name, attributes)
        yield Member(name, raw_name, flags, method, crc, packed, unpacked, offset, names.is_ignored(name))
    if count != directory.entries:
        raise Refusal("zip_broken", f"the archive's directory holds {count:,} entries and says {directory.entries:,}")


def _decoded(raw: bytes, flags: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        if flags & 0x800:
            raise Refusal(
                "zip_name_encoding", f"the name {raw[:60]!r} in the archive is said to be UTF-8 and is not"
            ) from None
        return raw.decode("cp437")


def _wide(extra: bytes, unpacked: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The 64-bit numbers of a zip64 extra field, where the 32-bit ones say to look there."""
    if 0xFFFFFFFF not in (unpacked, packed, offset):
        return unpacked, packed, offset
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            field, wide = extra[at + 4 : at + 4 + length], []
            for value in (unpacked, packed, offset):
                if value == 0xFFFFFFFF:
                    if len(field) < 8:
                        break
                    value, field = int.from_bytes(field[:8], "little"), field[8:]
                wide.append(value)
            if len(wide) == 3:
                return wide[0], wide[1], wide[2]
            break
        at += 4 + length
    raise Refusal("zip_broken", "the archive's directory lacks a zip64 size that it points to")


def _check_kind(name: str, attributes: int) -> None:
    mode = attributes >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise Refusal("zip_link", f"{name!r} in the archive is a link; put the file itself in")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refusal("zip_special", f"{name!r} in the archive is a device or pipe, no file")


def _check(member: Member, bounds: Bounds) -> None:
    name = member.name
    problem = names.path_problem(name)
    if problem is not None:
        raise Refusal(f"zip_{problem.code}", f"{name[:120]!r} in the archive {problem.text}")
    if member.flags & (1 | 1 << 6 | 1 << 13) or member.method == 99:
        raise Refusal("zip_encrypted", f"{name!r} in the archive is encrypted; make it without a password")
    if member.method not in (_STORED, _DEFLATED):
        raise Refusal(
            "zip_method", f"{name!r} is packed by method {member.method}; stored (0) and deflate (8) are read"
        )
    if member.method == _STORED and member.packed_bytes != member.unpacked_bytes:
        raise Refusal("zip_broken", f"{name!r} is stored as it is, yet with two sizes")
    if member.ignored:
        return
    if names.is_nested_archive(name):
        raise Refusal("zip_nested", f"{name!r} is an archive inside the archive; unpack it first")
    if member.unpacked_bytes > _SMALL_BYTES and member.unpacked_bytes > bounds.max_ratio * member.packed_bytes:
        times = member.unpacked_bytes // max(member.packed_bytes, 1)
        raise Refusal(
            "zip_bomb", f"{name!r} unpacks to {times:,} times its size, at most {bounds.max_ratio} times is taken"
        )


def _check_overlap(starts: array[int], ends: array[int], directory: Directory) -> None:
    reached = 0
    for index in sorted(range(len(starts)), key=starts.__getitem__):
        if starts[index] < reached:
            raise Refusal("zip_overlap", "members of the archive overlap: the same bytes are said to be several files")
        reached = ends[index]
    if reached > directory.offset:
        raise Refusal("zip_overlap", "a member of the archive reaches into its directory")


def _check_gaps(located: Iterator[Member], directory: Directory) -> None:
    """Nothing stands before, between or after the members, but what follows the data of those that say so."""
    starts, ends, streamed = array("Q"), array("Q"), bytearray()
    for member in located:
        starts.append(member.header_offset)
        ends.append(member.data_offset + member.packed_bytes)
        streamed.append(bool(member.flags & 1 << 3))
    reached, allowed = 0, _NOTHING
    for index in sorted(range(len(starts)), key=starts.__getitem__):
        _check_gap(starts[index] - reached, allowed, "between its members" if reached else "before its first member")
        reached, allowed = ends[index], _DESCRIPTORS if streamed[index] else _NOTHING
    _check_gap(directory.offset - reached, allowed, "before its directory")


def _check_gap(size: int, allowed: frozenset[int], where: str) -> None:
    if size < 0:
        raise Refusal("zip_overlap", "members of the archive overlap: the same bytes are said to be several files")
    if size not in allowed:
        raise Refusal("zip_broken", f"the archive has {size:,} foreign bytes {where}")


def _compared(member: Member, raw: bytes, file: BinaryIO) -> Member:
    name = member.name
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\x03\x04":
        raise Refusal("zip_broken", f"{name!r} is not where the archive's directory says")
    _, _, flags, method, _, _, crc, packed, unpacked, n, m = _LOCAL.unpack(raw)
    variable = file.read(n + m)
    if variable[:n] != member.raw_name or len(variable) < n + m:
        raise Refusal("zip_mismatch", f"{name!r} goes by another name inside the archive than in its directory")
    if method != member.method or (flags ^ member.flags) & (1 | 1 << 3):
        raise Refusal(
            "zip_mismatch", f"{name!r} is described in two ways, by its own header and by the archive's directory"
        )
    if 0xFFFFFFFF in (packed, unpacked):
        unpacked, packed, _ = _wide(variable[n:], unpacked, packed, 0)
    later = bool(flags & 1 << 3)  # sizes and checksum follow the data; the header may have zeros
    for own, said in ((crc, member.crc), (packed, member.packed_bytes), (unpacked, member.unpacked_bytes)):
        if own != said and not (later and own == 0):
            raise Refusal(
                "zip_mismatch",
                f"{name!r} has another size or checksum in its own header than in the archive's directory",
            )
    return Member(
        name, member.raw_name, member.flags, member.method, member.crc, member.packed_bytes, member.unpacked_bytes,
        member.header_offset, member.ignored, member.header_offset + _LOCAL.size + n + m,
    )  # fmt: skip
