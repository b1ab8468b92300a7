"""Lanes of many rows at once: the very plan that asking row by row makes, for a processor that says its fields."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.processor import Parameters, Processor
from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2, sources_pb2
from planner import gathering, lane_tables
from planner.domain.ordering import Ordering, SortColumn
from planner.domain.schema import Column, ColumnKind, Schema
from planner.domain.selection import Selection
from planner.domain.stages import StageSettings
from planner.lanes import Lanes
from planner.ordered import SMALL_BYTES, Ordered, OrderedPlans
from planner.parquet import Parquet
from planner.planning import SettledStage
from planner.selecting import Wanted
from planner.staging import Staging
from planner.table_planning import kept_items
from tests.integration.planner.conftest import Planner
from tests.integration.planner.table_files import as_jsonl, read
from tests.snapshots import write_snapshot
from tests.unannounced import unannounced

Row = Mapping[str, Any]
SETTINGS = StageSettings("asked", "1", {}, 1, 1, 1, "default")

POOLS: Mapping[str, Sequence[object]] = {
    "site": ["", "a", "b", "1", "true", "ä ö", 'q"\\'],
    "count": [0, 1, -1, 1 << 60],
    "price": [0.0, -0.0, 1.0, 1.5, 1e300, 5e-324],
    "sold": [True, False],
    "made": ["2026-01-01", "2026-01-01T00:00:00.001Z", "2026-01-02"],
    "more": [{"a": 1}, {"a": 1.0}, {"a": None}, {"a": {"b": -0.0}}, {"a": {"b": 0.0}}, {}, [], [1, "x"], [1.0, "x"]],
    "odd `n\"'.": ["a", 1, 1.0, True, "1", [1], {"a": "1"}],
}
WRONG = {"refused": "raises", "no kind": "is no key"}
FIELDS = st.lists(st.sampled_from([*POOLS, "no such", "key", "group"]), max_size=3, unique=True)
ROWS = st.lists(
    st.fixed_dictionaries({}, optional={name: st.none() | st.sampled_from(pool) for name, pool in POOLS.items()}),
    min_size=1,
    max_size=14,
)


class AskedParameters(Parameters):
    fields: tuple[str, ...]


class Asked(Processor[AskedParameters]):
    """Its keys tell every difference in values that Python can see."""

    name = "asked"
    version = "1"
    parameters_type = AskedParameters

    @classmethod
    def limit_keys(cls, payload: Mapping[str, Any], parameters: AskedParameters) -> Sequence[str]:
        keys = []
        for place, name in enumerate(parameters.fields):
            value = payload.get(name, "")
            if value == "refused":
                raise KeyError(f"no {name} of {value}")
            if value == "no kind":
                keys.append(value)
            elif value not in ("", []):
                keys.append(f"k{place}:{hashlib.sha256(repr(value).encode()).hexdigest()[:12]}")
        return keys


class Saying(Asked):
    @classmethod
    def limit_fields(cls, parameters: AskedParameters) -> Sequence[str] | None:
        return parameters.fields


def planned(
    folder: Path, wanted: Wanted, processor: type[Asked], fields: Sequence[str], *, small: bool = True
) -> tuple[Ordered, list[str], list[tuple[object, ...]], list[tuple[object, ...]]]:
    """What is told of a plan; columns and rows of its file, and of the table of its lanes."""
    stage = SettledStage(SETTINGS, Lanes(processor, AskedParameters(fields=tuple(fields))))
    parquet, blobs = Parquet(folder), BlobStore(folder)
    with Staging(blobs, unannounced).upload() as upload:
        plans = OrderedPlans(folder, small_bytes=SMALL_BYTES if small else 0)
        ordered = plans.write(wanted, upload.path("ordered"), lanes=stage.lanes)
        items, table = kept_items(upload, "ordered", stage, parquet, laned=ordered.laned)
    parquet.close()
    found = duckdb.execute("SELECT * FROM read_parquet($place)", {"place": str(blobs.path(items.sha256))})
    names = [f"{column[0]} {column[1]}" for column in found.description or ()]
    rows = found.fetchall()
    lanes = duckdb.execute("SELECT * FROM read_parquet($place)", {"place": str(blobs.path(table))}) if table else None
    return ordered, names, rows, lanes.fetchall() if lanes else []


def snapshot_of(folder: Path, rows: Sequence[Row], **chosen: Any) -> Wanted:
    lines = [{"id": f"p{number}", "brand": f"B{number % 3}", **row} for number, row in enumerate(rows)]
    version = read(folder, as_jsonl(lines), name="t.jsonl", key="id").version
    chosen = {"selection": Selection(everything=True), **chosen}
    return Wanted(snapshot=version.snapshot, schema=version.schema, **chosen)


def both_ways(
    folder: Path, wanted: Wanted, fields: Sequence[str], *, small: bool = True, at_once: bool | None = True
) -> tuple[Any, ...]:
    """The plan, which is the same both ways; at_once: whether lanes are known where fields are said, None: or not."""
    told: list[tuple[Any, ...]] = []
    for processor in (Saying, Asked):
        try:
            ordered, *rest = planned(folder, wanted, processor, fields, small=small)
        except InvalidInput as error:
            told.append((error.code, error.message))
            continue
        if processor is Saying and at_once is not None:
            assert (ordered.laned is not None) is at_once
        if processor is Asked:
            assert ordered.laned is None
        told.append((replace(ordered, laned=None), *rest))
    saying, asked = told
    assert saying == asked
    return saying


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS,
    fields=FIELDS,
    wrong=st.none() | st.sampled_from(list(WRONG)),
    small=st.booleans(),
    block=st.sampled_from([1, 3, 10_240]),
    limit=st.sampled_from([0, 0, 1, 4]),
    chosen=st.sampled_from(["", "brand != B1", "none"]),
    descending=st.booleans(),
)
def test_both_ways_make_the_same_plan_or_refuse_it_with_the_same_words(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    fields: list[str],
    wrong: str | None,
    small: bool,
    block: int,
    limit: int,
    chosen: str,
    descending: bool,
) -> None:
    folder = tmp_path_factory.mktemp("both")
    if wrong:
        rows[-1]["site"] = wrong
    ids = [f"p{number}" for number in range(len(rows), 0, -2)][1:] or ["p0"]
    selection = Selection(
        ids=ids if chosen == "none" else None, filter=chosen if chosen != "none" else None, limit=limit
    )
    ordering = Ordering(pinned=["B2"], sort=[SortColumn("id", descending)])
    wanted = snapshot_of(folder, rows, selection=selection, ordering=ordering, left_out={"done": ["p1", "p3"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "BLOCK_ROWS", block)
        patch.setattr(gathering, "_PART_SHARE", 1e-9 if block < 10 else 0.5)
        both_ways(folder, wanted, fields, small=small)


def test_values_that_are_equal_in_sql_and_other_values_in_json_are_asked_for_each(tmp_path: Path) -> None:
    schema = Schema((Column("id", ColumnKind.TEXT), Column("price", ColumnKind.NUMBER)), ("id",), "", ())
    prices = (0.0, -0.0, 1.5, 0.0, None)
    write_snapshot(
        tmp_path / "snapshot", schema, [{"id": f"p{number}", "price": price} for number, price in enumerate(prices)]
    )
    wanted = Wanted(snapshot=tmp_path / "snapshot", schema=schema, selection=Selection(everything=True))
    _, _, rows, lanes = both_ways(tmp_path, wanted, ["price"])
    assert len({row[5] for row in rows}) == 4
    assert sorted(row[2] for row in lanes) == [1, 1, 1, 2]


@pytest.mark.parametrize("small", [True, False])
def test_a_limit_that_leaves_no_item_with_keys_makes_a_plan_without_lanes(tmp_path: Path, small: bool) -> None:
    rows = [{"site": "" if number < 3 else "a"} for number in range(9)]
    wanted = snapshot_of(
        tmp_path, rows, selection=Selection(everything=True, limit=3), ordering=Ordering(sort=[SortColumn("id")])
    )
    _, names, _, lanes = both_ways(tmp_path, wanted, ["site"], small=small)
    assert "lane VARCHAR" not in names
    assert not lanes


@pytest.mark.parametrize("small", [True, False])
def test_what_is_past_the_limit_is_counted_whatever_its_keys(tmp_path: Path, small: bool) -> None:
    rows = [{"site": "a" if number < 3 else f"b{number}"} for number in range(9)]
    ordering = Ordering(sort=[SortColumn("id")])
    wanted = snapshot_of(tmp_path, rows, selection=Selection(everything=True, limit=3), ordering=ordering)
    ordered, _, items, _ = both_ways(tmp_path, wanted, ["site"], small=small)
    assert [row[2] for row in items] == ["p0", "p1", "p2"]
    assert [(one.reason, one.count) for one in ordered.left_out] == [("past the limit", 6)]


@pytest.mark.parametrize(("bound", "value"), [("_MOST_ASKED", 5), ("_MOST_BYTES", 100)])
@pytest.mark.parametrize("small", [True, False])
def test_too_many_combinations_are_asked_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, small: bool
) -> None:
    wanted = snapshot_of(tmp_path, [{"site": f"shop-{number}.example"} for number in range(40)])
    both_ways(tmp_path, wanted, ["site"], small=small)
    monkeypatch.setattr(lane_tables, bound, value)
    both_ways(tmp_path, wanted, ["site"], small=small, at_once=False)


def test_items_that_are_wrong_are_told_by_their_place_in_the_plan(tmp_path: Path) -> None:
    rows = [{"site": ["a", "refused", "no kind"][number % 3]} for number in range(40)]
    wanted = snapshot_of(tmp_path, rows, ordering=Ordering(sort=[SortColumn("id", descending=True)]))
    code, message = both_ways(tmp_path, wanted, ["site"])
    assert code == "bad_limit_keys"
    assert "item 1 ('p38'): limit key 'no kind' is not" in message, message
    assert "item 2 ('p37'): KeyError: 'no site of refused'" in message, message
    assert "and 16 more" in message


def test_a_processor_is_asked_once_for_alike_items_with_the_fields_that_it_said(tmp_path: Path) -> None:
    asked: list[Mapping[str, Any]] = []

    class Counting(Saying):
        @classmethod
        def limit_keys(cls, payload: Mapping[str, Any], parameters: AskedParameters) -> Sequence[str]:
            asked.append(payload)
            return super().limit_keys(payload, parameters)

        @classmethod
        def limit_fields(cls, parameters: AskedParameters) -> Sequence[str] | None:
            return ["site", "count"]

    rows = [{"site": "ab"[number % 2], **({"count": 1} if number % 4 else {}), "price": number} for number in range(80)]
    wanted = snapshot_of(tmp_path, rows, selection=Selection(filter="site = a"))
    planned(tmp_path, wanted, Counting, ["site"])
    assert sorted(asked, key=len) == [{"site": "a"}, {"site": "a", "count": 1}]


def test_keys_that_are_named_anew_are_not_those_whose_fields_a_base_said() -> None:
    class Anew(Saying):
        @classmethod
        def limit_keys(cls, payload: Mapping[str, Any], parameters: AskedParameters) -> Sequence[str]:
            return [f"domain:{payload['elsewhere']}"]

    class Renamed(Saying):
        name = "renamed"

    class Text(Asked):
        @classmethod
        def limit_fields(cls, parameters: AskedParameters) -> Sequence[str] | None:
            return "site"

    class Failing(Asked):
        @classmethod
        def limit_fields(cls, parameters: AskedParameters) -> Sequence[str] | None:
            raise RuntimeError("not now")

    parameters = AskedParameters(fields=("site",))
    said = {one.__name__: Lanes(one, parameters).fields for one in (Asked, Saying, Anew, Renamed, Text, Failing)}
    assert said == {
        "Asked": None,
        "Saying": ("site",),
        "Anew": None,
        "Renamed": ("site",),
        "Text": None,
        "Failing": None,
    }


async def test_a_plan_of_a_catalog_has_the_lanes_of_its_rows(planner: Planner) -> None:
    keys = [["provider:x", "domain:a"], [], ["domain:a", "provider:x"], ["domain:b"], None]
    rows = [{"id": f"p{n}", **({"limits": some} if some is not None else {})} for n, some in enumerate(keys)]
    part = planner_pb2.CreateSourceRequest
    source = await planner.send(
        [
            part(header=part.Header(kind=planner_pb2.SOURCE_KIND_CATALOG, name="shops")),
            part(file=part.File(name="shops.jsonl")),
            part(chunk=b"\n".join(map(orjson.dumps, rows)) + b"\n"),
        ]
    )
    stages = [planner_pb2.StageSpec(processor="noop")]
    plan = await planner.plan(source.source_id, stages=stages, selection=sources_pb2.Selection(again=True))
    items = (await planner.read(plan.plan_id)).items
    assert [(item.key, item.lane) for item in items] == [
        ("p0", "domain:a provider:x"),
        ("p1", ""),
        ("p2", "domain:a provider:x"),
        ("p3", "domain:b"),
        ("p4", ""),
    ]
