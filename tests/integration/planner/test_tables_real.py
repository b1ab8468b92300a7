"""Real catalogs and tables, where they lie beside the project: facts and numbers of them alone are told here."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from penstock.runtime.errors import InvalidInput
from tests.integration.planner.table_files import as_csv, read

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
MICE = DATA / "products" / "mice.jsonl"
ISSUES = DATA / "issues" / "issues_train.csv.gz"


@pytest.mark.skipif(not MICE.is_file(), reason="shared/data/products/mice.jsonl is absent")
def test_products_are_read_from_what_they_are_sent_as(tmp_path: Path) -> None:
    data = MICE.read_bytes()
    rows = [json.loads(line) for line in data.splitlines()]
    found = read(tmp_path, data, name="mice.jsonl")
    assert found.version.schema.key == ("product_id",)
    assert found.version.schema.group == "brand"
    assert found.version.schema.sort == ("brand", "model", "variant")
    assert found.keys == [row["product_id"] for row in rows]
    assert not found.version.notes
    for name, sent in (
        ("mice.jsonl.gz", gzip.compress(data)),
        ("mice.csv", as_csv(rows)),
        ("mice.json", json.dumps(rows).encode()),
    ):
        assert read(tmp_path, sent, name=name).version.version_id == found.version.version_id


@pytest.mark.skipif(not ISSUES.is_file(), reason="shared/data/issues/issues_train.csv.gz is absent")
def test_issues_without_an_id_need_a_hash_and_keep_their_bodies(tmp_path: Path) -> None:
    data = ISSUES.read_bytes()
    with pytest.raises(InvalidInput, match="`hash`") as caught:
        read(tmp_path, data, name="issues_train.csv.gz")
    assert caught.value.code == "no_key"
    found = read(tmp_path, data, name="issues_train.csv.gz", key="hash")
    before = csv.field_size_limit(1 << 20)
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(data).decode(), newline="")))
    csv.field_size_limit(before)
    assert found.column("body") == [row["body"] or None for row in rows]
    assert found.column("title") == [row["title"] for row in rows]
    assert found.kinds()["created_at"] == "time"
    assert [row["group"] for row in found.rows] == [row["repo"] for row in rows]
    told = {one.name: one for one in found.version.statistics}
    assert told["title"].distinct == len({row["title"] for row in rows})
    assert sum(count for _, count in told["label"].frequent) == len(rows)
    with pytest.raises(InvalidInput, match=r"stands in line .* and in line"):
        read(tmp_path, data, name="issues_train.csv.gz", key=("repo", "label"))
