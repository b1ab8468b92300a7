"""The plan's file of a selection: exactly what was chosen, in exactly the order that was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from penstock.filters import Filter
from penstock.runtime.errors import InvalidInput, Unavailable
from planner import gathering
from planner.domain.natural import natural_key
from planner.domain.ordering import Ordering, SortColumn
from planner.domain.schema import Column, ColumnKind, Schema
from planner.domain.selection import Flags, LeftOut, Selection
from planner.fields import fields_of
from planner.ordered import SMALL_BYTES, GroupCount, Ordered, OrderedPlans
from planner.parquet import Parquet
from planner.selecting import Keys, Ready, Wanted
from tests.snapshots import CATALOG, write_catalog, write_snapshot

SCHEMA = Schema(
    (
        Column("id", ColumnKind.TEXT),
        Column("brand", ColumnKind.TEXT),
        Column("odd `name`", ColumnKind.TEXT),
        Column("size", ColumnKind.WHOLE),
        Column("price", ColumnKind.NUMBER),
        Column("sold", ColumnKind.BOOLEAN),
        Column("made", ColumnKind.TIME),
    ),
    key=("id",),
    group="brand",
    sort=("brand", "odd `name`"),
)
ISSUES = Schema(
    (Column("number", ColumnKind.WHOLE), Column("repo", ColumnKind.TEXT), Column("state", ColumnKind.TEXT)),
    key=("repo", "number"),
    group="repo",
    sort=(),
)
Row = Mapping[str, object]

BRANDS = st.sampled_from(["Razer", "razer", "Brand 9", "Brand 10", "Ä", "z", ""])
ROW = st.fixed_dictionaries(
    {
        "brand": st.none() | BRANDS,
        "odd `name`": st.none() | st.sampled_from(["V9", "V10", "v 9", "x", "É1"]),
        "size": st.none() | st.integers(-2, 2),
        "price": st.none() | st.sampled_from([0.0, -0.0, 1.5, -2.0, 1e300]),
        "sold": st.none() | st.booleans(),
        "made": st.none() | st.integers(-1, 1),
    }
)
KEYS = st.lists(st.text("aAb19é/\U0001f600\uffff", min_size=1, max_size=4), min_size=8, max_size=25, unique=True)
FILTERS = st.sampled_from(
    ["size > 0", "brand:razer OR `odd \\`name\\``:V", "sold = true", "NOT price < 1", "group != ''"]
)
SORTS = st.lists(
    st.builds(SortColumn, st.sampled_from([*SCHEMA.names, "size", "price", "sold", "made"]), st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda column: column.name,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[Row], Wanted]:
    keys = draw(KEYS)
    rows: list[Row] = [{"id": key, **draw(ROW)} for key in keys]
    many = st.lists(st.sampled_from(keys), min_size=len(keys), max_size=2 * len(keys))
    some = st.lists(st.sampled_from(keys), max_size=2)
    left_out: Mapping[str, Keys] = draw(st.dictionaries(st.sampled_from(["done", "another's"]), some, max_size=2))
    how = draw(st.sampled_from(["ids", "filter", "all", "ready"]))
    listed = draw(many) if how in ("ids", "ready") else None
    as_selected = listed is not None and draw(st.booleans())
    groups = st.lists(BRANDS, max_size=3, unique=True)
    return rows, Wanted(
        snapshot=Path("unset"),
        schema=SCHEMA,
        selection=Selection(
            ids=listed if how == "ids" else None,
            filter=draw(FILTERS) if how == "filter" else None,
            everything=how == "all",
            exclude_ids=draw(some),
            exclude_filter=draw(st.sampled_from(["", "", "size = 2", "made > '1970-01-01T00:00:00Z' AND sold = true"])),
            limit=draw(st.sampled_from([0, 0, 0, 1, 5])),
        ),
        ordering=Ordering(
            pinned=draw(groups),
            group_order=draw(groups),
            sort=None if as_selected or draw(st.integers(0, 3)) == 0 else draw(SORTS),
            as_selected=as_selected,
        ),
        ready=Ready(listed, "a query") if how == "ready" and listed is not None else None,
        left_out=left_out,
    )


def reference(rows: Sequence[Row], wanted: Wanted) -> tuple[list[str], dict[str, int]]:
    """The keys in order, and how many are left out, by reason."""
    selection, ordering = wanted.selection, wanted.ordering
    fields = fields_of(wanted.schema)
    listed = listed_of(wanted.ready.keys if wanted.ready else selection.ids)
    included = Filter.parse(selection.filter or "", fields)
    excluded = Filter.parse(selection.exclude_filter, fields) if selection.exclude_filter else None
    chosen, gone = [], dict[str, int]()
    for row in rows:
        values = {**row, "key": row["id"], "group": row["brand"] or ""}
        if (listed is not None and row["id"] not in listed) or not included.matches(values):
            continue
        reasons = ["excluded by id"] if row["id"] in selection.exclude_ids else []
        reasons += ["excluded by filter"] if excluded and excluded.matches(values) else []
        reasons += [reason for reason, keys in wanted.left_out.items() if row["id"] in (listed_of(keys) or [])]
        if reasons:
            gone[reasons[0]] = gone.get(reasons[0], 0) + 1
        else:
            chosen.append(values)
    chosen.sort(key=lambda values: str(values["key"]).encode())
    for column in reversed(ordering.columns(wanted.schema)):
        kind = wanted.schema.kind(column.name)
        chosen.sort(key=lambda values: sortable(values[column.name], kind), reverse=column.descending)
    if ordering.as_selected:
        assert listed is not None
        chosen.sort(key=lambda values: listed.index(str(values["key"])))
    order = [*ordering.pinned, *(group for group in ordering.group_order if group not in ordering.pinned)]
    chosen.sort(key=lambda values: order.index(values["group"]) if values["group"] in order else len(order))
    if selection.limit and len(chosen) > selection.limit:
        gone["past the limit"] = len(chosen) - selection.limit
    return [str(values["key"]) for values in chosen[: selection.limit or None]], gone


def listed_of(keys: Keys | None) -> list[str] | None:
    assert not isinstance(keys, Path)
    return None if keys is None else list(keys)


def sortable(value: object, kind: ColumnKind) -> tuple[object, ...]:
    if kind is ColumnKind.TEXT:
        return (natural_key(str(value or "")),)
    return () if value is None else (value,)


def items(place: Path) -> list[tuple[object, ...]]:
    return asked(place, 'SELECT stage, seq, key, "group", payload, size FROM read_parquet($place)')


def asked(place: Path, question: str) -> list[tuple[object, ...]]:
    return duckdb.execute(question, {"place": str(place)}).fetchall()


def within(wanted: Wanted, snapshot: Path) -> Wanted:
    return Wanted(**{**wanted.__dict__, "snapshot": snapshot})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests(), small=st.booleans())
def test_any_selection_and_order_is_the_order_of_the_plans_file(
    tmp_path: Path, request: tuple[list[Row], Wanted], small: bool
) -> None:
    rows, wanted = request
    snapshot, place = tmp_path / "snapshot", tmp_path / "plan"
    write_snapshot(snapshot, SCHEMA, rows)
    keys, gone = reference(rows, wanted)
    plans = OrderedPlans(tmp_path, small_bytes=SMALL_BYTES if small else 0)
    if not keys:
        with pytest.raises(InvalidInput) as told:
            plans.write(within(wanted, snapshot), place)
        assert told.value.code == "selection_empty"
        return
    written = plans.write(within(wanted, snapshot), place)
    assert [row[:3] for row in items(place)] == [(0, seq, key) for seq, key in enumerate(keys)]
    assert {one.reason: one.count for one in written.left_out} == gone
    assert sum(one.count for one in written.groups) == written.count == len(keys)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests(), block=st.integers(1, 3), share=st.sampled_from([1e-9, 1e-6]), later=st.booleans())
def test_ties_and_nulls_at_the_borders_of_parts_stand_where_they_stand_in_one_sort(
    tmp_path: Path, request: tuple[list[Row], Wanted], block: int, share: float, later: bool
) -> None:
    """Of parts of one to some rows, so that a border lies between any two that are equal, null or pinned."""
    rows, wanted = request
    snapshot, place = tmp_path / "snapshot", tmp_path / "plan"
    write_snapshot(snapshot, SCHEMA, rows)
    keys, _ = reference(rows, wanted)
    assume(len(keys) > block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "BLOCK_ROWS", block)
        patch.setattr(gathering, "_PART_SHARE", share)
        OrderedPlans(tmp_path, small_bytes=0).write(
            within(wanted, snapshot), place, [(1, 0, "last", "g", "{}", "")] if later else ()
        )
    found = items(place)
    assert [row[:3] for row in found] == [*((0, seq, key) for seq, key in enumerate(keys)), *[(1, 0, "last")] * later]
    stored = {row[0]: row[1:] for row in asked(snapshot, 'SELECT key, "group", payload FROM read_parquet($place)')}
    assert [row[3:5] for row in found[: len(keys)]] == [stored[key] for key in keys], "each with what is its own"


def small(tmp_path: Path, **chosen: object) -> tuple[Ordered, list[str]]:
    """A plan of eight products: what is told of it, and its keys."""
    rows = [{"id": f"p{n}", "brand": ["Razer", "Acme"][n % 2], "size": n} for n in range(8)]
    snapshot, place = tmp_path / "snapshot", tmp_path / "plan"
    write_snapshot(snapshot, SCHEMA, rows)
    wanted = {"snapshot": snapshot, "schema": SCHEMA, "selection": Selection(everything=True), **chosen}
    written = OrderedPlans(tmp_path).write(Wanted(**wanted), place)  # type: ignore[arg-type]
    return written, [str(row[2]) for row in items(place)]


def test_what_is_told_of_a_plan(tmp_path: Path) -> None:
    written, keys = small(
        tmp_path,
        selection=Selection(everything=True, exclude_ids=["p1"], exclude_filter="size > 5", limit=4),
        ordering=Ordering(pinned=["Nobody"], group_order=["Razer"]),
        left_out={"completed before": ["p0", "p1", "gone since"]},
    )
    assert keys == ["p2", "p4", "p3", "p5"]
    assert written == Ordered(
        count=4,
        blocks=(0,),
        groups=(GroupCount("Razer", 2, 0), GroupCount("Acme", 2, 2)),
        group_count=2,
        left_out=(
            LeftOut("excluded by id", 1, ("p1",)),
            LeftOut("excluded by filter", 2, ("p6", "p7")),
            LeftOut("completed before", 1, ("p0",)),
        ),
        unknown_groups=("Nobody",),
    )


def test_lists_may_come_as_files_in_their_order(tmp_path: Path) -> None:
    listed, done = tmp_path / "listed", tmp_path / "done"
    for place, keys in ((listed, ["p7", "p2", "p7", "p5", "p0"]), (done, ["p2", "p6"])):
        with duckdb.connect() as connection:
            connection.execute("CREATE TABLE t AS SELECT unnest($keys::VARCHAR[]) AS key", {"keys": keys})
            connection.execute(f"COPY t TO '{place}' (FORMAT parquet)")
    written, keys = small(
        tmp_path,
        selection=Selection(),
        ready=Ready(listed, "custom"),
        ordering=Ordering(as_selected=True),
        left_out={"done": done},
    )
    assert keys == ["p7", "p5", "p0"]
    assert written.left_out == (LeftOut("done", 1, ("p2",)),)


def test_unknown_ids_are_listed_and_counted(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as told:
        small(tmp_path, selection=Selection(ids=["p1", *(f"no {n}" for n in range(300_000))]))
    assert told.value.code == "unknown_ids"
    assert "keys: the source has no 'no 0', 'no 1'," in told.value.message
    assert "'no 9' and 299,990 more" in told.value.message
    with pytest.raises(InvalidInput, match="exclude_keys: the source has no 'zz'"):
        small(tmp_path, selection=Selection(everything=True, exclude_ids=["p1", "zz"]))


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as told:
        small(
            tmp_path,
            selection=Selection(filter="brnad = a", exclude_filter="size >", limit=-1, flags=Flags(state="open")),
            ordering=Ordering(sort=[SortColumn("prise")]),
        )
    for words in ("limit is -1", "state needs a column", "no such field", "a value of size", "sort by; there are: id"):
        assert words in told.value.message
    assert told.value.metadata["codes"] == "bad_selection,no_such_column,bad_filter,bad_order"
    assert not (tmp_path / "plan").exists()


def test_a_wrong_filter_alone_keeps_its_caret(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as told:
        small(tmp_path, selection=Selection(filter="size > big"))
    assert told.value.code == "bad_filter"
    assert told.value.metadata["caret"].index("^") == 7


def test_a_selection_that_matches_nothing_says_why(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="of 8 rows it includes none") as told:
        small(tmp_path, selection=Selection(filter="size > 100"))
    assert told.value.code == "selection_empty"
    with pytest.raises(InvalidInput, match="left out: 7 excluded by filter; 1 done"):
        small(
            tmp_path,
            selection=Selection(everything=True, exclude_filter="size > 0"),
            left_out={"done": ["p0"]},
        )
    assert not (tmp_path / "plan").exists()


@pytest.mark.parametrize(
    ("flags", "numbers"),
    [
        (Flags(org="acme"), [1, 2]),
        (Flags(repo="site"), [1, 3, 4]),
        (Flags(repo="ACME/site"), [1]),
        (Flags(org="Acme", repo="tool", state="OPEN"), [2]),
        (Flags(state="open"), [1, 2, 4]),
    ],
)
def test_flags_narrow_by_org_repo_and_state(tmp_path: Path, flags: Flags, numbers: list[int]) -> None:
    rows: list[Row] = [
        {"number": 1, "repo": "acme/site", "state": "open"},
        {"number": 2, "repo": "Acme/tool", "state": "open"},
        {"number": 3, "repo": "other/site", "state": "closed"},
        {"number": 4, "repo": "site", "state": "open"},
        {"number": 5, "repo": None, "state": None},
    ]
    snapshot, place = tmp_path / "snapshot", tmp_path / "plan"
    write_snapshot(snapshot, ISSUES, rows)
    wanted = Wanted(
        snapshot=snapshot,
        schema=ISSUES,
        selection=Selection(everything=True, flags=flags),
        ordering=Ordering(sort=[SortColumn("number")]),
    )
    OrderedPlans(tmp_path).write(wanted, place)
    assert [int(str(row[2]).rpartition("/")[2]) for row in items(place)] == numbers


def test_an_org_column_goes_before_the_repos_own(tmp_path: Path) -> None:
    schema = Schema((Column("org", ColumnKind.TEXT), Column("repo", ColumnKind.TEXT)), ("org", "repo"), "", ())
    rows: list[Row] = [
        {"org": "acme", "repo": "a"},
        {"org": None, "repo": "acme/b"},
        {"org": "other", "repo": "acme/c"},
    ]
    snapshot, place = tmp_path / "snapshot", tmp_path / "plan"
    write_snapshot(snapshot, schema, rows)
    for flags, keys in ((Flags(org="acme"), ["/acme/b", "acme/a"]), (Flags(repo="acme/a"), ["acme/a"])):
        wanted = Wanted(snapshot=snapshot, schema=schema, selection=Selection(everything=True, flags=flags))
        OrderedPlans(tmp_path).write(wanted, place)
        assert [row[2] for row in items(place)] == keys


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("catalog") / "snapshot"
    write_catalog(place, 30_000)
    return place


@pytest.mark.parametrize("way", ["at once", "in one part", "in many parts"])
def test_the_file_is_a_plan_as_its_readers_know_it(catalog: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = catalog.parent
    place = folder / "plan"
    if way == "in many parts":
        monkeypatch.setattr("planner.gathering._PART_SHARE", 0.001)
    written = OrderedPlans(folder, small_bytes=SMALL_BYTES if way == "at once" else 0).write(
        Wanted(snapshot=catalog, schema=CATALOG, selection=Selection(filter="active = true")),
        place,
        [(1, 0, "last", "it's", '{"a":"\'"}', "")],
    )
    parquet = Parquet(folder)
    assert list(written.blocks) == parquet.blocks(place, stage=0)
    assert parquet.read_items(place, stage=1, first=0, end=1) == [(0, "last", "it's", b'{"a":"\'"}', "")]
    first, end = written.blocks[-1], written.count
    read = parquet.read_items(place, stage=0, first=first, end=end)
    assert [item[0] for item in read] == list(range(first, end))
    assert parquet.read_seqs(place, stage=0, seqs=[5, written.count - 1])[1] == read[-1]
    stored = items(place)
    assert all(len(str(row[4]).encode()) == row[5] for row in stored)
    assert written.count == len(stored) - 1
    assert not list(folder.glob("plan.*"))


@pytest.mark.parametrize("limit", [0, 25_000])
def test_with_little_memory_and_in_parts_the_plan_is_the_same(
    catalog: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, place = catalog.parent, catalog.parent / "plan"
    wanted = Wanted(snapshot=catalog, schema=CATALOG, selection=Selection(everything=True, limit=limit))
    ample = OrderedPlans(folder, memory="1GB").write(wanted, place)
    rows = items(place)
    for small_bytes, share in ((SMALL_BYTES, 0.5), (0, 0.5), (0, 0.1)):
        monkeypatch.setattr("planner.gathering._PART_SHARE", share)
        assert OrderedPlans(folder, memory="60MB", small_bytes=small_bytes).write(wanted, place) == ample
        assert items(place) == rows


def test_too_little_memory_is_told_and_leaves_nothing(catalog: Path) -> None:
    wanted = Wanted(snapshot=catalog, schema=CATALOG, selection=Selection(everything=True))
    for small_bytes in (SMALL_BYTES, 0):
        with pytest.raises(Unavailable, match="3MB of memory are too little") as told:
            OrderedPlans(catalog.parent, memory="3MB", small_bytes=small_bytes).write(wanted, catalog.parent / "none")
        assert told.value.code == "too_little_memory"
        assert not list(catalog.parent.glob("none*"))
        assert not list((catalog.parent / ".planner").iterdir())


def test_groups_are_told_up_to_a_bound_and_the_others_counted(tmp_path: Path) -> None:
    snapshot, place = tmp_path / "snapshot", tmp_path / "plan"
    schema = Schema((Column("id", ColumnKind.TEXT),), key=("id",), group="id", sort=("id",))
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT 'g' || i AS key, 'g' || i AS \"group\", '{{}}' AS payload, 'g' || i AS f0, "
            f"lpad(i::VARCHAR, 9, '0') AS s0 FROM range(2500) AS t(i)) TO '{snapshot}' (FORMAT parquet)"
        )
    written = OrderedPlans(tmp_path).write(
        Wanted(snapshot=snapshot, schema=schema, selection=Selection(everything=True)), place
    )
    assert (len(written.groups), written.group_count) == (1_000, 2_500)
    assert [one.group for one in written.groups[:3]] == ["g0", "g1", "g2"]


PROGRAM = """
import sys
from pathlib import Path
from planner.domain.ordering import Ordering, SortColumn
from planner.domain.selection import Selection
from planner.ordered import OrderedPlans
from planner.selecting import Wanted
from tests.snapshots import CATALOG

snapshot, place = Path(sys.argv[1]), Path(sys.argv[2])
brands = {f"Brand {n}" for n in range(20)}
wanted = Wanted(
    snapshot=snapshot,
    schema=CATALOG,
    selection=Selection(filter="stock > 1000", exclude_filter="state = waiting"),
    ordering=Ordering(group_order=sorted(brands), sort=[SortColumn("note", True), SortColumn("rating")]),
)
print(wanted.selection.identity(ordered=False), wanted.ordering.identity())
OrderedPlans(snapshot.parent).write(wanted, place)
"""


def test_hash_seeds_do_not_matter(catalog: Path) -> None:
    told, places = [], [catalog.parent / "one", catalog.parent / "two"]
    for seed, place in zip(("1", "2"), places, strict=True):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(catalog), str(place)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        told.append(done.stdout)
    assert told[0] == told[1]
    assert items(places[0]) == items(places[1])
