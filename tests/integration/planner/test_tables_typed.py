"""Values of a Parquet file that go without their texts make the very file, and the version, that their texts make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from planner.domain.schema import ColumnKind
from planner.tables import parquet_part, reading
from planner.tables.parts import Part, raw_sql
from tests.integration.planner.table_files import Read, as_parquet, read

SEEN = 2_048
"""Rows that the kinds of columns are told from."""

USUAL = {
    "DOUBLE": "i / 4 + 0.125",
    "BIGINT": "i - 3",
    "BOOLEAN": "i % 3 = 0",
    "DATE": "DATE '2024-01-31' + i::INTEGER",
    "TIMESTAMP": "TIMESTAMP '2024-01-31 10:20:30' + to_seconds(i)",
}
LATER = {
    "DOUBLE": [
        "'NaN'",
        "'inf'",
        "'-inf'",
        "'-0.0'",
        "1e-7",
        "1e300",
        "5e-324",
        "-1.7976931348623157e308",
        "0.1",
        "1e16",
    ],
    "BIGINT": ["'-9223372036854775808'", "9223372036854775807", "0"],
    "BOOLEAN": ["true"],
    "DATE": ["'0999-12-31'", "'1000-01-01'", "'10000-01-01'", "'infinity'", "'-infinity'", "'0044-03-15 (BC)'"],
    "TIMESTAMP": ["'0999-12-31'", "'9999-12-31 23:59:59'", "'10000-01-01'", "'infinity'", "'2024-01-01 10:00:00.5'"],
}
LATER["DATE"] += ["'5881580-07-10'", "'5877642-06-25 (BC)'"]  # no timestamp reaches so far
LATER["TIMESTAMP"] += ["'2024-01-01 10:00:00.123456'", "'2024-01-01 10:00:00.000001'", "'290309-12-22 (BC)'"]

ALL = {
    "whole": "i - 7",
    "tiny": "(i % 100)::TINYINT",
    "unsigned": "(i * 1_000_000)::UINTEGER",
    "large": "9223372036854775800::UBIGINT + i::UBIGINT",
    "huge": "i::HUGEINT",
    "number": "([0.1::DOUBLE, 'NaN', '-0.0', 1e-7, 1e21, 12345678.9, NULL]::DOUBLE[])[1 + i % 7]",
    "endless": "([0.1::DOUBLE, 'inf']::DOUBLE[])[1 + i % 2]",
    "single": "(i / 10)::FLOAT",
    "price": "(i / 10)::DECIMAL(10, 2)",
    "whole_decimal": "i::DECIMAL(10, 0)",
    "wide_decimal": "i::DECIMAL(38, 0) * 10_000_000_000_000_000_000",
    "on": "[true, false, NULL][1 + i % 3]",
    "day": "DATE '2024-02-28' + i::INTEGER",
    "second": "TIMESTAMP '2024-02-28 23:59:59' + to_seconds(i)",
    "midnight": "TIMESTAMP '2024-02-28' + to_days(i::INTEGER)",
    "micro": "TIMESTAMP '2024-02-28' + to_microseconds(i * 100)",
    "milli": "(TIMESTAMP '2024-02-28' + to_milliseconds(i))::TIMESTAMP_MS",
    "nano": "'2024-02-28 00:00:00.123456789'::TIMESTAMP_NS",
    "zoned": "'2024-02-28 00:00:00+02'::TIMESTAMPTZ",
    "clock": "TIME '10:20:30'",
    "text": "['plain', 'Ärmel \"x\" \\\\', '', NULL, '5', 'a' || chr(10) || chr(0) || chr(127)][1 + i % 6]",
    "digits": "['5', '7'][1 + i % 2]",
    "bytes": "encode('ä' || i)",
    "nested": "{'a': [i, NULL], 'b': {'c': 'é', 'd': i / 3}}",
    "map": "MAP {'k': i}",
    "json": "('{\"a\": ' || i || '}')::JSON",
    "uuid": "'6b3a4c1e-0000-4000-8000-000000000000'::UUID",
    "kind": "['x', 'y'][1 + i % 2]::ENUM ('x', 'y')",
}
TYPED = ("whole", "tiny", "unsigned", "huge", "number", "on", "day", "second", "midnight", "micro", "milli")
"""DuckDB writes a HUGEINT as a DOUBLE, and a TIMESTAMP_MS comes back as a TIMESTAMP."""


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[bytes]], tuple[Read, Read, set[str]]]:
    """Reads files as they are and by their texts; and the columns of the first that went without."""
    typed = set[str]()

    def spied(parts: Sequence[Part], names: Sequence[str], wanted: Collection[str] = ()) -> str:
        typed.update(wanted)
        return raw_sql(parts, names, wanted)

    def read_both(files: Sequence[bytes]) -> tuple[Read, Read, set[str]]:
        sent = {f"{number}.parquet": data for number, data in enumerate(files)}
        with monkeypatch.context() as patched:
            patched.setattr(reading, "raw_sql", spied)
            ours = read(tmp_path, sent, key="id")
        with monkeypatch.context() as patched:
            patched.setattr(parquet_part, "typed_of", lambda value, kind: None)
            return ours, read(tmp_path, sent, key="id"), typed

    return read_both


def alike(ours: Read, texts: Read) -> None:
    assert ours.version.snapshot != texts.version.snapshot
    assert ours.version.snapshot.read_bytes() == texts.version.snapshot.read_bytes()
    assert replace(ours.version, snapshot=texts.version.snapshot) == texts.version


def test_every_type_is_the_same_file_and_version(
    both: Callable[[Sequence[bytes]], tuple[Read, Read, set[str]]], tmp_path: Path
) -> None:
    made = (
        f"SELECT 'k' || i AS id, {', '.join(f'{sql} AS {name}_' for name, sql in ALL.items())} FROM range(40) AS t(i)"
    )
    ours, texts, typed = both([as_parquet(tmp_path, made)])
    alike(ours, texts)
    assert typed == {f"{name}_" for name in TYPED}
    # Where the first rows leave a column open, the whole table goes by its texts.
    alike(*both([as_parquet(tmp_path, f"SELECT *, NULL::DOUBLE AS nothing FROM ({made})")])[:2])


@pytest.mark.parametrize(("kind", "later"), [(kind, later) for kind, some in LATER.items() for later in some])
def test_a_value_that_comes_late_is_what_its_text_is(
    both: Callable[[Sequence[bytes]], tuple[Read, Read, set[str]]], tmp_path: Path, kind: str, later: str
) -> None:
    rows = f"SELECT 'k' || i AS id, ({USUAL[kind]})::{kind} AS v FROM range({SEEN}) AS t(i)"
    late = f"SELECT 'late', {later}::{kind} UNION ALL SELECT 'null', NULL"
    ours, texts, typed = both([as_parquet(tmp_path, f"{rows} UNION ALL {late}")])
    alike(ours, texts)
    assert typed == {"v"}


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("5::BIGINT", "'6'", ColumnKind.WHOLE),
        ("5::BIGINT", "6::SMALLINT", ColumnKind.WHOLE),
        ("5::BIGINT", "0.5::DOUBLE", ColumnKind.NUMBER),
        ("0.5::DOUBLE", "0.1::FLOAT", ColumnKind.NUMBER),
        ("DATE '2024-01-02'", "TIMESTAMP '2024-01-02 10:00:00'", ColumnKind.TIME),
        ("DATE '2024-01-02'", "'never'", ColumnKind.TEXT),
        ("true", "NULL::BOOLEAN", ColumnKind.BOOLEAN),
    ],
)
def test_files_with_one_column_of_several_types(
    both: Callable[[Sequence[bytes]], tuple[Read, Read, set[str]]],
    tmp_path: Path,
    first: str,
    second: str,
    kind: ColumnKind,
) -> None:
    sent = [
        as_parquet(tmp_path, f"SELECT 'a' AS id, {first} AS v"),
        as_parquet(tmp_path, f"SELECT 'b' AS id, {second} AS v"),
    ]
    ours, texts, _ = both([*sent, as_parquet(tmp_path, "SELECT 'c' AS id")])
    alike(ours, texts)
    assert [column.kind for column in ours.version.schema.columns if column.name == "v"] == [kind]
