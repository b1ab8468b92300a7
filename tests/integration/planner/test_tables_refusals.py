"""What is refused, where it stands, and what is left out where that was asked for."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from pathlib import Path
from typing import Any

import pytest

from penstock.runtime.errors import PenstockError
from planner.tables.wanted import TableBounds
from tests.integration.planner.table_files import as_csv, as_jsonl, as_parquet, as_raw_zstd, as_zstd, read


def refusal(folder: Path, files: Any, code: str, **wanted: Any) -> str:
    """What a reading says that must be refused with `code`."""
    with pytest.raises(PenstockError) as caught:
        read(folder, files, **wanted)
    assert caught.value.code == code, caught.value.message
    return caught.value.message


LINES = b'{"id": 1, "n": 1}\n{"id": 2, "n": 2}\n'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"id": 3, "n": }', "line 3, column 16: not JSON: expecting value"),
        (b'{"id": 3, "n": 3,}', "line 3, column 18: not JSON"),
        (b'{"id": 3, "n": [1, 2, ]}', "line 3, column 23: not JSON"),
        (b'{"id": 3, "n": 3', "line 3, column 17: not JSON"),
        (b'{"id": 3} {"id": 4}', "line 3, column 11: not JSON: extra data"),
        (b'{"id": 3, "id": 4}', "line 3: the name 'id' stands twice in an object"),
        (b'{"id": 3, "n": "caf\xe9"}', "line 3, column 20: byte 0xE9 is not UTF-8; if the file is Windows-1252"),
        (b'{"id": 3, "n": "\\ud800"}', "line 3, column 1: not JSON: half of a surrogate pair"),
        (b"[3, 4]", "line 3: a list, not an object"),
        (b"7", "line 3: a number, not an object"),
        (b'{"id": 3, "n": "a\tb"}', "line 3, column 18: not JSON"),
    ],
)
def test_a_broken_line_is_told_with_its_column_or_left_out(line: bytes, told: str, tmp_path: Path) -> None:
    data = LINES + line + b'\n{"id": 5, "n": 5}\n'
    message = refusal(tmp_path, data, "bad_rows", name="t.jsonl")
    assert message.startswith(f"t.jsonl is refused: {told}")
    kept = read(tmp_path, data, name="t.jsonl", skip_bad=True)
    assert kept.keys == ["1", "2", "5"]
    assert kept.version.skipped.count == 1
    assert kept.version.skipped.first[0].startswith(told)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"id": -1, "late": 1,}', "column 22: not JSON"),
        (b'{"id": -1, "late": [1, ]}', "column 24: not JSON"),
        (b'{"id": -1, "late": }', "column 20: not JSON: expecting value"),
    ],
)
def test_what_is_wrong_with_the_last_of_many_lines_is_told_as_of_the_first(
    line: bytes, told: str, packed: bool, tmp_path: Path
) -> None:
    """With a name that no line before it has: what is left out gives no column, what is kept does."""
    name = "t.jsonl.gz" if packed else "t.jsonl"
    many = b"".join(b'{"id": %d, "text": "%s"}\n' % (n, b" ,} " * 100) for n in range(5_000))

    def sent(data: bytes) -> bytes:
        return gzip.compress(data, 1) if packed else data

    message = refusal(tmp_path, sent(many + line), "bad_rows", name=name)
    assert message.startswith(f"{name} is refused: line 5001, {told}")
    kept = read(tmp_path, sent(many + line + b"\n"), name=name, skip_bad=True)
    assert (len(kept.rows), list(kept.kinds()), kept.version.skipped.count) == (5_000, ["id", "text"], 1)
    more = read(tmp_path, sent(many + line + b'\n{"id": -2, "late": 2}'), name=name, skip_bad=True)
    assert list(more.kinds()) == ["id", "text", "late"]
    assert more.column("late")[-1] == 2


def test_ten_broken_lines_are_told_and_the_places_of_others_stay_right(tmp_path: Path) -> None:
    bad = [b"{" if n % 2 else b'{"id": %d}' % n for n in range(60)]
    message = refusal(tmp_path, b"\n".join(bad), "bad_rows", name="t.jsonl")
    assert message.count("line ") == 10
    kept = read(tmp_path, b"\n".join(bad), name="t.jsonl", skip_bad=True)
    assert (kept.version.row_count, kept.version.skipped.count) == (30, 30)
    twice = b"\n".join([*bad, b'{"id": 0}'])
    message = refusal(tmp_path, twice, "bad_key", name="t.jsonl", skip_bad=True)
    assert "'0' stands in line 1 and in line 61" in message


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (b"3", "line 3: 1 cell where the header has 2 columns"),
        (b"3,4,5", "line 3: 3 cells where the header has 2 columns"),
        (b'3,"a"b', "line 3, column 5: a quote within a quoted cell is not doubled"),
        (b'"x\ny" z,4', "line 4, column 2: a quote within a quoted cell is not doubled"),
        (b"3,caf\xe9", "line 3, column 6: byte 0xE9 is not UTF-8; if the file is Windows-1252"),
        (b"3," + b"x" * (9 << 20), "line 3: longer than 8 MiB"),
    ],
)
def test_a_broken_record_is_told_with_its_column_or_left_out(record: bytes, told: str, tmp_path: Path) -> None:
    data = b"id,n\n1,one\n" + record + b'\n5,"fi ""ve"""\n'
    message = refusal(tmp_path, data, "bad_rows")
    assert message.startswith(f"t.csv is refused: {told}")
    kept = read(tmp_path, data, skip_bad=True)
    assert kept.keys[0] == "1"
    assert kept.keys[-1] == "5"
    assert kept.column("n")[-1] == 'fi "ve"'
    assert kept.version.skipped.count in (1, 2)


def test_a_quote_that_is_never_closed_is_told_where_it_opens(tmp_path: Path) -> None:
    data = b'id,n\n1,one\n2,"two\n3,three\n'
    assert "line 3, column 3: the quote that opens here is never closed" in refusal(tmp_path, data, "bad_rows")
    assert read(tmp_path, data, skip_bad=True).keys == ["1", "3"]


@pytest.mark.parametrize("cell", [b'24" wide', b' "quoted" ', b'"two\r\nlines"', b"'", b"#", b"NULL", b"\\"])
def test_odd_cells_are_cells(cell: bytes, tmp_path: Path) -> None:
    expected = {b' "quoted" ': "quoted", b'"two\r\nlines"': "two\r\nlines"}.get(cell, cell.decode())
    for end in (b"\n", b"\r\n"):
        found = read(tmp_path, end.join([b"id,n", b"1," + cell, b"2,x", b""]))
        assert found.column("n") == [expected, "x"]


@pytest.mark.parametrize(
    ("files", "name", "code", "told"),
    [
        (b"", "t.csv", "no_rows", "t.csv is empty"),
        (b" \n\n", "t.jsonl", "no_rows", "t.jsonl is empty"),
        (b"id,n\n", "t.csv", "no_rows", "there is no row with a value"),
        (b"id,n\n,\n,\n", "t.csv", "no_rows", "there is no row with a value"),
        (b"{}\n{}\n", "t.jsonl", "no_rows", "no row"),
        (b"[]", "t.json", "no_rows", "no row"),
        (b"id,n,id,n,\n1,2,3,4,5\n", "t.csv", "bad_columns", "column 5 has no name"),
        (b"id,Id\n1,2\n", "t.csv", "bad_columns", "columns 1 and 2 differ in letter case alone, 'id' and 'Id'"),
        (b'{"id": 1, " ": 2}\n', "t.jsonl", "bad_columns", "column 2 has no name"),
        (b'{"id": 1, "a\\u0000": 2}\n', "t.jsonl", "bad_columns", "has control characters"),
        (b"PAR1 and no more", "t.parquet", "table_unreadable", "can't be read"),
        (b"no mark", "t.parquet", "table_unreadable", "no Parquet file, or is cut off"),
        (b"SQLite format 3\0...", "t.db", "bad_kind", "is a database"),
        (b"\x1f\x8b\x08\0\0", "t.csv.gz", "broken_gzip", "is cut off"),
        (b"\x28\xb5\x2f\xfd\0", "t.csv.zst", "broken_zstd", "is cut off"),
        (b"PK\x03\x04....", "t.zip", "zip_truncated", "truncated"),
        (b'[{"id": 1},\n 5]', "t.json", "bad_rows", "t.json: element 2 is a number, not an object"),
        (b'[{"id": 1},\n {"id" 2}]', "t.json", "bad_rows", "t.json, line 2, column 8: not JSON"),
        (b"\xff\xfei\0d\0\n\0\x00\xd8", "t.csv", "bad_encoding", "begins as UTF-16 and is broken near byte"),
    ],
)
def test_what_is_no_table_is_refused(files: bytes, name: str, code: str, told: str, tmp_path: Path) -> None:
    assert told in refusal(tmp_path, files, code, name=name)


def test_keys_that_are_missing_or_repeated_are_told_with_lines(tmp_path: Path) -> None:
    rows = [{"id": None if n % 3 == 0 else n, "n": n} for n in range(60)]
    message = refusal(tmp_path, as_csv(rows), "bad_key")
    assert message.startswith(
        "the key id (guessed from the name) is refused: 20 rows have no key: line 2; line 5; line 8;"
    )
    assert "and 10 more" in message
    again = as_jsonl([{"id": n % 30, "n": n} for n in range(50)])
    message = refusal(tmp_path, b"\n\n" + again, "bad_key", name="t.jsonl")
    assert "a key stands more than once, 20 rows are too many: '0' stands in line 3 and in line 33" in message
    assert message.count("stands in") == 10
    assert "and 10 more" in message
    assert "1 row has no key: row 1" in refusal(
        tmp_path, as_parquet(tmp_path, "SELECT NULL::INT AS id, 1 AS n"), "bad_key", name="t.parquet"
    )


def test_all_kinds_of_bad_keys_are_told_at_once_each_with_its_first_ten(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": f"good {n}", "brand": "a"} for n in range(5)]
    rows += [{"id": None, "brand": "a"} for _ in range(12)]
    rows += [{"id": f"twice {n % 11}", "brand": "a"} for n in range(22)]
    rows += [{"id": "a\tb", "brand": "a"}, {"id": "x" * 1_001, "brand": "a\tb"}]
    with pytest.raises(PenstockError) as caught:
        read(tmp_path, as_jsonl(rows), name="t.jsonl")
    assert (caught.value.code, caught.value.metadata["codes"]) == ("bad_key", "bad_key,bad_group")
    missing, odd, repeated, group = caught.value.message.split("; besides, ")
    assert missing.startswith("the key id (guessed from the name) is refused: 12 rows have no key: line 6; line 7;")
    assert missing.endswith("line 15; and 2 more")
    assert odd == (
        "2 rows have no good one: line 40 has control characters in its key 'a\\tb'; "
        "line 41 has a key of 1,001 characters, at most 1,000 are taken"
    )
    assert repeated.startswith("a key stands more than once, 11 rows are too many: 'twice 0' stands in line 18 and in")
    assert repeated.count("stands in") == 10
    assert "'twice 9' stands in line 27 and in line 38; and 1 more (another key can be named" in repeated
    assert group == "the group is refused: line 41 has control characters in its group 'a\\tb'"


def test_rows_without_a_key_are_not_told_again_as_the_same_key(tmp_path: Path) -> None:
    message = refusal(tmp_path, b"id,n\n,1\n,2\n3,3\n", "bad_key")
    assert message.startswith("the key id (guessed from the name) is refused: 2 rows have no key: line 2; line 3 (")


def test_places_of_a_csv_count_lines_within_cells_and_rows_passed_over(tmp_path: Path) -> None:
    data = b'id,n\n1,"a\nb\nc"\n\n,\n2,x\r\n1,y\n'
    assert "'1' stands in line 2 and in line 8" in refusal(tmp_path, data, "bad_key")
    message = refusal(tmp_path, {"a.csv": data[:-4], "b.csv": b"id\n7\n2\n"}, "bad_key")
    assert "'2' stands in a.csv, line 7 and in b.csv, line 3" in message


@pytest.mark.parametrize("key", ["x\ty", "k" * 1_001, "   "])
def test_keys_and_groups_are_bounded_texts(key: str, tmp_path: Path) -> None:
    refusal(tmp_path, as_csv([{"id": key, "n": 1}]), "bad_key")
    if key.strip():
        refusal(tmp_path, as_csv([{"id": 1, "brand": key}]), "bad_group")


def test_a_key_may_be_several_columns_a_hash_or_anything_named(tmp_path: Path) -> None:
    rows = [{"repo": "a/b", "number": 1, "t": "x"}, {"repo": "a/b", "number": 2, "t": "x"}]
    found = read(tmp_path, as_csv(rows))
    assert found.version.schema.key == ("repo", "number")
    assert (found.keys, found.rows[0]["group"]) == (["a/b/1", "a/b/2"], "a/b")
    assert read(tmp_path, as_csv(rows), key=("t", "number")).keys == ["x/1", "x/2"]
    hashed = read(tmp_path, as_csv(rows), key="hash")
    assert hashed.version.schema.key == ()
    assert len(set(hashed.keys)) == 2
    assert hashed.keys[::-1] == read(tmp_path, as_csv(rows[::-1]), key="hash").keys
    assert "the same row stands more than once" in refusal(tmp_path, as_csv([*rows, rows[0]]), "bad_key", key="hash")
    message = refusal(tmp_path, as_csv(rows), "unknown_column", key=("no", "t"), group="such")
    assert message == (
        "there is no column 'no'; there are: repo, number, t; there is no column 'such'; there are: repo, number, t"
    )
    wide = as_csv([{"id": 1, **{f"column {n}": n for n in range(40)}, "Colour": 3}])
    message = refusal(tmp_path, wide, "unknown_column", key="color")
    assert message.startswith("there is no column 'color'; there are: Colour, id, column 0")
    assert message.endswith("and 32 more")
    message = refusal(tmp_path, as_csv([{"t": 1, "u": 2}]), "no_key")
    assert "name the key column (or several), or `hash`" in message
    assert "the columns are t, u" in message


def test_a_row_is_bounded_and_a_large_one_may_be_left_out(tmp_path: Path) -> None:
    rows = [{"id": 1, "n": "x"}, {"id": 2, "n": "y" * (1 << 20)}, {"id": 3, "n": "ü" * 400_000}]
    message = refusal(tmp_path, as_jsonl(rows), "row_too_large", name="t.jsonl")
    assert "line 2 has 1,048,591 bytes as JSON, at most 1,048,576 are taken" in message
    kept = read(tmp_path, as_jsonl(rows), name="t.jsonl", skip_bad=True)
    assert kept.keys == ["1", "3"]
    assert kept.version.skipped.count == 1


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_values_within_each_other_are_bounded(name: str, tmp_path: Path) -> None:
    deep = b'{"id": 1}\n{"id": 2, "n": ' + b"[" * 99 + b"]" * 99 + b"}\n"
    if name == "t.json":
        deep = b"[" + deep.replace(b"\n", b",", 1) + b"]"
    assert read(tmp_path, deep, name=name).keys == ["1", "2"]
    deeper = deep.replace(b"[[", b"[[[").replace(b"]]", b"]]]")
    message = refusal(tmp_path, deeper, "bad_rows", name=name)
    assert "nested more than 100 deep" in message
    assert ("line 2" if name == "t.jsonl" else "element 2") in message


def test_what_no_parser_takes_is_told_even_where_its_texts_look_like_a_comma_too_many(tmp_path: Path) -> None:
    deep = b'{"id": 1}\n{"id": 2, "t": "x, }", "n": ' + b"[" * 990 + b"]" * 990 + b"}\n"
    assert "line 2, column 1: not JSON: nested more than 100 deep" in refusal(
        tmp_path, deep, "bad_rows", name="t.jsonl"
    )


def test_a_line_longer_than_any_row_is_refused_or_left_out(tmp_path: Path) -> None:
    for name, data in (
        ("t.jsonl", b'{"id": 1}\n{"id": 2, "n": "%s"}\n{"id": 3}\n'),
        ("t.csv", b"id,n\n1,\n2,%s\n3,\n"),
    ):
        for size in (9 << 20, 30 << 20):
            long = data % (b"x" * size)
            with pytest.raises(PenstockError, match=r"line [23]:? (longer than 8 MiB|has .* bytes)"):
                read(tmp_path, long, name=name)
            assert read(tmp_path, long, name=name, skip_bad=True).keys == ["1", "3"]


def test_columns_are_bounded(tmp_path: Path) -> None:
    wide = {f"c{n}": n for n in range(1_000)}
    found = read(tmp_path, as_csv([{**wide, "c0": n} for n in range(3)]), key="c0")
    assert len(found.version.schema.columns) == 1_000
    message = refusal(tmp_path, as_csv([{f"c{n}": n for n in range(5_000)}]), "bad_columns")
    assert "there are 5,000 columns, at most 1,000 are taken" in message
    message = refusal(tmp_path, as_jsonl([{f"c{n}": n} for n in range(5_000)]), "bad_columns", name="t.jsonl")
    assert "columns, at most 1,000 are taken" in message


def noise(size: int) -> bytes:
    return bytes(random.Random(1).randbytes(size))


def test_packed_files_that_are_cut_off_or_damaged_are_refused(tmp_path: Path) -> None:
    text = as_csv([{"id": n, "n": noise(40).hex() + str(n)} for n in range(5_000)])
    whole = gzip.compress(text)
    for cut in (len(whole) // 2, len(whole) - 1):
        assert "is cut off" in refusal(tmp_path, whole[:cut], "broken_gzip", name="t.csv.gz")
    damaged = whole[:-8] + b"\0\0\0\0" + whole[-4:]
    assert "incorrect data check" in refusal(tmp_path, damaged, "broken_gzip", name="t.csv.gz")
    assert "is damaged" in refusal(tmp_path, whole + b"trail", "broken_gzip", name="t.csv.gz")
    zstd = as_zstd(tmp_path, text)
    for cut in (len(zstd) // 2, len(zstd) - 1):
        assert "is cut off" in refusal(tmp_path, zstd[:cut], "broken_zstd", name="t.csv.zst")
    broken = zstd[: len(zstd) // 2] + bytes([zstd[len(zstd) // 2] ^ 0xFF]) + zstd[len(zstd) // 2 + 1 :]
    with pytest.raises(PenstockError):
        read(tmp_path, broken, name="t.csv.zst")
    parquet = as_parquet(tmp_path, "SELECT i AS id, hash(i) AS n FROM range(50_000) r(i)")
    refusal(tmp_path, parquet[: len(parquet) // 2], "table_unreadable", name="t.parquet")
    hollow = parquet[:1_000] + bytes(20_000) + parquet[21_000:]
    refusal(tmp_path, hollow, "table_unreadable", name="t.parquet")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (b"x,caf\xe9\n", "column 6: byte 0xE9 is not UTF-8; if the file is Windows-1252"),
        (b"x,\x84\n", "not UTF-8; save it"),
    ],
)
def test_what_is_no_utf8_within_zstd_is_told_with_its_line(wrong: bytes, told: str, tmp_path: Path) -> None:
    text = b"id,brand\n" + b"".join(b"k%d,plain\n" % n for n in range(300))
    for name, data, line in (("t.csv", text[:9] + wrong + text[9:], 2), ("u.csv", text + wrong, 302)):
        message = refusal(tmp_path, as_raw_zstd(data), "bad_rows", name=f"{name}.zst")
        assert message.startswith(f"{name}.zst is refused: line {line}")
        assert told in message


def test_utf16_within_zstd_is_called_so(tmp_path: Path) -> None:
    wide = as_raw_zstd("id,n\n1,2\n".encode("utf-16"))
    assert "UTF-16 within zstd" in refusal(tmp_path, wide, "bad_encoding", name="t.csv.zst")


def test_a_bomb_is_stopped_while_it_grows(tmp_path: Path) -> None:
    line = b'{"id": 1, "n": "' + b"0" * 1_000 + b'"}\n'
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(packer.compress(line * 1_000) for _ in range(100)), packer.flush()])
    assert "more than 100 times its size" in refusal(tmp_path, bomb, "packed_too_tight", name="t.jsonl.gz")
    most = TableBounds(threads=1, unpacked_bytes=10 << 20, ratio=10_000)
    assert "unpacks to more than 10 MiB" in refusal(tmp_path, bomb, "too_large", name="t.jsonl.gz", bounds=most)
    zstd = as_zstd(tmp_path, line * 40_000)
    assert "more than 100 times its size" in refusal(tmp_path, zstd, "packed_too_tight", name="t.jsonl.zst")
    refusal(tmp_path, zstd, "too_large", name="t.jsonl.zst", bounds=most)
    left = {path.name for path in tmp_path.rglob("plain-*") if path.stat().st_size > 20 << 20}
    assert left == {"plain-0"}, "the first bomb was stopped at 32 MiB, the others before"


def test_of_a_folder_of_json_the_broken_files_are_told_or_left_out(tmp_path: Path) -> None:
    files = {f"{n}.json": b'{"id": %d}' % n for n in range(15)}
    one = {**files, "3.json": b'{"id":\n x}'}
    assert refusal(tmp_path, one, "bad_rows") == "3.json, line 2, column 2: not JSON: expecting value"
    many = {**one, "5.json": b"7", "7.json": b'{"id": "\xff"}'}
    message = refusal(tmp_path, many, "bad_rows")
    assert message.startswith(
        "the folder is refused: 3.json, line 2, column 2: not JSON: expecting value; 5.json: a num"
    )
    assert "7.json, line 1: byte 0xFF is not UTF-8" in message
    kept = read(tmp_path, many, skip_bad=True)
    assert kept.keys == [str(n) for n in range(15) if n not in (3, 5, 7)]
    assert kept.version.skipped.count == 3
    assert "'2' stands in 2.json, element 1 and in 8.json, element 1" in refusal(
        tmp_path, {**many, "8.json": b'{"id": 2}'}, "bad_key", skip_bad=True
    )
    assert refusal(tmp_path, dict.fromkeys(files, b"{"), "bad_rows", skip_bad=True).endswith("and 5 more")
    refusal(tmp_path, b"[7]", "bad_rows", name="t.json", skip_bad=True)


def test_what_a_refusal_says_has_no_path_of_this_machine(tmp_path: Path) -> None:
    for name, data in (("t.parquet", b"PAR1" + bytes(1_000)), ("t.csv.zst", b"\x28\xb5\x2f\xfd" + bytes(100))):
        with pytest.raises(PenstockError) as caught:
            read(tmp_path, data, name=name)
        assert caught.value.message.startswith(name)
        assert str(tmp_path) not in caught.value.message


def test_kinds_are_told_or_refused(tmp_path: Path) -> None:
    assert "no kind of table" in refusal(tmp_path, b"id\n1\n", "bad_kind", kind="xlsx")
    assert "is no Parquet" in refusal(tmp_path, b"id\n1\n", "bad_kind", kind="parquet")
    assert read(tmp_path, b"id\tn\n1\t2,3\n", name="t.csv", kind="tsv").column("n") == ["2,3"]
    assert read(tmp_path, json.dumps({"id": 1}).encode(), name="t.txt").keys == ["1"]
