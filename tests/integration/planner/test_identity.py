"""A version's id is the hash of its payloads as lines, of any text and size; a failure ends it and leaves no pipe."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import orjson
import pytest

from planner.domain.schema import Column, ColumnKind, Schema
from planner.tables.identity import Identity, identify
from planner.tables.keys import count_keys

SCHEMA = Schema(columns=(Column("a", ColumnKind.TEXT),), key=("a",), group="", sort=())
ODD = ['{"a":"plain"}', '{"a":"\\n \\" , \\u001f ä 💡 \'"}', "{}", '{"a":[1, 2]}', '{"a":"' + "x" * 5_000 + '"}']


def snapshot(folder: Path, select: str) -> Path:
    place = folder / "snapshot.parquet"
    duckdb.execute(f"COPY ({select}) TO '{place}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
    return place


def identified(place: Path, *, large_bytes: int = 1 << 20, threads: int = 2) -> Identity:
    with duckdb.connect(config={"threads": threads, "memory_limit": "200MB"}) as connection:
        return identify(SCHEMA, place, connection, large_bytes=large_bytes)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_id_is_the_hash_of_schema_and_payloads_in_order(tmp_path: Path, threads: int) -> None:
    payloads = [ODD[row % len(ODD)] if row < 50 else f'{{"a":"{row}"}}' for row in range(20_000)]
    place = tmp_path / "snapshot.parquet"
    duckdb.execute(
        f"COPY (SELECT unnest($payloads) AS payload) TO '{place}' (FORMAT parquet, ROW_GROUP_SIZE 2048)",
        {"payloads": payloads},
    )
    values = orjson.dumps(
        {**SCHEMA.values(), "columns": sorted(SCHEMA.values()["columns"])}, option=orjson.OPT_SORT_KEYS
    )
    digest = hashlib.sha256(b"table 1\n" + values + b"\n" + "".join(f"{one}\n" for one in payloads).encode())
    found = identified(place, threads=threads)
    assert found == Identity(f"source-{digest.hexdigest()[:32]}", len(payloads), large=False)
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("row", [0, 1, 250, 499])
@pytest.mark.parametrize(("size", "large"), [(450, False), (1_001, True)])
def test_a_payload_larger_than_asked_for_is_seen(tmp_path: Path, row: int, size: int, large: bool) -> None:
    length = f"CASE WHEN i = {row} THEN {size} ELSE 30 + i % 7 END"
    place = snapshot(tmp_path, f"SELECT repeat('x', {length}) AS payload FROM range(500) AS t(i)")
    assert identified(place, large_bytes=1_000).large is large


def test_a_snapshot_that_can_not_be_read_ends_it(tmp_path: Path) -> None:
    place = snapshot(tmp_path, "SELECT 'x' AS other")
    with pytest.raises(duckdb.Error, match="payload"):
        identified(place)
    assert list(tmp_path.iterdir()) == [place]


def test_keys_of_which_duckdb_makes_one_hash_are_two(tmp_path: Path) -> None:
    keys = ["P10013717-1430531", "P10013787-1430541", "11", "22", "121", "7"]
    columns = "key, '' AS \"group\" FROM (SELECT unnest($keys) AS key)"
    place = tmp_path / "snapshot.parquet"
    duckdb.execute(f"COPY (SELECT {columns}) TO '{place}' (FORMAT parquet)", {"keys": keys})
    with duckdb.connect() as connection:
        alike = connection.execute("SELECT hash($one) = hash($other)", {"one": keys[0], "other": keys[1]}).fetchone()
        assert alike == (True,), "another hash: look which keys it makes one of"
        found = count_keys(place, connection)
    assert found.hashes == found.rows == len(keys)
