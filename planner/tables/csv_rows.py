"""The slow pass over a CSV: every record with its line, and what is wrong with it, to the column.

A record is what RFC 4180 says, read kindly: lines end with LF, CRLF or CR, also mixed; a quote within a cell that does
not begin with one is a character; blanks around a quoted cell don't count. Empty lines are passed over. After a broken
record it goes on at the next line. It reads a mapped file and holds one record, of at most MAX_LINE_BYTES.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from planner.domain.rows import MAX_LINE_BYTES
from planner.tables.refusals import count_of

__all__ = ["Record", "delimiter_of", "records", "write_record"]

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")
_DELIMITERS = b",;\t|"


@dataclass(frozen=True)
class Record:
    """line: where it begins, from 1. cells are empty where there is a problem."""

    line: int
    cells: list[bytes]
    problem: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing: such rows are passed over in every format."""
        return not any(self.cells)


def delimiter_of(head: bytes) -> bytes:
    """The delimiter of a CSV by its first line: of `,;` tab and `|` the one that stands there most often."""
    first = _LINE_END.split(head.removeprefix(_BOM).lstrip(b"\r\n"), maxsplit=1)[0]
    bare = re.sub(rb'"[^"]*"', b"", first)
    counts = {bytes([byte]): bare.count(byte) for byte in _DELIMITERS}
    return max(counts, key=lambda mark: counts[mark])


def records(path: Path, delimiter: bytes, *, columns: int | None = None) -> Iterator[Record]:
    """Every record but empty lines, the header first. `columns`: a record with another number of cells is broken."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        yield from _Scan(data, delimiter, columns).records()


def write_record(cells: list[bytes]) -> bytes:
    """A line that every reader takes alike; delimiter `,`."""
    return b",".join(_quoted(cell) for cell in cells) + b"\n"


def _quoted(cell: bytes) -> bytes:
    if any(byte in cell for byte in (b",", b'"', b"\n", b"\r")) or cell != cell.strip() or not cell:
        return b'"' + cell.replace(b'"', b'""') + b'"'
    return cell


class _Scan:
    def __init__(self, data: mmap.mmap, delimiter: bytes, columns: int | None) -> None:
        self._data = data
        self._columns = columns
        mark = re.escape(delimiter)
        blank = b" *" if delimiter == b"\t" else b"[ \t]*"
        self._open = re.compile(blank + b'"')
        self._inside = re.compile(b'[^"]*(?:""[^"]*)*')
        self._after = re.compile(b'"' + blank + b"(?=" + mark + b"|\r|\n|\\Z)")
        self._bare = re.compile(b"[^" + mark + b"\r\n]*")
        self._delimiter = delimiter

    def records(self) -> Iterator[Record]:
        data, size = self._data, len(self._data)
        at = 3 if data[:3] == _BOM else 0
        line = 1
        while at < size:
            end = _LINE_END.match(data, at)
            if end is not None:
                at, line = end.end(), line + 1
                continue
            cells, stop, problem, where = self._record(at)
            if problem:
                found = _LINE_END.search(data, at)
                stop = found.start() if found else size
                at_column = _place(data, at, where, line) if where >= 0 else f"{line}"
                yield Record(line, [], f"line {at_column}: {problem}")
            else:
                yield self._checked(line, cells, data[at:stop])
            line += len(_LINE_END.findall(data[at:stop]))
            at = stop
            end = _LINE_END.match(data, at)
            if end is not None:
                at, line = end.end(), line + 1

    def _record(self, start: int) -> tuple[list[bytes], int, str, int]:
        """(cells, where it ends, what is wrong, where; -1: all of it)."""
        data, cells, at = self._data, list[bytes](), start
        limit = min(start + MAX_LINE_BYTES, len(data))
        while True:
            opened = self._open.match(data, at, limit)
            if opened is not None:
                inside = self._inside.match(data, opened.end(), limit)
                assert inside is not None
                closed = self._after.match(data, inside.end())
                if closed is None:
                    if inside.end() >= len(data):
                        return [], at, "the quote that opens here is never closed", opened.end() - 1
                    if inside.end() >= limit:
                        return [], at, f"longer than {MAX_LINE_BYTES >> 20} MiB", -1
                    return [], at, "a quote within a quoted cell is not doubled", inside.end()
                cells.append(inside.group().replace(b'""', b'"'))
                at = closed.end()
            else:
                bare = self._bare.match(data, at, limit)
                assert bare is not None
                cells.append(bare.group())
                at = bare.end()
            if at >= limit < len(data):
                return [], at, f"longer than {MAX_LINE_BYTES >> 20} MiB", -1
            if data[at : at + 1] != self._delimiter:
                return cells, at, "", 0
            at += 1

    def _checked(self, line: int, cells: list[bytes], raw: bytes) -> Record:
        if self._columns is not None and len(cells) != self._columns:
            told = f"{count_of(len(cells), 'cell')} where the header has {count_of(self._columns, 'column')}"
            return Record(line, [], f"line {line}: {told}")
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            return Record(line, [], f"line {_place(raw, 0, error.start, line)}: {not_utf8(raw, error)}")
        return Record(line, cells)


def not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    """What to say of bytes that are no UTF-8."""
    try:
        raw.decode("cp1252")
    except UnicodeDecodeError:
        return f"byte 0x{raw[error.start]:02X} is not UTF-8"
    return f"byte 0x{raw[error.start]:02X} is not UTF-8; if the file is Windows-1252 or Latin-1, save it as UTF-8"


def _place(data: bytes | mmap.mmap, start: int, where: int, line: int) -> str:
    """`3, column 7` of a place in a record that begins in `line` at `start`."""
    before = data[start:where]
    ends = list(_LINE_END.finditer(before))
    if ends:
        line += len(ends)
        before = before[ends[-1].end() :]
    return f"{line}, column {len(before.decode('utf-8', 'replace')) + 1}"
