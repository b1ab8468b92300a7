"""Files of Parquet laid end to end are one file, as its reader knows it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from planner.parquet_parts import join_parts

ROWS, ROW_GROUP = 6_144, 2_048
COLUMNS = """
    i AS seq, 'key ' || i AS key, 'group ' || i % 7 AS "group", CASE WHEN i % 3 > 0 THEN i / 7 END AS number,
    i % 2 = 0 AS even, (i % 100)::UTINYINT AS tiny, TIMESTAMP '2024-01-01' + to_seconds(i) AS moment,
    [i, i + 1] AS list, {'a': i, 'b': 'x' || i} AS struct, repeat('ä', i::INTEGER % 50) AS text
"""


def written(folder: Path, parts: int, columns: str = COLUMNS) -> list[Path]:
    """Parts of ROWS rows each, and in a file `whole` all of their rows; more than one of their row groups is full."""
    kinds = f"(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP})"
    places = [folder / f"part {number}" for number in range(parts)]
    with duckdb.connect() as connection:
        for number, place in enumerate(places):
            rows = f"range({number * ROWS}, {number * ROWS + ROWS}) AS t(i)"
            connection.execute(f"COPY (SELECT {columns} FROM {rows}) TO '{place}' {kinds}")
        connection.execute(
            f"COPY (SELECT {columns} FROM range({parts * ROWS}) AS t(i)) TO '{folder / 'whole'}' {kinds}"
        )
    return places


def asked(place: Path, question: str) -> list[tuple[object, ...]]:
    return duckdb.execute(question, {"place": str(place)}).fetchall()


@pytest.mark.parametrize("parts", [1, 2, 45])
def test_parts_are_one_file_with_all_their_rows_in_order(tmp_path: Path, parts: int) -> None:
    places, joined = written(tmp_path, parts), tmp_path / "joined"
    join_parts(places, joined)
    everything = (
        "SELECT count(*), sum(hash(rows, file_row_number)) FROM read_parquet($place, file_row_number = true) AS rows"
    )
    assert asked(joined, everything) == asked(tmp_path / "whole", everything)
    assert asked(joined, "SELECT num_rows, num_row_groups FROM parquet_file_metadata($place)") == [
        (parts * ROWS, parts * ROWS // ROW_GROUP)
    ]
    assert not [place for place in places if place.exists()]


def test_what_skips_row_groups_finds_the_same_rows(tmp_path: Path) -> None:
    """By bounds, by filters of values, and by the number of the row."""
    joined = tmp_path / "joined"
    join_parts(written(tmp_path, 4), joined)
    for where in (
        "seq >= 9000 AND seq < 9003",
        "key = 'key 20000'",
        "\"group\" = 'group 3' AND seq % 5000 = 0",
        "\"group\" = 'group 9'",
        "file_row_number BETWEEN 12287 AND 12289",
        "number IS NULL AND seq > 24570",
    ):
        question = f"SELECT file_row_number, * FROM read_parquet($place, file_row_number = true) WHERE {where}"
        assert asked(joined, question) == asked(tmp_path / "whole", question), where
    filters = "SELECT bloom_filter_excludes FROM parquet_bloom_probe($place, 'group', 'group 9')"
    assert asked(joined, filters) == asked(tmp_path / "whole", filters)


def test_files_that_differ_in_more_than_their_rows_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    places = [*written(one, 1), *written(two, 1, "i AS seq, 'k' AS key")]
    with pytest.raises(ValueError, match="differ in more than their rows"):
        join_parts(places, tmp_path / "joined")


@pytest.mark.parametrize("size", [0, 3, 20, -1])
def test_what_is_no_whole_file_is_refused(tmp_path: Path, size: int) -> None:
    places = written(tmp_path, 2)
    data = places[1].read_bytes()
    places[1].write_bytes(data[:size])
    with pytest.raises(ValueError, match="no file of Parquet"):
        join_parts(places, tmp_path / "joined")
