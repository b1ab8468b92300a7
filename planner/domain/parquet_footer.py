"""Footers of Parquet files that are laid end to end: one that tells of all their row groups.

A row group may stand anywhere in a file, and its footer alone says where. So files of the same columns become one by
copying their row groups as they are and counting on every place that a footer names. A footer is a Thrift struct in the
compact protocol (parquet.thrift, `FileMetaData`; thrift-compact-protocol.md): fields that are not understood here are
copied byte by byte, so that a newer writer's are kept, too. Pure. Raises ValueError for what is no footer, and for
files that differ in more than their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["joined"]

_TRUE, _FALSE, _BYTE, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13
_VARINTS = (4, 5, 6)
_FIXED = {_BYTE: 1, _DOUBLE: 8, _UUID: 16}
_LONG_LIST = 15

_NUM_ROWS, _ROW_GROUPS = 3, 4

_PLACE, _LEFT = "place", "left out"
_Fields = Mapping[int, "str | _Fields"]
"""What is done with the fields of a struct, or with those of the structs of a list: a place is counted on."""

_COLUMN_DATA: _Fields = {9: _PLACE, 10: _PLACE, 11: _PLACE, 14: _PLACE}
_COLUMN: _Fields = {2: _PLACE, 3: _COLUMN_DATA, 4: _PLACE, 6: _PLACE}
_ROW_GROUP: _Fields = {1: _COLUMN, 5: _PLACE, 7: _LEFT}
"""The seventh is the number of the row group, of 16 bits: nobody needs it, and there may be more."""


@dataclass
class _Reader:
    data: bytes
    at: int = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while (byte := self.byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def signed(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def field(self, last: int) -> tuple[int, int]:
        """Number and kind of the next field; kind 0 ends the struct."""
        head = self.byte()
        kind = head & 0x0F
        if not kind:
            return 0, 0
        return last + (head >> 4) if head >> 4 else self.signed(), kind

    def size(self) -> tuple[int, int]:
        """How many values a list has, and their kind."""
        head = self.byte()
        return self.varint() if head >> 4 == _LONG_LIST else head >> 4, head & 0x0F

    def skip(self, kind: int, *, element: bool = False) -> None:
        if kind in _VARINTS:
            self.varint()
        elif kind in (_TRUE, _FALSE):
            self.at += element  # of a field it stands in the kind
        elif kind in _FIXED:
            self.at += _FIXED[kind]
        elif kind == _BINARY:
            size = self.varint()
            self.at += size
        elif kind in (_LIST, _SET):
            count, of = self.size()
            for _ in range(count):
                self.skip(of, element=True)
        elif kind == _MAP:
            count = self.varint()
            kinds = self.byte() if count else 0
            for _ in range(count):
                self.skip(kinds >> 4, element=True)
                self.skip(kinds & 0x0F, element=True)
        elif kind == _STRUCT:
            last = 0
            while (found := self.field(last))[1]:
                last = found[0]
                self.skip(found[1])
        else:
            raise ValueError(f"no kind of Thrift has the number {kind}")


@dataclass(frozen=True)
class _Footer:
    """row_groups: each as it stands in the list, with its places counted on; others: all other fields but the number of
    rows, as (number, kind, bytes)."""

    rows: int
    row_groups: Sequence[bytes]
    others: Sequence[tuple[int, int, bytes]]


def joined(parts: Sequence[tuple[bytes, int]]) -> bytes:
    """One footer of (footer, how much later its file's bytes stand now) each, in order."""
    try:
        read = [_footer(_Reader(footer), by) for footer, by in parts]
    except IndexError:
        raise ValueError("a footer of Parquet ends too early") from None
    first = read[0]
    if any(one.others != first.others for one in read):
        raise ValueError("files of Parquet that differ in more than their rows can't be joined")
    groups = [group for one in read for group in one.row_groups]
    fields = [
        *first.others,
        (_NUM_ROWS, _I64, _zigzag(sum(one.rows for one in read))),
        (_ROW_GROUPS, _LIST, _list_head(len(groups)) + b"".join(groups)),
    ]
    out, last = bytearray(), 0
    for number, kind, data in sorted(fields):
        out += _field_head(number, kind, last) + data
        last = number
    return bytes(out + b"\0")


def _footer(reader: _Reader, by: int) -> _Footer:
    rows, groups, others, last = 0, list[bytes](), list[tuple[int, int, bytes]](), 0
    while (found := reader.field(last))[1]:
        last, kind = found
        if last == _NUM_ROWS:
            rows = reader.signed()
        elif last == _ROW_GROUPS:
            count, _ = reader.size()
            for _ in range(count):
                out = bytearray()
                _copy(reader, out, _ROW_GROUP, by)
                groups.append(bytes(out))
        else:
            start = reader.at
            reader.skip(kind)
            others.append((last, kind, reader.data[start : reader.at]))
    return _Footer(rows, groups, others)


def _copy(reader: _Reader, out: bytearray, fields: _Fields, by: int) -> None:
    """A struct, with its places counted on."""
    last = written = 0
    while (found := reader.field(last))[1]:
        last, kind = found
        start, done = reader.at, fields.get(last)
        if done == _LEFT:
            reader.skip(kind)
            continue
        out += _field_head(last, kind, written)
        written = last
        if done == _PLACE:
            place = reader.signed()
            out += _zigzag(place + by if place else 0)  # nothing stands at 0: a file begins with its mark
        elif isinstance(done, Mapping) and kind == _LIST:
            count, _ = reader.size()
            out += reader.data[start : reader.at]
            for _ in range(count):
                _copy(reader, out, done, by)
        elif isinstance(done, Mapping):
            _copy(reader, out, done, by)
        else:
            reader.skip(kind)
            out += reader.data[start : reader.at]
    out.append(0)


def _field_head(number: int, kind: int, last: int) -> bytes:
    if 0 < number - last <= 15:
        return bytes([number - last << 4 | kind])
    return bytes([kind]) + _zigzag(number)


def _list_head(count: int) -> bytes:
    if count < _LONG_LIST:
        return bytes([count << 4 | _STRUCT])
    return bytes([_LONG_LIST << 4 | _STRUCT]) + _varint(count)


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
