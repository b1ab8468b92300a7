"""Any rows, in any format, are the same version, with the values that the rules in Python say."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.runtime.parquet_files import literal
from planner.domain.natural import natural_key
from planner.domain.schema import ColumnKind
from planner.domain.table_kinds import NAN, count, instant, kind_of
from tests.integration.planner.table_files import as_jsonl, packed_rows, read

# Written alike by Python's csv and by JSON: what they write differently (a list, 1.50 as a number) is no same row.
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.text("a,\"\n\r\t;\\ '{[", max_size=6),
    st.sampled_from(
        ["007", "+1", "1", "-2", "1.10", "1.5", "2.50", "1e5", "nan", "true", "TRUE", "null", "NULL", "[1]"]
    ),
    st.sampled_from(
        ["2024-01-02", "2024-01-02T03:04:05.678901+02:00", "2024-01-02 03:04", "01/02/2024", "[]", '{"a": 1}']
    ),
)
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "VARCHAR": TEXTS,
    "BIGINT": st.integers(-(1 << 63), (1 << 63) - 1),
    "DECIMAL(38, 0)": st.integers(-(1 << 70), 1 << 70),
    "DOUBLE": st.floats(allow_nan=False, allow_infinity=False),
    "BOOLEAN": st.booleans(),
    "DATE": st.dates(date(1000, 1, 1)).map(str),
    "TIMESTAMP": st.datetimes(datetime(1000, 1, 1)).map(str),
    "TIMESTAMPTZ": st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30)).map(lambda at: f"{at}+05:30"),
}
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Types by name, and rows; the key stands first."""
    names = draw(st.lists(NAMES.filter(str.strip), unique_by=str.casefold, max_size=4).filter(_are_apart))
    types = {name: draw(st.sampled_from(list(COLUMNS))) for name in names}
    rows = draw(st.integers(1, 6))
    cells = {
        name: draw(st.lists(st.none() | COLUMNS[kind], min_size=rows, max_size=rows)) for name, kind in types.items()
    }
    return {"id": "VARCHAR", **types}, [
        {"id": f"k{row}", **{name: cells[name][row] for name in names}} for row in range(rows)
    ]


def _are_apart(names: list[str]) -> bool:
    return "id" not in {name.casefold() for name in names}


def parquet(folder: Path, types: dict[str, str], rows: list[dict[str, Any]]) -> bytes:
    place = folder / "made.parquet"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(types.values()))
        connection.execute(f"CREATE TABLE made ({columns})")
        marks = ", ".join("?" for _ in types)
        connection.executemany(f"INSERT INTO made VALUES ({marks})", [list(row.values()) for row in rows])
        names = ", ".join(f'c{number} AS "{name.replace(chr(34), chr(34) * 2)}"' for number, name in enumerate(types))
        connection.execute(f"COPY (SELECT {names} FROM made) TO {literal(place)} (FORMAT parquet)")
    return place.read_bytes()


def decoded(cells: list[Any]) -> tuple[ColumnKind, list[Any]]:
    """A column by the rules."""
    texts = [None if cell is None or cell == "" else _text(cell) for cell in cells]
    kind = kind_of(count(text for text in texts if text is not None))
    return kind, [None if text is None else _value(text, kind) for text in texts]


def _text(cell: Any) -> str:
    return json.dumps(cell) if type(cell) is bool else str(cell)


def _value(text: str, kind: ColumnKind) -> Any:
    if kind in (ColumnKind.WHOLE, ColumnKind.NUMBER) and text in NAN.split("|"):
        return None
    match kind:
        case ColumnKind.WHOLE:
            return int(text)
        case ColumnKind.NUMBER:
            return float(text)
        case ColumnKind.BOOLEAN:
            return text.lower() == "true"
        case ColumnKind.TIME:
            return instant(text)
        case ColumnKind.JSON:
            return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
        case ColumnKind.TEXT:
            return text


@settings(max_examples=12)
@given(tables())
def test_any_rows_are_the_same_version_in_every_format(table: tuple[dict[str, str], list[dict[str, Any]]]) -> None:
    types, rows = table
    with TemporaryDirectory() as name:
        folder = Path(name)
        text, lines = packed_rows(list(types), rows, end="\r\n"), as_jsonl(rows)
        found = [
            read(folder, text, key="id"),
            read(folder, lines, name="t.jsonl", key="id"),
            read(folder, gzip.compress(lines), name="t.jsonl.gz", key="id"),
            read(folder, parquet(folder, types, rows), name="t.parquet", key="id"),
        ]
    assert len({one.version.version_id for one in found}) == 1
    for one in found:
        assert one.keys == [row["id"] for row in rows]
        for column in one.version.schema.columns:
            kind, values = decoded([row[column.name] for row in rows])
            assert (column.kind, one.column(column.name)) == (kind, values)
        for place, name in enumerate(one.version.schema.sort):
            if one.kinds()[name] == "text":
                assert [row[f"s{place}"] for row in one.rows] == [natural_key(row[name] or "") for row in rows]
    payload = found[0].rows[0]["payload"]
    assert list(json.loads(payload)) == sorted(json.loads(payload), key=lambda name: name.encode("utf-32-be"))
