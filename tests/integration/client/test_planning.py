"""Sources and plans by the client, against the planner itself: versions, refreshes, orders, and what is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import planner.__main__
from penstock import Client
from penstock.client import AsyncClient, Endpoints, Ordering, Selection, StageOptions
from penstock.runtime.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from penstock.runtime.settings import Settings
from tests.integration.client.services import Services, away
from tests.servers.inprocess import serve

MICE: list[dict[str, object]] = [
    {"id": f"m{number}", "brand": brand, "model": f"Model {number}", "price": price}
    for number, (brand, price) in enumerate(
        [("Acer", 20), ("Razer", 90), ("Acer", 35), ("Razer", 50), ("Zowie", 60), ("Razer", 70)], 1
    )
]
NOOP = [StageOptions(processor="noop")]
AGAIN = Selection(again=True)
"""All rows; what was done already is known by the scheduler, which is not here."""


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def settings_in(folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "blobs": folder / "blobs",
            "planner": {
                "database_url": f"sqlite:///{folder / 'planner.db'}",
                "source_folders": [folder / "allowed"],
                "confirm_above_items": 4,
            },
        }
    )


def told_of(planner_address: str) -> Endpoints:
    return Endpoints(planner=planner_address, scheduler="127.0.0.1:9", analyzer="127.0.0.1:9")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a planner keeps that has the source `mice`: each reading of a table costs a process of its own."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "allowed").mkdir()
    (folder / "mice.jsonl").write_text(lines(MICE))

    async def upload() -> None:
        served = await serve(planner.__main__.build, settings_in(folder))
        async with AsyncClient(endpoints=told_of(served.address), retry_seconds=2.0) as client:
            await client.sources.catalog([folder / "mice.jsonl"], name="mice")
        await served.stop()

    asyncio.run(upload())
    return folder


@pytest.fixture
async def endpoints(prepared: Path, tmp_path: Path) -> AsyncIterator[Endpoints]:
    """A planner of its own, with the source `mice`."""
    folder = tmp_path / "planner"
    shutil.copytree(prepared, folder)
    served = await serve(planner.__main__.build, settings_in(folder))
    yield told_of(served.address)
    await served.stop()


@pytest.fixture
async def real(endpoints: Endpoints) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(endpoints=endpoints, actor="ann", retry_seconds=2.0) as client:
        yield client


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text(lines(rows))
    return path


@pytest.fixture
def mice(tmp_path: Path) -> Path:
    return written(tmp_path / "mice.jsonl", MICE)


async def test_an_upload_under_a_name_is_its_next_version_and_the_same_content_the_same(
    real: AsyncClient, mice: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    first = await real.sources.catalog([mice], name="mice", on_bytes=lambda sent, of: told.append((sent, of)))
    assert (first.version, first.item_count, list(first.key), first.group) == (1, 6, ["id"], "brand")
    size = len(lines(MICE))
    assert told[-1] == (size, size)
    changed = written(tmp_path / "new.jsonl", [*MICE[1:5], {**MICE[5], "price": 71}, {"id": "m7", "brand": "Acer"}])
    second = await real.sources.catalog([changed], name="mice")
    change = second.change
    assert (second.version, change.added_count, change.changed_count, change.removed_count) == (2, 1, 1, 1)
    assert (list(change.added), list(change.changed), list(change.removed)) == (["m7"], ["m6"], ["m1"])
    assert [one.version for one in await real.sources.versions("mice")] == [2, 1]
    assert [one.name for one in await real.sources.list(search="MIC", kind="catalog")] == ["mice"]
    assert await real.sources.list(kind="tasks") == []


async def test_rows_are_filtered_searched_sorted_and_counted(real: AsyncClient) -> None:
    page = await real.sources.rows("mice", filter="price >= 50", order_by="price desc", page_size=2, with_groups=True)
    assert [row.key for row in page.rows] == ["m2", "m6"]
    assert page.total == 4
    assert {one.group: one.count for one in page.groups} == {"Razer": 3, "Zowie": 1}
    found = await real.sources.rows("mice", search="model 5")
    assert [json.loads(row.values)["price"] for row in found.rows] == [60]
    described = await real.sources.describe("mice")
    statistics = {told.column.name: told for told in described.columns}
    assert (statistics["price"].least, statistics["price"].most) == ("20", "90")


async def test_a_plan_runs_in_the_order_that_its_preview_lists(real: AsyncClient) -> None:
    ordering = Ordering(pinned=["Zowie"], groups=["Razer"], sort=["price desc"])
    selection = Selection(exclude_keys=["m1"], again=True)
    draft = await real.plans.create("mice", stages=NOOP, selection=selection, ordering=ordering, validate_only=True)
    page = await real.plans.rows(draft.plan_id)
    assert [row.key for row in page.rows] == ["m5", "m2", "m6", "m4", "m3"]
    assert [item.key async for item in real.plans.items(draft.plan_id)] == [row.key for row in page.rows]
    assert "pinned" in page.rows[0].why
    assert [(one.code, one.count, list(one.keys)) for one in draft.left_out] == [("excluded_by_id", 1, ["m1"])]
    assert (draft.draft, draft.needs_confirm, draft.actor) == (True, True, "ann")
    assert await real.plans.list() == []
    kept = await real.plans.create("mice", stages=NOOP, selection=selection, ordering=ordering, name="kept")
    assert kept.plan_id == draft.plan_id
    assert [plan.name for plan in await real.plans.list(source="mice")] == ["kept"]
    assert await real.plans.list(search="nothing") == []


async def test_two_who_rename_a_plan_do_not_overwrite_each_other(real: AsyncClient) -> None:
    plan = await real.plans.create("mice", stages=NOOP, selection=AGAIN, name="one")
    renamed = await real.plans.rename(plan.plan_id, "two", etag=plan.etag)
    assert renamed.name == "two"
    with pytest.raises(Conflict, match="'two' meanwhile"):
        await real.plans.rename(plan.plan_id, "three", etag=plan.etag)
    assert (await real.plans.get(plan.plan_id)).name == "two"


async def test_plans_are_compared(real: AsyncClient) -> None:
    one = await real.plans.create("mice", stages=NOOP, selection=Selection(filter="brand = Razer", again=True))
    two = await real.plans.create(
        "mice",
        stages=[StageOptions(processor="noop", concurrency=3)],
        selection=Selection(filter="brand in (Razer, Zowie)", again=True),
        ordering=Ordering(sort=["price"]),
    )
    told = await real.plans.compare(one.plan_id, two.plan_id)
    assert (told.added_count, list(told.added), told.removed_count) == (1, ["m5"], 0)
    assert told.moved_count == 3
    assert any("concurrency" in sentence for sentence in told.settings)


async def test_a_source_that_a_plan_needs_stays(real: AsyncClient, mice: Path) -> None:
    plan = await real.plans.create("mice", stages=NOOP, selection=AGAIN)
    with pytest.raises(Conflict, match=plan.plan_id):
        await real.sources.remove("mice")
    await real.sources.catalog([mice], name="other")
    assert (await real.sources.remove("other")).version_count == 1
    with pytest.raises(NotFound, match="mice"):
        await real.sources.get("other")


async def test_what_the_planner_reads_itself_is_refreshed(real: AsyncClient, tmp_path: Path) -> None:
    place = tmp_path / "planner" / "allowed" / "mice.csv"
    place.write_text("id,brand\n1,Acer\n2,Razer\n")
    added = await real.sources.add("rodents", server_path=str(place), key=["id"], group="-")
    assert (added.version, added.item_count, added.group) == (1, 2, "")
    assert (await real.sources.refresh("rodents")).version == 1
    place.write_text("id,brand\n1,Acer\n3,Razer\n")
    again = await real.sources.refresh("rodents")
    assert (again.version, list(again.change.added), list(again.change.removed)) == (2, ["3"], ["2"])
    with pytest.raises(AlreadyExists, match="refresh it"):
        await real.sources.add("rodents", server_path=str(place))
    with pytest.raises(InvalidInput, match="folder that may be read"):
        await real.sources.add("secrets", server_path="/etc/passwd")
    with pytest.raises(NotFound, match="names none"):
        await real.sources.add("orders", database="shop", table="orders")


async def test_a_table_of_a_database_file_and_a_query_of_it(real: AsyncClient, tmp_path: Path) -> None:
    place = tmp_path / "shop.sqlite"
    with sqlite3.connect(place) as database:
        database.execute("CREATE TABLE orders (id INTEGER, brand TEXT)")
        database.executemany("INSERT INTO orders VALUES (?, ?)", [(1, "Acer"), (2, "Razer"), (3, "Razer")])
    database.close()
    whole = await real.sources.table(place, table="orders", name="orders")
    assert whole.item_count == 3
    some = await real.sources.table(place, query="SELECT * FROM orders WHERE brand = 'Razer'")
    assert (some.item_count, some.name) == (2, "")
    with pytest.raises(InvalidInput, match="one table or one query"):
        await real.sources.table(place)


async def test_a_task_file_is_a_source(real: AsyncClient, tmp_path: Path) -> None:
    place = tmp_path / "tasks.md"
    place.write_text("## One\n- [ ] T001 a\n- [ ] T002 b\n\n## Two\n- [ ] T003 c\n")
    assert (await real.sources.tasks(place, name="todo")).item_count == 2
    assert (await real.sources.tasks(place, name="each", each_task=True)).item_count == 3


async def test_what_is_wrong_with_a_selection_has_its_place(real: AsyncClient) -> None:
    with pytest.raises(InvalidInput) as told:
        await real.plans.create("mice", stages=NOOP, selection=Selection(filter="brand = Razer AND", again=True))
    assert told.value.metadata["line"] == "brand = Razer AND"
    assert "^" in told.value.metadata["caret"]
    with pytest.raises(InvalidInput, match="'m99'"):
        await real.plans.create("mice", stages=NOOP, selection=Selection(keys=["m1", "m99"], again=True))
    with pytest.raises(InvalidInput) as empty:
        await real.plans.create("mice", stages=NOOP, selection=Selection(filter="price > 1000", again=True))
    assert empty.value.code == "selection_empty"


async def test_the_plain_client_does_the_same(endpoints: Endpoints) -> None:
    def plainly() -> None:
        with Client(endpoints=endpoints, retry_seconds=2.0) as client:
            assert client.sources.get("mice").name == client.sources.list()[0].name == "mice"
            assert client.sources.versions("mice")[0].version == 1
            assert len(client.sources.describe("mice").columns) == 4
            assert client.sources.rows("mice", page_size=1).total == 6
            plan = client.plans.create("mice", stages=NOOP, selection=AGAIN, name="all")
            assert [row.key for row in client.plans.rows(plan.plan_id, page_size=2).rows] == ["m1", "m3"]
            assert len(list(client.plans.items(plan.plan_id))) == 6
            assert client.plans.rename(plan.plan_id, "every", etag=plan.etag).name == "every"
            assert client.plans.list()[0].name == client.plans.get(plan.plan_id).name == "every"
            assert not client.plans.compare(plan.plan_id, plan.plan_id).settings
            with pytest.raises(Conflict):
                client.sources.remove("mice")
            few = Selection(filter="brand = Razer", again=True)
            draft = client.plans.create("mice", stages=NOOP, selection=few, validate_only=True)
            assert client.plans.remove(draft.plan_id, etag=draft.etag).plan.draft
            with pytest.raises(NotFound):
                client.plans.get(draft.plan_id)

    await asyncio.to_thread(plainly)


async def test_an_upload_that_breaks_off_is_sent_again_under_the_same_id(
    services: Services, client: AsyncClient, mice: Path
) -> None:
    services.state.fail["CreateSource"] = [away()]
    await client.sources.catalog([mice], name="mice", key=["id"], skip_bad=True)
    first, second = services.state.named("CreateSource")
    assert first.request_id == second.request_id != ""
    assert (second.name, list(second.table.key), second.table.skip_bad, second.actor) == ("mice", ["id"], True, "sdk")
    assert services.state.uploads[-1].texts() == {"mice.jsonl": lines(MICE).encode()}


async def test_what_can_not_be_told_apart_from_its_own_success_is_sent_once(
    services: Services, client: AsyncClient
) -> None:
    for method, call in (
        ("DeleteSource", lambda: client.sources.remove("mice")),
        ("UpdatePlan", lambda: client.plans.rename("plan-1", "x", etag="0")),
        ("DeletePlan", lambda: client.plans.remove("plan-1", etag="0")),
    ):
        services.state.fail[method] = [away()]
        with pytest.raises(Exception, match="away"):
            await call()
        assert len(services.state.named(method)) == 1


async def test_a_removal_carries_all_that_is_asked(services: Services, client: AsyncClient) -> None:
    gone = await client.plans.remove("plan-1", etag="4", force=True, validate_only=True)
    (asked,) = services.state.named("DeletePlan")
    assert (asked.plan_id, asked.etag, asked.force, asked.validate_only, asked.actor) == (
        "plan-1",
        "4",
        True,
        True,
        "sdk",
    )
    assert gone.run_count == 2


async def test_a_start_carries_its_confirmation(services: Services, client: AsyncClient) -> None:
    await client.runs.start("plan-1", confirm=True)
    await client.runs.start("plan-1")
    assert [request.confirm for request in services.state.named("StartRun")] == [True, False]


async def test_a_profile_and_a_sample_by_the_client(real: AsyncClient) -> None:
    assert [one.name for one in await real.plans.profiles()] == ["fast", "standard", "thorough"]
    plan = await real.plans.create("mice", stages=NOOP, selection=AGAIN, profile="fast", validate_only=True)
    assert (plan.profile, plan.stages[0].max_tries) == ("fast", 2)
    sample = await real.plans.sample(plan.plan_id, 3, request_id="once")
    assert (sample.item_count, sample.draft) == (3, True)
    assert (await real.plans.sample(plan.plan_id, 3, request_id="once")).plan_id == sample.plan_id
    with pytest.raises(AlreadyExists):
        await real.plans.sample(plan.plan_id, 2, request_id="once")
    with pytest.raises(InvalidInput) as refused:
        await real.plans.create("mice", stages=NOOP, selection=AGAIN, profile="nope")
    assert refused.value.code == "unknown_profile"
