"""The slow passes: records of a CSV as Python's own reader has them, lines of JSON, frames of zstd."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.domain.zstd_frames import BrokenZstd, measure
from planner.tables.csv_rows import delimiter_of, records, write_record
from planner.tables.json_rows import has_trailing_comma

CELLS = st.text(st.sampled_from('ab,;"\n\r é'), max_size=8)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
def test_records_are_what_pythons_reader_says_with_their_lines(rows: list[list[str]], end: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    data = text.getvalue().encode()
    with TemporaryDirectory() as folder:
        place = Path(folder) / "t.csv"
        place.write_bytes(data)
        found = list(records(place, b",", columns=2))
        assert [[cell.decode() for cell in record.cells] for record in found] == rows
        lines, at = [], 1
        for row in rows:
            lines.append(at)
            at += 1 + sum(len(re.findall("\r\n|\r|\n", cell)) for cell in row)
        assert [record.line for record in found] == lines
        place.write_bytes(b"".join(write_record(record.cells) for record in found))
        again = list(records(place, b",", columns=2))
        assert [record.cells for record in again] == [record.cells for record in found]


@pytest.mark.parametrize(
    ("head", "delimiter"),
    [(b"a,b;c,d", b","), (b"a;b;c,d\n1,2,3,4", b";"), (b'"a,b,c,d"\te', b"\t"), (b"\n\na|b", b"|"), (b"a", b",")],
)
def test_the_delimiter_is_the_one_that_the_header_has_most(head: bytes, delimiter: bytes) -> None:
    assert delimiter_of(head) == delimiter


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"a": 1}\n', False),
        (b'{"a": 1,}\n', True),
        (b'{"a": [1 ,\t]}', True),
        (b'{"a": "x,}"}\n{"b": ",]"}\n', False),
        (b'{"a": "x,}"}\n{"b": [1,]}\n', True),
        (b'{"a": "x,}", "b": NaN}\n', False),
    ],
)
def test_a_comma_before_a_bracket_is_found_outside_texts(line: bytes, found: bool, tmp_path: Path) -> None:
    place = tmp_path / "t.jsonl"
    place.write_bytes(line * 3)
    assert has_trailing_comma(place) is found


@pytest.mark.parametrize("length", [100, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_comma_is_found_wherever_a_file_is_cut_into_pieces(length: int, end: bytes, tmp_path: Path) -> None:
    """Lines that are longer than a piece, end with it, or begin in it; what stood in the buffer before is not seen."""
    place = tmp_path / "t.jsonl"
    within = b'{"a": " ,}' + b"x" * (length - 13) + b'"}'
    assert len(within) == length - 1
    lines = [within] * (1 + (5 << 20) // length)
    place.write_bytes(b"\n".join([*lines, b'{"a": 1}']) + end)
    assert not has_trailing_comma(place)
    for at in (0, len(lines) // 2, len(lines)):
        place.write_bytes(b"\n".join([*lines[:at], b'{"a": 1, }', *lines[at:]]) + end)
        assert has_trailing_comma(place)


def test_a_comma_is_found_where_a_piece_ends_before_within_or_behind_it(tmp_path: Path) -> None:
    place, wrong = tmp_path / "t.jsonl", b'{"a": [1, ]}\n'
    for before in range(len(wrong) + 1):
        first = b'{"a": "' + b"x" * ((1 << 20) - before - 10) + b'"}\n'
        place.write_bytes(first + wrong + b'{"a": 1}\n')
        assert len(first) + before == 1 << 20
        assert has_trailing_comma(place)


def frame(*blocks: tuple[int, int], checksum: bool = False, content: int | None = None) -> bytes:
    """A zstd frame of (kind, size) blocks whose data are zeros."""
    head = 4 * checksum | (0x80 if content is not None else 0)
    out = b"\x28\xb5\x2f\xfd" + bytes([head, 0x58]) + (b"" if content is None else content.to_bytes(4, "little"))
    for number, (kind, size) in enumerate(blocks, 1):
        header = (number == len(blocks)) | kind << 1 | size << 3
        out += header.to_bytes(3, "little") + bytes(1 if kind == 1 else size)
    return out + bytes(4 * checksum)


SKIPPABLE = b"\x50\x2a\x4d\x18\x05\0\0\0hello"


@pytest.mark.parametrize(
    ("data", "most"),
    [
        (frame((0, 10)), 10),
        (frame((1, 100_000), (2, 5)), 100_000 + 131_072),
        (frame((2, 5), content=700), 700),
        (frame((2, 5), checksum=True) + SKIPPABLE + frame((0, 3)), 131_072 + 3),
        (b"", 0),
    ],
)
def test_the_frames_of_zstd_bound_what_they_become(data: bytes, most: int) -> None:
    size = measure(io.BytesIO(data))
    assert (size.packed_bytes, size.unpacked_bytes) == (len(data), most)
    for cut in range(1, len(data)):
        if data[:cut] not in (frame((2, 5), checksum=True), frame((2, 5), checksum=True) + SKIPPABLE):
            with pytest.raises(BrokenZstd, match="cut off"):
                measure(io.BytesIO(data[:cut]))


def test_what_is_no_zstd_frame_is_told() -> None:
    for data in (frame((0, 3)) + b"trail", frame((3, 5))):
        with pytest.raises(BrokenZstd, match=r"foreign|damaged"):
            measure(io.BytesIO(data))
