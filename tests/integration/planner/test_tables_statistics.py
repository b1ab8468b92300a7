"""What is told of each column, exactly or nearly, and the notes on a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.tables import statistics
from planner.tables.wanted import ColumnStatistics
from tests.integration.planner.table_files import as_csv, as_jsonl, read

ROWS = [
    {
        "id": f"k{n:04d}",
        "word": "often" if n % 2 else f"w{n % 7}",
        "number": n / 4,
        "flag": n % 3 == 0,
        "day": f"2024-01-{1 + n % 31:02d}",
        "list": [n % 2],
        "long": f"{n % 5}" * 1_200,
        "none": None,
    }
    for n in range(400)
]


def told(folder: Path) -> dict[str, ColumnStatistics]:
    return {one.name: one for one in read(folder, as_jsonl(ROWS), name="t.jsonl").version.statistics}


def test_small_tables_are_told_exactly(tmp_path: Path) -> None:
    found = told(tmp_path)
    assert found["id"] == ColumnStatistics("id", 0, 400, True, "k0000", "k0399", ())
    assert (found["word"].distinct, found["word"].frequent[0], len(found["word"].frequent)) == (8, ("often", 200), 5)
    assert (found["number"].least, found["number"].most, found["number"].distinct) == ("0.0", "99.75", 400)
    assert (found["flag"].least, found["flag"].most) == ("false", "true")
    assert found["flag"].frequent == (("false", 266), ("true", 134))
    assert (found["day"].least, found["day"].most) == ("2024-01-01", "2024-01-31")
    assert (found["list"].distinct, found["list"].least) == (2, None)
    assert (found["long"].least, found["long"].frequent) == (None, ())
    assert found["none"] == ColumnStatistics("none", 400, 0, True, None, None, ())


def test_large_ones_nearly_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "EXACT_ROWS", 10)
    monkeypatch.setattr(statistics, "EXACT_VALUES", 4)
    found = told(tmp_path)
    assert not found["id"].distinct_exact
    assert abs(found["id"].distinct - 400) < 40
    assert found["id"].frequent == ()
    assert not found["word"].distinct_exact
    assert found["word"].frequent[0] == ("often", 200), "candidates are counted exactly"
    assert found["flag"].distinct_exact


def test_notes_tell_of_empty_rows_nan_and_the_few_that_make_a_column_text(tmp_path: Path) -> None:
    rows = [
        {"id": n, "number": "NaN" if n == 5 else n, "mixed": "n/a" if n == 7 else n, "even": n % 2} for n in range(50)
    ]
    rows.insert(3, dict.fromkeys(rows[0]))  # type: ignore[arg-type]
    found = read(tmp_path, as_csv(rows))
    assert found.kinds() == {"id": "whole", "number": "whole", "mixed": "text", "even": "whole"}
    assert found.version.row_count == 50
    assert found.version.notes == (
        "1 row was left out for having no value at all",
        "column 'number': 1 NaN taken as null",
        "column 'mixed' is text: 1 of 50 values is not of kind number, the first is 'n/a' in row 8",
    )
