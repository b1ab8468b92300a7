"""Sources over HTTP: by form or by path, listed, looked into, refreshed, removed; and all that is refused."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import MICE, Row, catalog, problem_of
from tests.integration.gateway.test_uploads import kept
from tests.servers.stack import Stack, until

SOURCES = "/api/v1/sources"
CSV = "sku,maker,price\nb10,Acme,5\nb9,Acme,\na1,Zeta,7\n"


@pytest.fixture(scope="module", autouse=True)
def grid(buyer: httpx.Client) -> dict[str, Any]:
    return catalog(buyer, "grid", MICE)


def sent(buyer: httpx.Client, text: str | bytes, filename: str = "t.csv", **fields: object) -> httpx.Response:
    return buyer.post(SOURCES, data=fields, files={"files": (filename, text)})


def rows(buyer: httpx.Client, source: str, **query: str | int | bool) -> dict[str, Any]:
    answer = buyer.get(f"{SOURCES}/{source}/rows", params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def test_a_catalog_is_registered_from_a_form(buyer: httpx.Client) -> None:
    fields = {"name": "parts", "kind": "catalog", "format": "csv", "key": "sku", "group": "maker"}
    answer = sent(buyer, CSV, **fields)
    assert answer.status_code == 200, answer.text
    source = answer.json()
    assert source["create_time"].endswith("Z")
    assert source == {
        **{name: source[name] for name in ("source_id", "size_bytes", "create_time", "sort", "notices")},
        "kind": "catalog",
        "item_count": 3,
        "ignored_count": 0,
        "name": "parts",
        "version": 1,
        "latest_version": 1,
        "columns": [
            {"name": "sku", "kind": "text"},
            {"name": "maker", "kind": "text"},
            {"name": "price", "kind": "whole"},
        ],
        "key": ["sku"],
        "group": "maker",
        "change": None,
    }
    assert buyer.get(f"{SOURCES}/parts").json() == source
    assert buyer.get(f"{SOURCES}/{source['source_id']}").json() == source
    # The same rows are the same version, whatever they came in.
    lines = "\n".join(json.dumps(dict(zip(("sku", "maker", "price"), one, strict=True))) for one in PARTS)
    again = sent(
        buyer, gzip.compress(lines.encode()), "t.jsonl.gz", name="parts", kind="catalog", key="sku", group="maker"
    )
    assert (again.json()["source_id"], again.json()["version"]) == (source["source_id"], 1)


PARTS = [("b10", "Acme", 5), ("b9", "Acme", None), ("a1", "Zeta", 7)]


def test_another_upload_under_the_name_is_its_next_version(buyer: httpx.Client) -> None:
    first = catalog(buyer, "stock", MICE)
    changed: list[Row] = [{**MICE[0], "variant": "White"}, *MICE[2:], {**MICE[1], "product_id": "new", "model": "New"}]
    second = catalog(buyer, "stock", changed)
    assert (second["version"], second["latest_version"]) == (2, 2)
    assert second["change"] == {
        "from_source_id": first["source_id"],
        "added_count": 1,
        "changed_count": 1,
        "removed_count": 1,
        "added": ["new"],
        "changed": ["razer-viper-8khz"],
        "removed": ["razer-viper-mini"],
    }
    page = buyer.get(f"{SOURCES}/stock/versions", params={"page_size": 1}).json()
    assert [one["version"] for one in page["versions"]] == [2]
    rest = buyer.get(f"{SOURCES}/stock/versions", params={"page_token": page["next_page_token"]}).json()
    assert [(one["version"], one["source_id"]) for one in rest["versions"]] == [(1, first["source_id"])]
    assert rest["next_page_token"] is None
    # A version stays what it was, by its id.
    assert rows(buyer, first["source_id"], search="white")["total"] == 0
    assert rows(buyer, "stock", search="white")["total"] == 1


def test_sources_are_listed_by_name_and_kind(buyer: httpx.Client) -> None:
    tasks = "## Soon\n\n- [ ] T001 one\n- [x] T002 two\n"
    for name in ("list-a", "list-c"):
        todo = sent(buyer, tasks, "t.md", name=name, kind="tasks", each_task=1)
        assert (todo.json()["kind"], todo.json()["item_count"]) == ("tasks", 1)
    buyer.post(SOURCES, data={"name": "list-b"}, files={"items": ("i.jsonl", '{"key": "a"}')})
    page = buyer.get(SOURCES, params={"search": "LIST-", "page_size": 2}).json()
    rest = buyer.get(SOURCES, params={"search": "LIST-", "page_token": page["next_page_token"]}).json()
    assert [one["name"] for one in page["sources"] + rest["sources"]] == ["list-a", "list-b", "list-c"]
    of_tasks = buyer.get(SOURCES, params={"search": "list-", "kind": "tasks"}).json()
    assert [one["name"] for one in of_tasks["sources"]] == ["list-a", "list-c"]
    problem_of(buyer.get(SOURCES, params={"kind": "cars"}), 400, "invalid_input")
    problem_of(buyer.get(SOURCES, params={"searching": "x"}), 400, "unknown_parameter")


def test_rows_are_filtered_searched_sorted_paged_and_counted(buyer: httpx.Client) -> None:
    page = rows(buyer, "grid", filter="NOT brand = Acer", search="r", order_by="model desc", page_size=2, groups=True)
    assert page["total"] == 5
    assert page["groups"] == [{"group": "Razer", "count": 3}, {"group": "SteelSeries", "count": 2}]
    assert [row["key"] for row in page["rows"]] == ["razer-viper-mini", "razer-viper-8khz"]
    assert page["rows"][0] == {
        "position": 1,
        "key": "razer-viper-mini",
        "group": "Razer",
        "values": MICE[1],
        "result": None,
        "why": None,
    }
    whole = rows(buyer, "grid", order_by="brand, model desc")["rows"]
    by_pages = [rows(buyer, "grid", order_by="brand, model desc", skip=at, page_size=3)["rows"] for at in (0, 3, 6, 9)]
    assert [row for part in by_pages for row in part] == whole
    beyond = rows(buyer, "grid", skip=10**12)
    assert beyond == {"rows": [], "total": 10, "groups": [], "more_groups": 0, "results": None}


def test_statistics_tell_what_columns_hold(buyer: httpx.Client, grid: dict[str, Any]) -> None:
    told = buyer.get(f"{SOURCES}/grid/statistics").json()
    assert (told["source_id"], told["name"], told["item_count"]) == (grid["source_id"], "grid", 10)
    columns = {one["name"]: one for one in told["columns"]}
    assert list(columns) == ["product_id", "brand", "model", "variant"]
    assert columns["variant"]["null_count"] == 7
    assert columns["brand"] == {
        "name": "brand",
        "kind": "text",
        "null_count": 0,
        "distinct_count": 4,
        "distinct_exact": True,
        "least": "Acer",
        "most": "SteelSeries",
        "frequent": columns["brand"]["frequent"],
    }
    assert columns["brand"]["frequent"][0] == {"value": "Logitech", "count": 3}


def test_what_lies_on_the_server_is_added_refreshed_and_removed(shop: Stack, buyer: httpx.Client) -> None:
    place = shop.data.parent / "shelf" / "parts.csv"
    place.write_text(CSV)
    body = {"name": "shelf", "server_path": str(place), "key": ["sku"], "group": "maker"}
    first = buyer.post(f"{SOURCES}/add", json=body)
    assert (first.status_code, first.json()["version"], first.json()["kind"]) == (200, 1, "catalog"), first.text
    assert buyer.post(f"{SOURCES}/add", json=body).json() == first.json(), "the same once more changes nothing"
    problem_of(buyer.post(f"{SOURCES}/add", json={**body, "group": "sku"}), 409, "name_taken")
    assert buyer.post(f"{SOURCES}/shelf/refresh").json() == first.json()
    place.write_text(CSV + "c1,Zeta,1\n")
    second = buyer.post(f"{SOURCES}/shelf/refresh", json={}).json()
    assert (second["version"], second["change"]["added"]) == (2, ["c1"])
    answer = buyer.delete(f"{SOURCES}/shelf")
    assert (answer.status_code, answer.json()) == (200, {"name": "shelf", "version_count": 2, "draft_count": 0})
    assert "parts" in problem_of(buyer.delete(f"{SOURCES}/shelf"), 404, "source_not_found")
    problem_of(buyer.post(f"{SOURCES}/parts/refresh"), 400, "no_origin")


def test_a_table_of_a_database_file_is_a_source(buyer: httpx.Client, tmp_path: Path) -> None:
    place = tmp_path / "shop.sqlite"
    with sqlite3.connect(place) as database:
        database.execute("CREATE TABLE parts (sku TEXT PRIMARY KEY, price INTEGER)")
        database.executemany("INSERT INTO parts VALUES (?, ?)", [("b10", 5), ("a1", 7)])
    database.close()
    data = place.read_bytes()
    answer = sent(buyer, data, place.name, name="by-table", kind="table", table="parts", key="sku")
    assert (answer.status_code, answer.json().get("item_count")) == (200, 2), answer.text
    query = "SELECT sku, price FROM parts WHERE price > 5"
    answer = sent(buyer, data, place.name, name="by-query", kind="table", query=query, key="sku")
    assert [row["key"] for row in rows(buyer, "by-query")["rows"]] == ["a1"]
    problem_of(sent(buyer, data, place.name, kind="table", table="x", query=query), 400, "bad_origin")
    problem_of(sent(buyer, CSV, kind="table", table="parts"), 400, "bad_kind")


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"kind": "cars"}, "bad_kind", "catalog"),
        ({"kind": "catalog", "colour": "red"}, "bad_form", "'colour'"),
        ({"kind": "tasks", "key": "a", "batch_size": "x", "each_task": "maybe"}, "bad_form", "key is for kind"),
        ({"kind": "tasks", "key": "a", "batch_size": "x", "each_task": "maybe"}, "bad_form", "batch_size is 'x'"),
        ({"kind": "tasks", "key": "a", "batch_size": "x", "each_task": "maybe"}, "bad_form", "each_task is 'maybe'"),
        ({"kind": "catalog", "format": "xls"}, "bad_form", "format is 'xls'"),
        ({"kind": "catalog", "table": "t"}, "bad_form", "table is for kind table"),
        ({"key": "sku"}, "bad_form", "and this is documents"),
        ({"kind": "items", "group": "x"}, "bad_form", "group is for kind catalog or table"),
        ({"kind": "catalog", "name": "no spaces"}, "bad_name", "a letter, then letters"),
        ({"kind": "catalog", "key": "nope"}, "unknown_column", "sku, maker, price"),
        ({"kind": "catalog", "key": "maker"}, "bad_key", "Acme"),
    ],
)
def test_a_form_that_says_nonsense_is_refused_whole(
    shop: Stack, buyer: httpx.Client, fields: dict[str, Any], code: str, words: str
) -> None:
    before = kept(shop, b"maker")
    assert words in problem_of(sent(buyer, CSV, **fields), 400, code)
    until("nothing is left of it", lambda: kept(shop, b"maker") == before, seconds=10)


def test_fields_come_before_files_and_once(buyer: httpx.Client) -> None:
    def form(*parts: tuple[str, str | None, str]) -> httpx.Response:
        body = "".join(
            f'--B\r\nContent-Disposition: form-data; name="{name}"'
            + (f'; filename="{filename}"' if filename else "")
            + f"\r\n\r\n{text}\r\n"
            for name, filename, text in parts
        )
        headers = {"content-type": "multipart/form-data; boundary=B"}
        return buyer.post(SOURCES, content=f"{body}--B--\r\n", headers=headers)

    kind, file = ("kind", None, "catalog"), ("files", "t.csv", CSV)
    late = form(kind, file, ("name", None, "tardy"))
    assert "send the fields first" in problem_of(late, 400, "bad_form")
    problem_of(buyer.get(f"{SOURCES}/tardy"), 404, "source_not_found")
    assert "twice" in problem_of(form(kind, kind, file), 400, "bad_form")
    file = ("files", "t.csv", "maker,sku,nr\nAcme,a,1\n")
    both = form(kind, ("key", None, "maker, sku"), ("key", None, "nr"), file)
    assert both.json()["key"] == ["maker", "sku", "nr"]
    problem_of(form(kind), 400, "no_files")
    problem_of(form(kind, ("zip_file", "a.zip", "PK")), 400, "bad_form")
    problem_of(form(kind, ("items", "a.jsonl", "{}")), 400, "bad_form")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "x", "server_path": "/etc/hostname"}, 400, "bad_origin"),
        ({"name": "x", "server_path": "SHELF/../../outside.csv"}, 400, "bad_origin"),
        ({"name": "x", "server_path": "SHELF/nothing.csv"}, 404, "no_such_path"),
        ({"name": "x"}, 400, "bad_origin"),
        ({"name": "x", "kind": "table", "database": "shop", "table": "parts"}, 404, "no_database"),
        ({"name": "x", "kind": "tasks", "server_path": "SHELF/t.md", "key": ["a"]}, 400, "bad_source"),
        ({"name": "x", "database": "shop", "format": "csv", "table": "parts"}, 400, "bad_source"),
        ({"name": "x y", "server_path": "SHELF/parts.csv"}, 400, "bad_name"),
        ({"name": "x", "path": "/etc"}, 400, "invalid_input"),
        ({"name": 3}, 400, "invalid_input"),
        ({"name": "x", "key": "sku"}, 400, "invalid_input"),
    ],
)
def test_a_place_that_can_not_be_read_is_told(
    shop: Stack, buyer: httpx.Client, body: dict[str, object], status: int, code: str
) -> None:
    shelf = str(shop.data.parent / "shelf")
    given = {name: value.replace("SHELF", shelf) if isinstance(value, str) else value for name, value in body.items()}
    problem_of(buyer.post(f"{SOURCES}/add", json=given), status, code)
    problem_of(buyer.get(f"{SOURCES}/x"), 404, "source_not_found")


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ({"filter": "brnad = x"}, "bad_filter", "at character 1"),
        ({"filter": "brand = "}, "bad_filter", "at its end"),
        ({"order_by": "brnad desc"}, "bad_order", "brnad"),
        ({"page_size": 1_001}, "invalid_input", "page_size"),
        ({"skip": -1}, "invalid_input", "skip"),
        ({"search": "a\0"}, "bad_search", "printed"),
        ({"groups": "perhaps"}, "invalid_input", "groups"),
        ({"limit": 3}, "unknown_parameter", "limit"),
    ],
)
def test_a_question_that_no_grid_takes_is_refused(
    buyer: httpx.Client, query: dict[str, Any], code: str, words: str
) -> None:
    assert words in problem_of(buyer.get(f"{SOURCES}/grid/rows", params=query), 400, code)


def test_documents_and_items_have_no_rows(buyer: httpx.Client) -> None:
    items = buyer.post(SOURCES, files={"items": ("i.jsonl", '{"key": "a"}')}).json()
    assert (items["kind"], items["name"], items["columns"]) == ("items", None, [])
    problem_of(buyer.get(f"{SOURCES}/{items['source_id']}/rows"), 400, "source_without_columns")
    assert buyer.get(f"{SOURCES}/{items['source_id']}/statistics").json()["columns"] == []
    for path in ("none", "none/rows", "none/statistics", "none/versions"):
        problem_of(buyer.get(f"{SOURCES}/{path}"), 404, "source_not_found")
    problem_of(buyer.get(f"{SOURCES}/%00"), 400, "bad_text")
    named = buyer.post(SOURCES, data={"name": "papers"}, files={"files": ("a.txt", "a text")})
    assert (named.json()["kind"], named.json()["name"]) == ("documents", "papers")
