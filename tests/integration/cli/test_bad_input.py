"""Bad input at the command line: what is wrong and where on standard error, exit code 2, nothing on standard output."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path

import pytest

from penstock.client.uploads import CHUNK_BYTES
from penstock.runtime.errors import Conflict, NotFound
from tests.integration.cli import test_planning
from tests.integration.cli.test_planning import Typed
from tests.servers.stack import Stack

penstock = test_planning.penstock

FILES: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "broken.jsonl": (b'{"id": 1}\n{"id": 2,}\n', (), "line 2, column 10: not JSON"),
    "quote.csv": (b'id,n\n1,"a\n', (), "line 2, column 3: the quote that opens here is never closed"),
    "twice.csv": (b"id\n1\n1\n", (), "'1' stands in line 2 and in line 3"),
    "absent.csv": (b"product_id,n\n1,2\n", ("--key", "prodct_id"), "no column 'prodct_id'; there are: product_id"),
    "group.csv": (b"id,brand\n1,2\n", ("--group", "brnad"), "there is no column 'brnad'; there are: id, brand"),
    "cut.csv.gz": (gzip.compress(b"id\n1\n")[:-3], (), "is cut off"),
    "bomb.csv.gz": (gzip.compress(b"id\n" + b"1" * (40 << 20)), (), "more than 100 times its size"),
    "empty.csv": (b"", (), "is empty"),
    "header.csv": (b"id,n\n", (), "no row"),
}


def test_a_file_that_can_not_be_is_told_and_no_source_is_made(penstock: Typed, tmp_path: Path) -> None:
    for name, (data, options, words) in FILES.items():
        (tmp_path / name).write_bytes(data)
        told = penstock("sources", "add", "cli-wrong", tmp_path / name, *options)
        assert (told.code, told.out) == (2, ""), name
        assert words in told.err, name
    assert "no source 'cli-wrong'" in penstock("sources", "show", "cli-wrong").err


def test_queries_that_do_more_than_read_are_refused(penstock: Typed, tmp_path: Path) -> None:
    place = tmp_path / "shop.sqlite"
    lite = sqlite3.connect(place)
    lite.execute("CREATE TABLE t (id)")
    lite.commit()
    lite.close()
    before = place.read_bytes()
    for query in ("DELETE FROM t", "SELECT 1; SELECT 2", "ATTACH '/tmp/other' AS x", "SELECT readfile('/etc/passwd')"):
        told = penstock("sources", "add", "cli-query", place, "--query", query, "--key", "id")
        assert (told.code, told.out) == (2, ""), query
        assert "the query of the database is refused" in told.err, query
    both = penstock("sources", "add", "cli-query", place, "--query", "SELECT 1", "--table", "t")
    assert both.code == 2
    assert place.read_bytes() == before


@pytest.mark.parametrize("change", ["grows", "is written over"])
def test_a_file_that_changes_while_it_is_sent_is_refused(stack: Stack, tmp_path: Path, change: str) -> None:
    """What would be registered stood in the file at no time."""
    path = tmp_path / "moving.csv"
    rows = b"".join(b"%08d,old\n" % n for n in range(4 * CHUNK_BYTES // 13))
    path.write_bytes(b"id,n\n" + rows)
    changed = list[int]()

    def write(sent: int, total: int) -> None:
        if not changed:
            changed.append(sent)
            assert sent < total
            with path.open("r+b") as file:
                file.seek(0, 2 if change == "grows" else 0)
                file.write(b"id,n\n99999999,new\n")

    with pytest.raises(Conflict, match="changed while it was sent") as caught:
        stack.client.sources.catalog([path], name="cli-moving", on_bytes=write)
    assert caught.value.code == "file_changed"
    assert changed
    with pytest.raises(NotFound):
        stack.client.sources.get("cli-moving")


def test_a_plan_that_can_not_be_is_told(penstock: Typed, tmp_path: Path) -> None:
    path = tmp_path / "mice.csv"
    path.write_text("id,brand,price\n1,Acer,5\n2,Razer,7\n")
    assert penstock("sources", "add", "cli-plans", path).code == 0
    keys = tmp_path / "keys"
    keys.write_text("1\n8\n9\n")
    for options, words in (
        (("--filter", "brand = Dell"), "matches nothing"),
        (("--filter", "brand == Acer"), "brand == Acer\n         ^"),
        (("--exclude-filter", "bradn = x"), "the exclude_filter is wrong at character 1"),
        (("--ids", keys), "keys: the source has no '8', '9'"),
        (("--sort", "prise desc"), "no column 'prise'"),
        (("--missing", "noob"), "no processor named 'noob'"),
        (("--sql", "SELECT * FROM read_csv('/etc/passwd')"), "read_csv(…) can't be selected from"),
        (("--changed-since", "none"), "no plan"),
        (("--failed-of", "run-none"), "failed in run 'run-none', or there is no such run"),
        (("--selection", '{"failed_of_run": "run-none"}'), "failed in run 'run-none', or there is no such run"),
        (("--selection", '{"missing": "a", "missing": "noop"}'), "the name 'missing' stands twice"),
    ):
        told = penstock("plans", "create", "cli-plans", "--processor", "noop", *options)
        assert (told.code, told.out) == (2, ""), options
        assert words in told.err, told.err
    assert penstock("plans", "list", "--source", "cli-plans", "--json").out.strip() in ("", "[]")
