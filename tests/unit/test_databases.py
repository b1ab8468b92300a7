"""What tells a database file: its name before it is there, its first bytes whatever it is called."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from penstock.databases import DATABASE_SUFFIXES, HEAD_BYTES, database_by_head, database_by_name


@pytest.mark.parametrize(("suffix", "kind"), DATABASE_SUFFIXES.items())
def test_a_name_tells_the_kind_in_upper_and_lower_case(suffix: str, kind: str) -> None:
    assert database_by_name(f"/srv/shop.v2{suffix}") == kind
    assert database_by_name(f"SHOP{suffix.upper()}") == kind


@pytest.mark.parametrize("name", ["", "shop", "shop.csv", "shop.db.gz", ".db"])
def test_any_other_name_tells_none(name: str) -> None:
    assert database_by_name(name) == ""


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_first_bytes_of_a_real_file_tell_its_kind_and_fewer_do_not(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "mice.csv"
    if kind == "sqlite":
        with closing(sqlite3.connect(place)) as made:
            made.execute("CREATE TABLE mice (a)")
    else:
        with duckdb.connect(str(place)) as other:
            other.execute("CREATE TABLE mice (a INTEGER)")
    head = place.read_bytes()[:HEAD_BYTES]
    assert database_by_head(head) == kind
    assert database_by_head(head[:8]) == ""


@pytest.mark.parametrize("head", [b"", b"DUCK", b"a,b\nDUCK,1\n", b"PAR1" + bytes(12)])
def test_first_bytes_of_anything_else_tell_none(head: bytes) -> None:
    assert database_by_head(head) == ""
