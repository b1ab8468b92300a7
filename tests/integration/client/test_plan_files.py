"""Plans as files, and copies: the same plan under the same id in another Penstock, or a refusal that leaves nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import planner.__main__
from penstock.client import AsyncClient, Endpoints, Ordering, Selection, StageOptions
from penstock.runtime.errors import Conflict, InvalidInput, NotFound, TooLarge
from penstock.runtime.settings import Settings
from penstock.v1 import planner_pb2
from tests.servers.inprocess import serve

ROWS: list[dict[str, object]] = [
    {
        "id": f"m{number}",
        "brand": ["Acer", "Razer", "Zowie"][number % 3],
        "model": f"Model {number}",
        "price": number / 4,
        "made": f"2024-01-{number % 28 + 1:02}T10:00:00Z",
        "tags": ["a", number],
        "note": None,
    }
    for number in range(60)
]
STAGES = [StageOptions(processor="noop", concurrency=4, max_tries=2, parameters={"sleep_seconds": 0})]
ORDERING = Ordering(pinned=["Zowie"], sort=["price desc"])


class Place:
    """A planner of its own."""

    def __init__(self, folder: Path, client: AsyncClient) -> None:
        self.folder = folder
        self.client = client

    def left_behind(self) -> set[str]:
        return {str(one.relative_to(self.folder)) for one in (self.folder / "blobs").rglob("*") if one.is_file()}

    async def keys(self, plan_id: str) -> list[tuple[str, str, bytes]]:
        return [(item.key, item.group, item.payload) async for item in self.client.plans.items(plan_id)]


def kept_details(place: Place, plan_id: str) -> dict[str, Any]:
    with sqlite3.connect(place.folder / "planner.db") as connection:
        (details,) = connection.execute("SELECT details FROM plans WHERE plan_id = ?", (plan_id,)).fetchone()
    found: dict[str, Any] = json.loads(details)
    return found


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def named(folder: Path, part: str) -> list[str]:
    return [one.name for one in folder.iterdir() if part in one.name]


def written(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


async def place(folder: Path) -> AsyncIterator[Place]:
    settings = Settings.model_validate(
        {
            "blobs": folder / "blobs",
            "planner": {"database_url": f"sqlite:///{folder / 'planner.db'}", "tables": {"max_bytes": 1 << 20}},
        }
    )
    served = await serve(planner.__main__.build, settings)
    told = Endpoints(planner=served.address, scheduler="127.0.0.1:9", analyzer="127.0.0.1:9")
    async with AsyncClient(endpoints=told, actor="ann", retry_seconds=2.0) as client:
        yield Place(folder, client)
    await served.stop()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "here").mkdir()
    async for one in place(tmp_path / "here"):
        yield one


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "there").mkdir()
    async for one in place(tmp_path / "there"):
        yield one


@pytest.fixture
async def plan(here: Place, tmp_path: Path) -> planner_pb2.Plan:
    written(tmp_path / "mice.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    await here.client.sources.catalog([tmp_path / "mice.jsonl"], name="mice")
    selection = Selection(filter="price > 2", exclude_keys=["m10"], limit=40, again=True)
    return await here.client.plans.create(
        "mice", stages=STAGES, selection=selection, ordering=ORDERING, name="some mice"
    )


@pytest.fixture
async def file(here: Place, plan: planner_pb2.Plan, tmp_path: Path) -> Path:
    path = tmp_path / "plan.gz"
    assert await here.client.plans.save(plan.plan_id, path) == path.stat().st_size
    return path


def changed(file: Path, change: Callable[[list[Any]], object]) -> Path:
    """The file with its lines changed by `change`, and a hash that fits them."""
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()[:-1]]
    change(lines)
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    end = json.dumps({"sha256": hashlib.sha256(data).hexdigest()}).encode() + b"\n"
    place = file.with_name("changed.gz")
    place.write_bytes(gzip.compress(data + end))
    return place


async def test_a_file_brings_the_same_plan_under_the_same_id(
    here: Place, there: Place, plan: planner_pb2.Plan, file: Path
) -> None:
    got = await there.client.plans.load(file)
    assert (got.plan_id, got.source_id, got.name) == (plan.plan_id, plan.source_id, "some mice")
    assert await there.keys(got.plan_id) == await here.keys(plan.plan_id)
    assert got.stages == plan.stages
    assert (got.selection, got.ordering, got.groups, got.actor) == (
        plan.selection,
        plan.ordering,
        plan.groups,
        plan.actor,
    )
    assert got.needs_confirm, "its order is the file's word"
    assert [warning.code for warning in got.warnings] == ["imported"]
    assert (got.source_name, got.source_version) == ("mice", 1)
    mine, theirs = await here.client.plans.rows(plan.plan_id), await there.client.plans.rows(plan.plan_id)
    assert [(row.key, row.why, json.loads(row.values)) for row in theirs.rows] == [
        (row.key, row.why, json.loads(row.values)) for row in mine.rows
    ]
    described = await there.client.sources.describe("mice")
    kinds = {one.column.name: one.column.kind for one in described.columns}
    own = await here.client.sources.describe("mice")
    assert kinds == {one.column.name: one.column.kind for one in own.columns}, "also of a column of nulls"


async def test_what_estimates_go_by_of_groups_that_are_mixed_comes_with_a_file(
    here: Place, there: Place, plan: planner_pb2.Plan, tmp_path: Path
) -> None:
    apart = await here.client.plans.create(
        "mice", stages=STAGES, selection=Selection(again=True), ordering=Ordering(groups=["Acer", "Zowie", "Razer"])
    )
    for one, grouped in ((apart, True), (plan, False)):
        path = tmp_path / f"{one.plan_id}.gz"
        await here.client.plans.save(one.plan_id, path)
        await there.client.plans.load(path)
        told = [
            {name: kept_details(where, one.plan_id)[name] for name in ("groups", "grouped", "more_groups")}
            for where in (here, there)
        ]
        assert told[0] == told[1]
        assert told[0]["grouped"] == grouped


async def test_a_file_twice_or_where_the_plan_is_already_is_the_same_plan(
    here: Place, there: Place, plan: planner_pb2.Plan, file: Path
) -> None:
    assert (await there.client.plans.load(file, name="mine")).name == "mine"
    again = await there.client.plans.load(file)
    assert again.plan_id == plan.plan_id
    assert len(await there.client.plans.list()) == 1
    assert len(await there.client.sources.list()) == 1
    kept = await here.client.plans.load(file)
    assert (kept.plan_id, kept.needs_confirm) == (plan.plan_id, False), "the plan that was here stays as it is"


async def test_a_file_without_its_source_needs_it_there(
    here: Place, there: Place, plan: planner_pb2.Plan, tmp_path: Path
) -> None:
    path = tmp_path / "small.gz"
    await here.client.plans.save(plan.plan_id, path, without_source=True)
    with pytest.raises(InvalidInput, match=f"needs {plan.source_id}, which is not here") as caught:
        await there.client.plans.load(path)
    assert caught.value.code == "source_missing"
    await there.client.sources.catalog([tmp_path / "mice.jsonl"], name="rodents")
    got = await there.client.plans.load(path)
    assert await there.keys(got.plan_id) == await here.keys(plan.plan_id)
    assert got.source_name == "mice", "the version has that name here, too"


async def test_a_source_of_that_name_with_other_rows_stays_what_it_is(
    there: Place, plan: planner_pb2.Plan, file: Path, tmp_path: Path
) -> None:
    written(tmp_path / "other.jsonl", '{"id": "x", "brand": "y"}\n')
    await there.client.sources.catalog([tmp_path / "other.jsonl"], name="mice")
    got = await there.client.plans.load(file)
    assert (got.plan_id, got.source_name) == (plan.plan_id, "")
    assert [warning.code for warning in got.warnings] == ["imported", "other_source"]
    assert (await there.client.sources.get("mice")).version == 1


def set_at(*path: object, to: object) -> Callable[[list[Any]], object]:
    def change(lines: list[Any]) -> None:
        one: Any = lines
        for step in path[:-1]:
            one = one[step]
        one[path[-1]] = to

    return change


HOSTILE: dict[str, tuple[Callable[[list[Any]], object], str]] = {
    "another version": (set_at(0, "penstock_plan", to=2), "plan_file_version"),
    "another id": (set_at(0, "plan_id", to="plan-" + "0" * 32), "plan_mismatch"),
    "other settings": (set_at(0, "stage", "concurrency", to=8), "plan_mismatch"),
    "settings out of range": (set_at(0, "stage", "concurrency", to=10**9), "bad_stages"),
    "another selection": (set_at(0, "identity", "selection", to={"all": True}), "plan_mismatch"),
    "a processor that is none": (set_at(0, "stage", "processor", to="nobody'; DROP TABLE plans; --"), "processor"),
    "a processor of another version": (set_at(0, "stage", "processor_version", to="99"), "plan_settings_differ"),
    "parameters that are none": (set_at(0, "stage", "parameters", to={"nothing": 1}), "parameters"),
    "free where it costs": (set_at(0, "stage", "paid", to=True), "plan_settings_differ"),
    "rules that are none": (set_at(0, "stage", "rules", to={"x": 1}), "bad_plan_file"),
    "a selection that is none": (set_at(0, "selection", to={"filter": 5}), "bad_plan_file"),
    "a field too many": (set_at(0, "more", to=1), "bad_plan_file"),
    "a count that is a text": (set_at(0, "item_count", to="40"), "bad_plan_file"),
    "a name of SQL": (set_at(0, "source", "name", to="x'); DROP TABLE sources; --"), "bad_plan_file"),
    "a row changed": (set_at(5, "price", to=99), "source_mismatch"),
    "a row twice": (lambda lines: lines[1].__setitem__(0, lines[1][1]), "bad_plan_file"),
    "a row that is not there": (set_at(1, 0, to=60), "bad_plan_file"),
    "a place that is none": (set_at(1, 0, to=-1), "bad_plan_file"),
    "a place of SQL": (set_at(1, 0, to="0; DROP TABLE x"), "bad_plan_file"),
    "a place that is a truth": (set_at(1, 0, to=True), "bad_plan_file"),
    "a line of places cut in two": (lambda lines: lines.insert(2, [lines[1].pop()]), "bad_plan_file"),
    "a key of many columns": (set_at(0, "source", "table_schema", "key", to=["id"] * 100_000), "bad_columns"),
    "an order of many columns": (set_at(0, "source", "table_schema", "sort", to=["brand"] * 50_000), "bad_columns"),
    "an order by one twice": (set_at(0, "source", "table_schema", "sort", to=["brand", "brand"]), "bad_columns"),
    "too few items": (lambda lines: lines[1].pop(), "bad_plan_file"),
    "too many items": (lambda lines: lines[1].append(59), "bad_plan_file"),
    "a row too few": (lambda lines: lines.pop(), "bad_plan_file"),
    "a row too many": (lambda lines: lines.append({"id": "z"}), "bad_plan_file"),
    "another schema": (set_at(0, "source", "table_schema", to={"key": 5}), "bad_plan_file"),
    "another key": (set_at(0, "source", "table_schema", "key", to=["model"]), "source_mismatch"),
    "nothing of it": (lambda lines: lines.clear(), "bad_plan_file"),
    "a deep one": (set_at(0, "identity", to=json.loads("[" * 400 + "]" * 400)), "bad_plan_file"),
}


async def test_a_file_that_was_changed_is_refused_whole(there: Place, file: Path) -> None:
    before = there.left_behind()
    for what, (change, code) in HOSTILE.items():
        with pytest.raises((InvalidInput, NotFound)) as caught:
            await there.client.plans.load(changed(file, change))
        assert code in caught.value.code, what
        assert there.left_behind() == before, what
    assert not await there.client.plans.list()
    assert not await there.client.sources.list()


async def test_a_file_that_breaks_off_is_refused(there: Place, file: Path) -> None:
    whole = bytes_of(file)
    for at in (0, 1, 12, 300, 700, -1, -9):
        written(file, whole[:at])
        with pytest.raises(InvalidInput) as caught:
            await there.client.plans.load(file)
        assert caught.value.code == "bad_plan_file", at


async def test_damage_other_formats_and_bombs_are_refused(there: Place, file: Path, tmp_path: Path) -> None:
    whole = bytes_of(file)
    files = {
        "damaged": whole[:200] + bytes([whole[200] ^ 255]) + whole[201:],
        "more after it": whole + b"x",
        "two of them": whole + whole,
        "no gzip": b"PK\x03\x04" + whole,
        "a text": gzip.compress(b"hello\n"),
        "one without an end": gzip.compress(gzip.decompress(whole).rsplit(b"\n", 2)[0] + b"\n"),
        "a hash that does not fit": gzip.compress(gzip.decompress(whole).replace(b'"m7"', b'"m6"')),
        "one long line": gzip.compress(b'{"penstock_plan":1,' + b" " * (9 << 20)),
    }
    before = there.left_behind()
    for what, data in files.items():
        written(file, data)
        with pytest.raises(InvalidInput) as caught:
            await there.client.plans.load(file)
        assert caught.value.code == "bad_plan_file", what
    written(file, gzip.compress(gzip.decompress(whole).splitlines()[0] + b"\n" + b" \n" * (20 << 20)))
    with pytest.raises((InvalidInput, TooLarge)):
        await there.client.plans.load(file)
    written(file, b"\x1f\x8b" + bytes(2 << 20))
    with pytest.raises((TooLarge, InvalidInput)):
        await there.client.plans.load(file)
    assert there.left_behind() == before


async def test_a_plan_that_is_here_with_other_items_is_not_replaced(there: Place, file: Path) -> None:
    got = await there.client.plans.load(file)
    keys = await there.keys(got.plan_id)
    with pytest.raises(Conflict) as caught:
        await there.client.plans.load(changed(file, lambda lines: lines[1].reverse()))
    assert caught.value.code == "plan_differs"
    assert await there.keys(got.plan_id) == keys


async def test_a_plan_that_can_not_be_exported_says_why_and_writes_nothing(here: Place, tmp_path: Path) -> None:
    source = await here.client.sources.items([{"key": "a"}])
    plan = await here.client.plans.create(source.source_id, stages=STAGES)
    with pytest.raises(InvalidInput) as caught:
        await here.client.plans.save(plan.plan_id, tmp_path / "none.gz")
    assert caught.value.code == "plan_not_exportable"
    with pytest.raises(NotFound):
        await here.client.plans.save("plan-none", tmp_path / "none.gz")
    with pytest.raises(InvalidInput, match="can't be written"):
        await here.client.plans.save(plan.plan_id, tmp_path / "no" / "none.gz")
    assert not named(tmp_path, "none")


async def test_a_copy_has_the_same_items_under_other_settings(here: Place, plan: planner_pb2.Plan) -> None:
    copy = await here.client.plans.copy(
        plan.plan_id, name="gently", changes=StageOptions(processor="", concurrency=1, parameters={"sleep_seconds": 5})
    )
    assert copy.plan_id != plan.plan_id
    assert copy.HasField("estimate")
    assert await here.keys(copy.plan_id) == await here.keys(plan.plan_id)
    compared = await here.client.plans.compare(plan.plan_id, copy.plan_id)
    assert list(compared.settings) == [
        "stage 0: parameters.sleep_seconds 5.0, was 0.0",
        "stage 0: concurrency 1, was 4",
    ]
    assert (copy.selection, copy.ordering, copy.name) == (plan.selection, plan.ordering, "gently")
    assert (await here.client.plans.copy(plan.plan_id)).plan_id == plan.plan_id, "unchanged it is the plan itself"
    fresh = await here.client.plans.create(
        "mice",
        stages=[StageOptions(processor="noop", concurrency=1, max_tries=2, parameters={"sleep_seconds": 5})],
        selection=Selection(filter="price > 2", exclude_keys=["m10"], limit=40, again=True),
        ordering=ORDERING,
    )
    assert fresh.plan_id == copy.plan_id, "the same inputs are the same plan, by whatever way"
    with pytest.raises(InvalidInput, match="concurrency is 99999"):
        await here.client.plans.copy(plan.plan_id, changes=StageOptions(processor="", concurrency=99_999))
    with pytest.raises(InvalidInput, match="no processor named"):
        await here.client.plans.copy(plan.plan_id, changes=StageOptions(processor="nobody"))


async def test_plans_of_plans_are_estimated_and_judged_like_others(
    here: Place, there: Place, plan: planner_pb2.Plan, file: Path
) -> None:
    copy = await here.client.plans.copy(plan.plan_id, changes=StageOptions(processor="", concurrency=1))
    for client, made in ((here.client, copy), (there.client, await there.client.plans.load(file))):
        assert [stage.items for stage in made.estimate.stages] == [made.item_count]
        assert (await client.plans.get(made.plan_id)).estimate == made.estimate
    for same in (await here.client.plans.copy(plan.plan_id), await here.client.plans.load(file)):
        assert (same.estimate, same.profiles) == (plan.estimate, plan.profiles), "nothing of the plan's own is lost"
    assert len(plan.profiles) == 3


async def test_plans_of_items_are_copied_and_those_of_documents_are_not(here: Place, tmp_path: Path) -> None:
    source = await here.client.sources.items([{"key": "a", "payload": {"limits": ["domain:a"]}}, {"key": "b"}])
    plan = await here.client.plans.create(source.source_id, stages=STAGES)
    copy = await here.client.plans.copy(plan.plan_id, changes=StageOptions(processor="", concurrency=2))
    assert await here.keys(copy.plan_id) == await here.keys(plan.plan_id)
    again = await here.client.plans.create(
        source.source_id,
        stages=[StageOptions(processor="noop", concurrency=2, max_tries=2, parameters={"sleep_seconds": 0})],
    )
    assert again.plan_id == copy.plan_id
    written(tmp_path / "a.txt", "Some words.")
    documents = await here.client.sources.documents([tmp_path / "a.txt"])
    with pytest.raises(InvalidInput) as caught:
        await here.client.plans.copy((await here.client.plans.create(documents.source_id)).plan_id)
    assert caught.value.code == "plan_not_copied"


async def test_every_plan_says_who_made_it(here: Place, tmp_path: Path) -> None:
    plans = here.client.plans
    items = (await here.client.sources.items([{"key": "by"}])).source_id
    written(tmp_path / "by.txt", "Some words.")
    documents = (await here.client.sources.documents([tmp_path / "by.txt"])).source_id
    written(tmp_path / "todo.txt", "- [ ] one\n- [ ] two\n")
    tasks = (await here.client.sources.tasks(tmp_path / "todo.txt", name="todo")).source_id
    for source, stages in ((items, STAGES), (documents, []), (tasks, STAGES)):
        made = await plans.create(source, stages=stages, actor="ann")
        assert made.actor == (await plans.get(made.plan_id)).actor == "ann"
        assert made.plan_id in [found.plan_id for found in await plans.list(actor="ann")]
        again = await plans.create(source, stages=stages, actor="bob", name="again")
        assert (again.plan_id, again.actor) == (made.plan_id, "ann"), "it was made already"
    profiled = await plans.create(items, stages=[StageOptions(processor="noop")], profile="fast", actor="ann")
    assert (profiled.profile, profiled.actor) == ("fast", "ann")
    copy = await plans.copy(profiled.plan_id, changes=StageOptions(processor="", max_run_seconds=77))
    assert (copy.actor, copy.profile, copy.needs_confirm, list(copy.warnings)) == ("ann", "fast", False, [])


async def test_plans_are_found_by_name_source_processor_and_who_made_them(here: Place, plan: planner_pb2.Plan) -> None:
    other = await here.client.plans.create(
        "mice", stages=STAGES, selection=Selection(filter="price < 2", again=True), name='a "bob"', actor="bob"
    )
    plans = here.client.plans

    async def found(**asked: str) -> set[str]:
        return {one.plan_id for one in await plans.list(**asked)}  # type: ignore[arg-type]

    both = {plan.plan_id, other.plan_id}
    assert await found(processor="noop") == await found(source="mice") == await found() == both
    assert await found(actor="bob") == await found(search="BOB") == {other.plan_id}
    assert await found(actor="ann", processor="noop") == {plan.plan_id}
    assert await found(processor="noo") == await found(actor="b%") == await found(actor='"') == set()
