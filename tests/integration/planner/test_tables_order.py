"""Rows keep their order when several threads read and write them: an id, a page and a plan rest on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.tables.wanted import TableBounds
from tests.integration.planner.table_files import as_parquet, as_zstd, packed_rows, read

ROWS = 80_000


def cells(number: int) -> dict[str, object]:
    """Every kind that a column may have."""
    return {
        "id": f"k{number}",
        "brand": f"Brand {number % 90}",
        "model": f"M{number % 7} {number % 1_000}",
        "whole": number,
        "number": number / 4,
        "flag": number % 3 == 0,
        "day": f"20{10 + number % 10}-03-{1 + number % 28:02d}",
        "time": f"2024-03-04T05:06:{number % 60:02d}Z",
        "tags": [number % 5],
        "note": "x" * (number % 300),
    }


@pytest.mark.parametrize(
    "form", ["jsonl", "csv", "csv whose kinds change late", "csv with quoted line ends", "zst", "parquet"]
)
def test_rows_keep_their_order(form: str, tmp_path: Path) -> None:
    rows = [cells(number) for number in range(ROWS)]
    expected = [f"k{number}" for number in range(ROWS)]
    if form == "csv whose kinds change late":
        rows[-1] |= {"flag": "perhaps", "whole": "NaN", "number": None, "tags": None, "day": "x"}
    if form == "csv with quoted line ends":
        for row in rows[::50]:
            row["note"] = 'two\n"lines"\r\nof, it'
    names = list(rows[0])
    if form == "jsonl":
        data, name = b"".join(json.dumps(row).encode() + b"\n" for row in rows), "t.jsonl"
    else:
        data, name = packed_rows(names, rows), "t.csv"
    if form == "zst":
        data, name = as_zstd(tmp_path, data), "t.csv.zst"
    if form == "parquet":
        source = tmp_path / "source.csv"
        source.write_bytes(data)
        data, name = as_parquet(tmp_path, f"SELECT * FROM read_csv('{source}', all_varchar = true)"), "t.parquet"
    found = read(tmp_path, data, name=name, bounds=TableBounds(threads=4))
    assert found.keys == expected
    assert found.version.row_count == ROWS
    if form in ("jsonl", "csv", "zst", "parquet"):
        assert len(set(found.kinds().values())) == 6
        assert found.version.version_id == "source-14f6e197b9a7e1a120406f9286e73e91"
