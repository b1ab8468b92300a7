"""Bad input, from a form through gateway and planner to the disk: refused with a code and a place, nothing left behind.

How each format is read is shown in tests/integration/planner; here, that a refusal comes through whole, and that no
blob, no folder of the upload and no row stays, whatever was wrong.
"""

from __future__ import annotations

import gzip
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import httpx

from tests.integration.gateway.conftest import MICE, catalog, problem_of
from tests.integration.gateway.test_uploads import connected
from tests.servers.stack import Stack, until

SOURCES = "/api/v1/sources"
LINES = b'{"id": 1, "n": 1}\n{"id": 2, "n": 2}\n'


def kept(shop: Stack) -> tuple[set[Path], dict[str, int]]:
    """Every file and folder of the store, and how many rows each of the planner's tables has."""
    blobs = shop.data / "blobs"
    walked = os.walk(blobs)  # unlike rglob it takes a folder that goes away meanwhile for an empty one
    found = {Path(at, name) for at, folders, files in walked for name in (*folders, *files) if name != "check"}
    database = sqlite3.connect(f"file:{shop.data / 'planner.db'}?mode=ro", uri=True)
    try:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        # What the planner fetches from the scheduler by itself is nobody's input.
        own = [name for name in names if not name.startswith("result_")]
        rows = {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in own}
    finally:
        database.close()
    return found, rows


def database_file(folder: Path, kind: str) -> bytes:
    place = folder / f"shop.{kind}"
    if place.exists():
        return place.read_bytes()
    if kind == "duckdb":
        with duckdb.connect(str(place)) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS id")
    else:
        lite = sqlite3.connect(place)
        lite.execute("CREATE TABLE t (id)")
        lite.commit()
        lite.close()
    return place.read_bytes()


def bomb() -> bytes:
    return gzip.compress(b'{"id": 1, "n": "' + b"0" * (40 << 20) + b'"}\n')


REFUSED: dict[str, tuple[str, bytes, Mapping[str, str], int, str, str]] = {
    "a broken line": ("t.jsonl", LINES + b'{"id": 3, "n": }\n', {}, 400, "bad_rows", "line 3, column 16: not JSON"),
    "a broken quote": ("t.csv", b'id,n\n1,"a\n', {}, 400, "bad_rows", "line 2, column 3: the quote that opens here"),
    "a cell of 10 MB": (
        "t.csv",
        b"id,n\n1," + b"x" * (10 << 20),
        {},
        400,
        "row_too_large",
        "line 2 has 10,485,775 bytes as JSON",
    ),
    "5,000 columns": (
        "t.csv",
        ",".join(f"c{n}" for n in range(5_000)).encode() + b"\n",
        {},
        400,
        "bad_columns",
        "there are 5,000 columns, at most 1,000 are taken",
    ),
    "repeated keys": ("t.csv", b"id\n1\n2\n1\n", {}, 400, "bad_key", "'1' stands in line 2 and in line 4"),
    "empty keys": ("t.csv", b"id,n\n,1\n2,2\n", {}, 400, "bad_key", "1 row has no key: line 2"),
    "a key that is no column": (
        "t.csv",
        b"sku,n\n1,2\n",
        {"key": "skv"},
        400,
        "unknown_column",
        "'skv'; there are: sku",
    ),
    "a group that is none": ("t.csv", b"sku,n\n1,2\n", {"group": "m"}, 400, "unknown_column", "'m'; there are: sku, n"),
    "half of a pair of keys": (
        "t.csv",
        b"repo,number\na/b,1\na,b/1\n",
        {"key": "repo,number"},
        400,
        "bad_key",
        "'a/b/1' stands in line 2 and in line 3",
    ),
    "an empty file": ("t.csv", b"", {}, 400, "no_rows", "t.csv is empty"),
    "a header alone": ("t.csv", b"id,n\n", {}, 400, "no_rows", "no row"),
    "half of a gzip": ("t.csv.gz", gzip.compress(b"id\n1\n")[:-9], {}, 400, "broken_gzip", "is cut off"),
    "a bomb": ("t.jsonl.gz", bomb(), {}, 413, "packed_too_tight", "more than 100 times its size"),
    "half of a Parquet file": ("t.parquet", b"PAR1" + bytes(100), {}, 400, "table_unreadable", "No magic bytes"),
    "half of a zstd": ("t.csv.zst", b"\x28\xb5\x2f\xfd\0", {}, 400, "broken_zstd", "is cut off"),
    "half of UTF-16": ("t.csv", b"\xff\xfei\0d\0\n\0\x00\xd8", {}, 400, "bad_encoding", "begins as UTF-16"),
    "Latin-1": ("t.tsv", b"id\tn\n1\tcaf\xe9\n", {}, 400, "bad_rows", "line 2, column 6: byte 0xE9 is not UTF-8"),
    "a broken list": ("t.json", b'[{"id": 1},\n {"id" 2}]', {}, 400, "bad_rows", "line 2, column 8: not JSON"),
    "a name too long": ("x" * 2_000 + ".csv", b"id\n1\n", {}, 400, "name_too_long", "2,004 characters"),
    "bad rows alone": ("t.jsonl", b"{\n[\n", {"skip_bad": "true"}, 400, "no_rows", "no row"),
    "a query that reads": (
        "shop.duckdb",
        b"",
        {"kind": "table", "query": "SELECT content AS id FROM read_text('/etc/passwd')"},
        400,
        "bad_query",
        "disabled by configuration",
    ),
    "a query that attaches": (
        "shop.sqlite",
        b"",
        {"kind": "table", "query": "ATTACH '/tmp/penstock-stolen' AS x"},
        400,
        "bad_query",
        "not authorized",
    ),
    "two queries": (
        "shop.duckdb",
        b"",
        {"kind": "table", "query": "SELECT 1; SELECT 2"},
        400,
        "bad_query",
        "one SELECT",
    ),
    "no such table": ("shop.sqlite", b"", {"kind": "table", "table": "u"}, 400, "bad_query", "no such table: u"),
}


def test_whatever_is_wrong_is_told_and_leaves_nothing(shop: Stack, buyer: httpx.Client, tmp_path: Path) -> None:
    catalog(buyer, "before", MICE)
    before = kept(shop)
    for what, (name, data, fields, status, code, words) in REFUSED.items():
        content = data or (database_file(tmp_path, name.partition(".")[2]) if name.startswith("shop.") else data)
        form = {"name": "wrong", "kind": "catalog", **fields}
        detail = problem_of(buyer.post(SOURCES, data=form, files={"files": (name, content)}), status, code)
        assert words in detail, what
        assert str(shop.data) not in detail, what
        until(f"{what}: nothing is left", lambda: kept(shop) == before, seconds=10)
    problem_of(buyer.get(f"{SOURCES}/wrong"), 404, "source_not_found")


def test_one_broken_file_of_many_is_told_by_its_name(shop: Stack, buyer: httpx.Client) -> None:
    before = kept(shop)
    files = [("files", (f"{n}.json", b'{"id": %d}' % n if n != 3 else b'{"id": }')) for n in range(5)]
    form = {"name": "folder", "kind": "catalog"}
    detail = problem_of(buyer.post(SOURCES, data=form, files=files), 400, "bad_rows")
    assert detail.startswith("3.json, line 1, column 8: not JSON")
    until("nothing is left", lambda: kept(shop) == before, seconds=10)
    source = buyer.post(SOURCES, data={**form, "skip_bad": "true"}, files=files).json()
    assert source["item_count"] == 4
    (told,) = [one["message"] for one in source["notices"] if one["code"] == "rows_skipped"]
    assert told == "1 row was left out: 3.json, line 1, column 8: not JSON: expecting value"


def test_what_is_odd_and_not_wrong_is_taken(buyer: httpx.Client) -> None:
    for name, data, columns in (
        ("bom.csv", b"\xef\xbb\xbfid,n\n1,2\n", {"id": "whole", "n": "whole"}),
        ("wide.csv", "id,n\n1,\u00e4\n".encode("utf-16"), {"id": "whole", "n": "text"}),
        ("mixed.jsonl", b'{"id": 1, "n": 1}\n{"id": 2, "n": "x"}\n{"id": 3, "n": [1]}\n', {"id": "whole", "n": "text"}),
        ("nan.jsonl", b'{"id": 1, "n": NaN}\n{"id": 2, "n": 0.5}\n', {"id": "whole", "n": "number"}),
        ("days.csv", b"id,n\n1,2024-01-02\n2,2024-01-02T03:04:05+02:00\n", {"id": "whole", "n": "time"}),
        ("mixed days.csv", b"id,n\n1,2024-01-02\n2,05/06/2024\n", {"id": "whole", "n": "text"}),
        ("\u202e'`;--<b>\U0001f600.tsv", b"id\tn\n1\ta,b\n", {"id": "whole", "n": "text"}),
    ):
        answer = buyer.post(SOURCES, data={"name": "odd", "kind": "catalog"}, files={"files": (name, data)})
        assert answer.status_code == 200, answer.text
        assert {one["name"]: one["kind"] for one in answer.json()["columns"]} == columns, name


def test_an_upload_that_is_cut_off_leaves_nothing(shop: Stack, buyer: httpx.Client) -> None:
    before = kept(shop)
    form = '--B\r\nContent-Disposition: form-data; name="kind"\r\n\r\ncatalog\r\n'
    part = form + '--B\r\nContent-Disposition: form-data; name="files"; filename="t.csv"\r\n\r\nid,n\r\n'
    head = (
        f"POST {SOURCES} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        "Content-Length: 9000000\r\n\r\n"
    )
    with connected(shop) as sock:
        sock.sendall(head.encode() + part.encode() + b"1,x\r\n" * 400_000)
        until("the bytes are on their way to the disk", lambda: kept(shop) != before, seconds=10)
    until("nothing is left of them", lambda: kept(shop) == before, seconds=10)
    headers = {"content-type": "multipart/form-data; boundary=B"}
    answer = buyer.post(SOURCES, content=part.encode() + b"1,2\r\n", headers=headers)
    assert "ends in the middle" in problem_of(answer, 400, "bad_form")
    until("nothing is left of it", lambda: kept(shop) == before, seconds=10)


def test_a_path_that_can_not_be_followed_is_told(shop: Stack, buyer: httpx.Client) -> None:
    shelf = shop.data.parent / "shelf"
    inside = shelf / "with links"
    inside.mkdir()
    (inside / "a.csv").write_text("id\n1\n")
    (inside / "b.csv").symlink_to("/etc/passwd")
    (shelf / "ring").symlink_to("ring")
    (shelf / "out.csv").symlink_to("/etc/passwd")
    (shelf / "etc").symlink_to("/etc")
    os.mkfifo(shelf / "pipe.csv")
    before = kept(shop)
    for place, words in (
        ("ring", "can't be followed"),
        ("a\0b", "can't be followed"),
        ("x" * 3_000, "File name too long"),
        ("out.csv", "not in a folder that may be read"),
        ("etc/hostname", "not in a folder that may be read"),
        ("../data/token", "not in a folder that may be read"),
        ("pipe.csv", "neither a file nor a folder"),
        ("with links", "b.csv: links out of the folders that may be read"),
    ):
        body = {"name": "followed", "server_path": f"{shelf}/{place}"}
        assert words in problem_of(buyer.post(f"{SOURCES}/add", json=body), 400, "bad_origin"), place
    assert kept(shop) == before
    (inside / "b.csv").unlink()
    answer = buyer.post(f"{SOURCES}/add", json={"name": "followed", "server_path": str(inside)})
    assert answer.json()["item_count"] == 1


def test_a_plan_of_a_processor_that_is_gone_is_not_started(shop: Stack, buyer: httpx.Client) -> None:
    catalog(buyer, "mice-of-gone", MICE[:2])
    folder = shop.data / "processors"
    folder.mkdir(exist_ok=True)
    file = folder / "gone.toml"
    file.write_text('name = "gone"\nversion = "1"\nkind = "command"\ndescription = "For a test."\nargv = ["true"]\n')
    plan = buyer.post("/api/v1/plans", json={"source_id": "mice-of-gone", "stages": [{"processor": "gone"}]}).json()
    file.unlink()
    before = buyer.get("/api/v1/runs").json()
    for path in ("/api/v1/runs", "/api/v1/indexlab/batch/start"):
        answer = buyer.post(path, json={"plan_id": plan["plan_id"], "confirm": True})
        said = problem_of(answer, 409, "processor_not_found")
        assert "can't start: no processor named 'gone'; there are: collection" in said
    assert buyer.get("/api/v1/runs").json() == before
    assert buyer.get(f"/api/v1/plans/{plan['plan_id']}").json()["item_count"] == 2, "it is still shown"
    again = {"source_id": "mice-of-gone", "stages": [{"processor": "gone"}]}
    problem_of(buyer.post("/api/v1/plans", json=again), 400, "processor_not_found")


def test_a_selection_that_can_not_be_leaves_no_plan(shop: Stack, buyer: httpx.Client) -> None:
    catalog(buyer, "chosen", MICE)
    before = kept(shop)
    wrong: list[tuple[str, dict[str, Any], str, str]] = [
        ("selection", {"filter": "bradn = x"}, "bad_filter", "no such field; there are: product_id, brand"),
        ("selection", {"filter": "brand = Dell"}, "selection_empty", "matches nothing"),
        ("selection", {"keys": ["a", "b"]}, "unknown_ids", "'a', 'b'"),
        ("selection", {"exclude_filter": "brand ="}, "bad_filter", "the exclude_filter is wrong at character 8"),
        ("selection", {"sql": "SELECT nokey FROM items"}, "bad_sql", "line 1, column 8"),
        ("selection", {"sql": "SELECT content FROM read_text('/etc/passwd')"}, "sql_refused", "read_text"),
        ("selection", {"missing": "nobody"}, "processor_not_found", "noop"),
        ("selection", {"failed_of_run": "run-none"}, "selection_empty", "'run-none', or there is no such run"),
        ("selection", {"changed_since_plan": "plan-none"}, "plan_not_found", "plan-none"),
        ("ordering", {"sort": ["bradn desc"]}, "bad_order", "there are: product_id, brand"),
        ("ordering", {"pinned": ["Acer"] * 2}, "bad_order", "'Acer'"),
    ]
    for field, given, code, words in wrong:
        body = {"source_id": "chosen", "stages": [{"processor": "noop"}], field: given}
        answer = buyer.post("/api/v1/plans", json=body)
        status = 404 if code == "plan_not_found" else 400
        assert words in problem_of(answer, status, code), given
        assert kept(shop) == before, given
