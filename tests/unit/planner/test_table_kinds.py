"""What a column of texts is, and what is lost by it: nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.domain.schema import ColumnKind
from planner.domain.table_kinds import Counts, candidates, class_of, count, instant, kind_of

TEXT, WHOLE, NUMBER = ColumnKind.TEXT, ColumnKind.WHOLE, ColumnKind.NUMBER
BOOLEAN, TIME, JSON = ColumnKind.BOOLEAN, ColumnKind.TIME, ColumnKind.JSON


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        (TEXT, []),
        (WHOLE, ["0", "-7", "9223372036854775807", "-9223372036854775808"]),
        (WHOLE, ["1", "NaN"]),
        (TEXT, ["NaN", "nan"]),
        (TEXT, ["1", "9223372036854775808"]),
        (TEXT, ["1.5", "9223372036854775808"]),
        (TEXT, ["1", "007"]),
        (TEXT, ["1", "+7"]),
        (TEXT, ["1", "-0"]),
        (TEXT, ["1", " 7"]),
        (TEXT, ["1", "1,000"]),
        (TEXT, ["1", "1_000"]),
        (TEXT, ["1", "٣"]),
        (NUMBER, ["1", "2.5", "-0.125", "1e-07", "1e+16", "1.5E10"]),
        (NUMBER, ["2.0", "2.55", "7"]),
        (NUMBER, ["19.90", "25.00", "7"]),
        (TEXT, ["1.9", "1.10"]),
        (TEXT, ["12e3", "45e6"]),
        (TEXT, ["1.5", ".5"]),
        (TEXT, ["1.5", "5."]),
        (TEXT, ["1.5", "1e999", "Infinity"]),
        (TEXT, ["1.5", "inf"]),
        (TEXT, ["1.5", "0x10"]),
        (BOOLEAN, ["true", "False", "TRUE"]),
        (TEXT, ["true", "yes"]),
        (TEXT, ["true", "1"]),
        (TIME, ["2024-01-02", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.678+02:00", "2024-01-02 03:04 -0330"]),
        (TIME, ["2024-01-02 03:04:05", "9999-12-31", "1000-01-01"]),
        (TEXT, ["2024-01-02", "02.01.2024"]),
        (TEXT, ["2024-01-02", "2024-02-30"]),
        (TEXT, ["2024-01-02", "2024-01-02T24:00:00Z"]),
        (TEXT, ["2024-01-02", "9999-12-31T23:59:59-01:00"]),
        (TEXT, ["2024-01-02", "2024-01"]),
        (WHOLE, ["20240102"]),
        (JSON, ["[]", '{"a": [1, null]}']),
        (TEXT, ["[]", "[1"]),
        (TEXT, ["[]", "5"]),
        (TEXT, ["[NaN]"]),
        (TEXT, ['{"a": -Infinity}']),
    ],
)
def test_a_column_is_what_all_of_its_cells_are(kind: ColumnKind, cells: list[str]) -> None:
    assert kind_of(count(cells)) is kind


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_whole_number_of_64_bits_is_one(number: int) -> None:
    assert class_of(str(number)) is WHOLE


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_writes_is_one(number: float) -> None:
    assert class_of(repr(number)) is NUMBER
    assert class_of(json.dumps(number)) is NUMBER


@given(st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30), timezones=st.sampled_from([UTC, None])))
def test_every_time_that_python_writes_is_one(at: datetime) -> None:
    for text in (at.isoformat(), str(at)):
        assert class_of(text) is TIME
        whole = at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=None)
        assert instant(text) == whole


@given(st.lists(st.sampled_from(["1", "1.5", "x", "true", "2024-01-02", "[]", "NaN"]), max_size=30))
def test_the_kind_of_a_column_is_never_one_that_a_sample_of_it_denies(cells: list[str]) -> None:
    kind = kind_of(count(cells))
    for end in range(1, len(cells) + 1):
        assert kind is TEXT or kind in candidates(count(cells[:end]))


def test_without_a_sample_every_kind_is_open() -> None:
    assert candidates(Counts()) == frozenset(ColumnKind) - {TEXT}
