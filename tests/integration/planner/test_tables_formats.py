"""The same rows are the same version, whatever they are written in."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.planner.table_files import Read, as_csv, as_jsonl, as_parquet, as_zstd, read

NAMES = ("id", "brand", "model", "price", "count", "new", "on", "tags")
CELLS: list[tuple[Any, ...]] = [
    ("a1", "Acme", "M 10", 19.5, 3, True, "2024-01-02", ["x", "y"]),
    ("a2", "Acme", "M 9", 7.0, None, False, "2024-03-04", []),
    ("a3", "Zeta", 'a "b", c\nd', None, -12, None, None, None),
]
ROWS = [dict(zip(NAMES, row, strict=True)) for row in CELLS]
KINDS = {
    "id": "text",
    "brand": "text",
    "model": "text",
    "price": "number",
    "count": "whole",
    "new": "boolean",
    "on": "time",
    "tags": "json",
}


@pytest.fixture
def plain(tmp_path: Path) -> Read:
    return read(tmp_path, as_csv(ROWS))


def test_a_csv_becomes_typed_columns_payloads_and_sort_keys(plain: Read) -> None:
    assert plain.kinds() == KINDS
    assert plain.keys == ["a1", "a2", "a3"]
    assert [row["group"] for row in plain.rows] == ["Acme", "Acme", "Zeta"]
    assert [row["s1"] for row in plain.rows] == ["m 1210", "m 119", 'a "b", c\nd']
    assert plain.version.schema.sort == ("brand", "model")
    assert plain.version.schema.key == ("id",)
    assert plain.version.guessed == ("key", "group")
    assert plain.payloads()[0] == ROWS[0]
    assert plain.payloads()[2] == {"id": "a3", "brand": "Zeta", "model": 'a "b", c\nd', "count": -12}
    assert plain.rows[0]["payload"] == (
        '{"brand":"Acme","count":3,"id":"a1","model":"M 10","new":true,"on":"2024-01-02","price":19.5,"tags":["x","y"]}'
    )


def made(form: str, folder: Path) -> tuple[str, bytes]:
    text, lines = as_csv(ROWS), as_jsonl(ROWS)
    shuffled = as_jsonl([ROWS[0], *(dict(reversed(row.items())) for row in ROWS[1:])])
    match form:
        case "jsonl":
            return "t.jsonl", lines
        case "jsonl with other key orders":
            return "t.jsonl", shuffled
        case "jsonl without nulls":
            return "t.jsonl", as_jsonl([{k: v for k, v in row.items() if v is not None} for row in ROWS])
        case "texts":
            texts = [{k: v if v is None or k == "tags" else str(v) for k, v in row.items()} for row in ROWS]
            return "t.jsonl", as_jsonl(texts)
        case "tsv":
            return "t.tsv", as_csv(ROWS, delimiter="\t")
        case "semicolons":
            return "t.csv", as_csv(ROWS, delimiter=";")
        case "crlf":
            return "t.csv", as_csv(ROWS, end="\r\n")
        case "mixed line ends":
            return "t.csv", text.replace(b"\n", b"\r\n", 1)
        case "blank lines and rows":
            return "t.csv", text.replace(b"\na2", b"\n\n,,,,,,,\na2") + b"\n\n"
        case "bom":
            return "t.csv", b"\xef\xbb\xbf" + text
        case "utf-16":
            return "t.csv", text.decode().encode("utf-16")
        case "utf-16 without a mark":
            return "t.jsonl", lines.decode().encode("utf-16-be")
        case "no suffix":
            return "t", lines
        case "json":
            return "t.json", json.dumps(ROWS, indent=2).encode()
        case "csv.gz":
            return "t.csv.gz", gzip.compress(text)
        case "two gzip members":
            return "t.csv.gz", gzip.compress(text[:50]) + gzip.compress(text[50:])
        case "jsonl.zst":
            return "t.jsonl.zst", as_zstd(folder, lines)
        case "csv.zst":
            return "t.csv.zst", as_zstd(folder, text)
        case "parquet":
            return "t.parquet", as_parquet(folder, parquet())
        case "parquet.gz":
            return "t.parquet.gz", gzip.compress(as_parquet(folder, parquet()))
    raise AssertionError(form)


def parquet() -> str:
    return """
        SELECT 'a1' AS id, 'Acme'::ENUM('Acme', 'Zeta') AS brand, 'M 10' AS model, 19.5::DECIMAL(6, 2) AS price,
            3::UTINYINT AS count, true AS new, DATE '2024-01-02' AS on, ['x', 'y'] AS tags
        UNION ALL SELECT 'a2', 'Acme', 'M 9', 7, NULL, false, DATE '2024-03-04', []
        UNION ALL SELECT 'a3', 'Zeta', 'a "b", c' || chr(10) || 'd', NULL, -12, NULL, NULL, NULL
    """


@pytest.mark.parametrize(
    "form",
    [
        *("jsonl", "jsonl with other key orders", "jsonl without nulls", "texts", "tsv", "semicolons", "crlf"),
        *("mixed line ends", "blank lines and rows", "bom", "utf-16", "utf-16 without a mark", "no suffix", "json"),
        *("csv.gz", "two gzip members", "jsonl.zst", "csv.zst", "parquet", "parquet.gz"),
    ],
)
def test_the_same_rows_are_the_same_version(form: str, plain: Read, tmp_path: Path) -> None:
    name, data = made(form, tmp_path)
    other = read(tmp_path, data, name=name)
    assert other.kinds() == KINDS
    assert other.version.version_id == plain.version.version_id
    assert [row["payload"] for row in other.rows] == [row["payload"] for row in plain.rows]
    assert other.version.row_count == 3


@pytest.mark.parametrize("end", ["jsonl", "csv", "csv with a quoted line end"])
def test_texts_of_every_script_come_through_zstd(end: str, tmp_path: Path) -> None:
    """Ä ends with a byte that is no character of Latin-1, and so do a dash and all of Chinese."""
    notes = ["Ärger – nein", "日本 “語”", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "😀", "plain"]
    if end == "csv with a quoted line end":
        notes[0] += "\nand Öl"
    rows = [{"id": f"k{n}", "note": note} for n, note in enumerate(notes)]
    text = as_csv(rows)
    if end == "jsonl":
        text = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    found = read(tmp_path, as_zstd(tmp_path, text), name=f"t.{end.split()[0]}.zst")
    assert found.column("note") == notes
    assert found.version.version_id == read(tmp_path, as_jsonl(rows), name="t.jsonl").version.version_id


def test_the_id_says_rows_order_schema_and_parts(plain: Read, tmp_path: Path) -> None:
    ids = {
        plain.version.version_id,
        read(tmp_path, as_csv(ROWS[::-1])).version.version_id,
        read(tmp_path, as_csv(ROWS[:2])).version.version_id,
        read(tmp_path, as_csv([{**row, "more": None} for row in ROWS])).version.version_id,
        read(tmp_path, as_csv(ROWS), key=("brand", "id")).version.version_id,
        read(tmp_path, as_csv(ROWS), group="").version.version_id,
        read(tmp_path, as_csv([{**ROWS[0], "price": 19.25}, *ROWS[1:]])).version.version_id,
    }
    assert len(ids) == 7


def test_an_id_is_the_same_on_every_machine_and_day(plain: Read) -> None:
    """Plans hash it: a library that writes a number in another way would change it, and must not without a word."""
    assert plain.version.version_id == "source-6fe2f6645d17e84559f7937e81645dc1"


def test_a_folder_of_json_is_read_in_the_natural_order_of_its_names(tmp_path: Path) -> None:
    files = {
        "d/item10.json": b'{"id": "x", "n": 10}',
        "d/item9.json": b'{\n "id": "w",\n "n": 9}\n',
        "d/list.json": b'[{"id": "y"}, {"id": "z", "n": 12345678901234567890}]',
        "d/none.json": b"[]",
    }
    found = read(tmp_path, files)
    assert found.keys == ["w", "x", "y", "z"]
    assert found.kinds() == {"id": "text", "n": "text"}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for name, data in files.items():
            out.writestr(name, data)
    again = read(tmp_path, archive.getvalue(), name="d.zip")
    assert again.version.version_id == found.version.version_id


def test_several_files_are_one_table_and_offenders_name_their_file(tmp_path: Path) -> None:
    files = {"a.csv": b"id,n\n1,5\n", "b.jsonl": b'{"n": 6, "id": 2, "x": 1.5}\n'}
    found = read(tmp_path, files)
    assert found.keys == ["1", "2"]
    assert found.column("x") == [None, 1.5]


def test_columns_that_only_later_rows_have_are_found(tmp_path: Path) -> None:
    rows = [{"id": n} for n in range(3_000)] + [{"id": 3_000, "zeta": 1, "alpha": "x"}]
    found = read(tmp_path, as_jsonl(rows), name="t.jsonl")
    assert list(found.kinds()) == ["id", "alpha", "zeta"]
    assert found.column("alpha")[-1] == "x"


def test_a_kind_that_only_later_rows_deny_is_found(tmp_path: Path) -> None:
    """The first rows make a table seem to be something; every row is checked."""
    head = [
        {"id": n, "whole": n, "number": n + 0.5, "price": f"{n}.50", "bool": True, "day": "2024-01-02", "json": [n]}
        for n in range(3_000)
    ]
    last = {
        "id": 3_000,
        "whole": "n/a",
        "number": "1.10",
        "price": "7.5",
        "bool": "yes",
        "day": "2024-01-02T03:04:05.678Z",
        "json": "[",
    }
    found = read(tmp_path, as_jsonl([*head, last]), name="t.jsonl")
    assert found.kinds() == {
        "id": "whole",
        "whole": "text",
        "number": "text",
        "price": "text",
        "bool": "text",
        "day": "time",
        "json": "text",
    }
    assert found.column("price")[0] == "0.50"
    assert found.payloads()[0]["day"] == "2024-01-02T00:00:00.000Z"
    assert found.payloads()[-1]["day"] == "2024-01-02T03:04:05.678Z"
    told = "'whole' is text: 1 of 3,001 values is not of kind number, the first is 'n/a' in row 3,001"
    assert any(told in note for note in found.version.notes)
