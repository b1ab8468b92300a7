"""Catalogs by name, and plans of them: what is selected, in what order, and what a preview says."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import AlreadyExists, Conflict, InvalidInput, NotFound, PenstockError
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import sources_pb2 as sp
from tests.integration.planner.planned import NOOP, Plans, rows


async def test_a_name_has_versions_and_the_same_content_is_none(plans: Plans) -> None:
    again = await plans.catalog(rows())
    assert (again.version, again.latest_version) == (1, 1)
    second = await plans.catalog(rows({"acer-1": 99}))
    assert (second.version, second.change.changed_count, list(second.change.changed)) == (2, 1, ["acer-1"])
    assert (second.change.added_count, second.change.removed_count) == (0, 0)
    listed = await plans.stub.ListSources(planner_pb2.ListSourcesRequest(search="MIC"))
    assert [(one.name, one.version) for one in listed.sources] == [("mice", 2)]
    versions = await plans.stub.ListSourceVersions(planner_pb2.ListSourceVersionsRequest(name="mice"))
    assert [one.version for one in versions.sources] == [2, 1]
    with pytest.raises(InvalidInput, match="no name of a source"), calling():
        await plans.catalog(rows(), name="a name")
    with pytest.raises(NotFound, match="there are: mice"), calling():
        await plans.stub.GetSource(planner_pb2.GetSourceRequest(source_id="rats"))


async def test_the_preview_is_the_plan_and_its_order_is_the_runs(plans: Plans) -> None:
    asked: dict[str, Any] = {
        "selection": sp.Selection(filter="price > 10", exclude_keys=["razer-3"]),
        "ordering": sp.Ordering(pinned=["Logitech"], groups=["Razer"], sort=["price desc"]),
    }
    preview = await plans.plan(**asked, validate_only=True)
    assert preview.draft
    assert preview.item_count == 7
    assert [(one.group, one.count) for one in preview.groups] == [("Logitech", 3), ("Razer", 3), ("Acer", 1)]
    assert [(one.reason, one.count, list(one.keys)) for one in preview.left_out] == [("excluded by id", 1, ["razer-3"])]
    keys = await plans.keys(preview)
    assert keys == ["logitech-4", "logitech-3", "logitech-2", "razer-5", "razer-4", "razer-2", "acer-2"]
    plan = await plans.plan(**asked, name="by hand")
    assert (plan.plan_id, plan.draft, plan.name) == (preview.plan_id, False, "by hand")
    page = await plans.stub.ReadPlanRows(
        planner_pb2.ReadPlanRowsRequest(plan_id=plan.plan_id, query=sp.RowQuery(skip=2, page_size=2))
    )
    assert [(row.position, row.key) for row in page.rows] == [(2, "logitech-2"), (3, "razer-5")]
    assert page.rows[0].why == "filter: price > 10; group pinned 1, then sort keys"
    assert orjson.loads(page.rows[1].values)["price"] == 50
    assert page.total == 7


async def test_what_was_done_is_left_out_and_counted_unless_it_is_asked_for_again(plans: Plans) -> None:
    await plans.run(await plans.plan(sp.Selection(filter='brand = "Razer"')), wrong={"razer-2"})
    plan = await plans.plan()
    assert plan.item_count == 11 - 4
    assert [(one.code, one.count) for one in plan.left_out] == [("done_already", 4)]
    assert (await plans.plan(sp.Selection(again=True))).item_count == 11
    with pytest.raises(InvalidInput, match=r"it includes 1 \(ids\), and all of that is left out: 1 done") as told:
        await plans.plan(sp.Selection(keys=sp.Selection.Keys(keys=["razer-1"])))
    assert told.value.code == "selection_empty"
    await plans.catalog(rows({"razer-1": 77}))
    assert (await plans.plan()).item_count == 8, "another payload is another item"
    other = [planner_pb2.StageSpec(processor="noop", parameters=b'{"sleep_seconds": 0.001}')]
    assert (await plans.plan(stages=other)).item_count == 11, "and so are other parameters"


async def test_selections_by_results(plans: Plans) -> None:
    run_id = await plans.run(await plans.plan(sp.Selection(filter='brand = "Razer"')), wrong={"razer-2", "razer-4"})
    missing = await plans.plan(sp.Selection(missing="noop"))
    assert missing.item_count == 8
    failed_ones = await plans.plan(sp.Selection(failed_of_run=run_id))
    assert await plans.keys(failed_ones) == ["razer-2", "razer-4"]
    number = str((await plans.world.get(run_id)).number)
    by_number = await plans.plan(sp.Selection(failed_of_run=number))
    assert (by_number.plan_id, by_number.selection.failed_of_run) == (failed_ones.plan_id, run_id)
    with pytest.raises(InvalidInput, match="failed in run '77', or there is no such run"):
        await plans.plan(sp.Selection(failed_of_run="77"))
    done = await plans.run(await plans.plan(sp.Selection(keys=sp.Selection.Keys(keys=["acer-1"]))))
    number = str((await plans.world.get(done)).number)
    with pytest.raises(InvalidInput, match=f"failed in run '{number}', or"):  # as it was named
        await plans.plan(sp.Selection(failed_of_run=number))
    low = sp.Selection(reprocess=sp.Selection.Reprocess(processor="noop", threshold=0.95))
    assert await plans.keys(await plans.plan(low)) == ["acer-1", "razer-1", "razer-3", "razer-5"]
    with pytest.raises(InvalidInput, match="matches nothing"):
        await plans.plan(sp.Selection(reprocess=sp.Selection.Reprocess(processor="noop", threshold=0.5)))
    await plans.run(failed_ones)
    assert (await plans.plan(sp.Selection(missing="noop"))).item_count == 5
    assert (await plans.plan(sp.Selection(missing="noop"))).plan_id != missing.plan_id


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
async def test_a_threshold_that_is_no_number_is_refused(plans: Plans, threshold: float) -> None:
    await plans.run(await plans.plan())
    with pytest.raises(InvalidInput, match=f"this is {threshold}") as caught:
        await plans.plan(sp.Selection(reprocess=sp.Selection.Reprocess(processor="noop", threshold=threshold)))
    assert caught.value.code == "bad_selection"


async def test_what_changed_since_a_plan(plans: Plans) -> None:
    plan = await plans.plan()
    await plans.catalog(rows({"acer-1": 99}) + b'{"product_id": "dell-1", "brand": "Dell", "model": "D", "price": 1}\n')
    changed = await plans.plan(sp.Selection(changed_since_plan=plan.plan_id))
    assert await plans.keys(changed) == ["acer-1", "dell-1"]
    moved = await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id))
    assert moved.source_moved
    assert moved.item_count == 11, "and the plan still is what it promised"
    compared = await plans.stub.ComparePlans(
        planner_pb2.ComparePlansRequest(plan_id=plan.plan_id, other_plan_id=changed.plan_id)
    )
    assert (compared.added_count, compared.removed_count, compared.changed_count) == (1, 10, 1)
    assert "source: mice version 2, was mice version 1" in compared.settings


async def test_custom_sql_joins_items_and_results(plans: Plans) -> None:
    await plans.run(await plans.plan(sp.Selection(filter='brand = "Acer"')))
    sql = (
        "SELECT product_id FROM mice LEFT JOIN results ON results.key = product_id "
        "WHERE results.state IS NULL ORDER BY price DESC, product_id LIMIT 3"
    )
    plan = await plans.plan(sp.Selection(sql=sql), ordering=sp.Ordering(as_selected=True))
    assert await plans.keys(plan) == ["razer-5", "logitech-4", "razer-4"]
    by_sort = await plans.plan(sp.Selection(sql=sql))
    assert sorted(await plans.keys(by_sort)) == sorted(await plans.keys(plan))
    assert await plans.keys(by_sort) != await plans.keys(plan), "its ORDER BY counts only where it is asked for"
    for wrong, code, words in (
        ("SELECT 'rat' AS key", "unknown_ids", "the SELECT's keys: the source has no 'rat'"),
        ("SELECT product_id FROM mice WHERE false", "selection_empty", "the SELECT returned no key"),
        ("SELECT 1; SELECT 2", "sql_refused", ""),
        ("SELECT product_id FROM read_csv('/etc/passwd')", "sql_refused", ""),
    ):
        with pytest.raises(PenstockError, match=words or None) as told:
            await plans.plan(sp.Selection(sql=wrong))
        assert told.value.code == code, told.value.message


async def test_a_large_plan_asks_before_it_starts(plans: Plans) -> None:
    many = b"".join(b'{"id": "k%d"}\n' % number for number in range(201))
    await plans.catalog(many, name="many")
    plan = await plans.plan(source_id="many", validate_only=True)
    assert plan.needs_confirm
    assert [one.code for one in plan.warnings] == ["many_items"]
    with pytest.raises(Conflict, match="201 items are more than 200") as told, calling():
        await plans.world.runs.StartRun(pb.StartRunRequest(plan_id=plan.plan_id, actor="ann"))
    assert told.value.code == "confirm_required"
    assert (await plans.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=plan.plan_id))).draft, "nothing was kept"
    with calling():
        await plans.world.runs.StartRun(pb.StartRunRequest(plan_id=plan.plan_id, actor="ann", confirm=True))


async def test_two_who_name_a_plan_do_not_overwrite_each_other(plans: Plans) -> None:
    plan = await plans.plan(name="one")
    renamed = await plans.stub.UpdatePlan(
        planner_pb2.UpdatePlanRequest(plan_id=plan.plan_id, name="two", etag=plan.etag)
    )
    with pytest.raises(Conflict, match="is called 'two' meanwhile") as told, calling():
        await plans.stub.UpdatePlan(planner_pb2.UpdatePlanRequest(plan_id=plan.plan_id, name="x", etag=plan.etag))
    assert told.value.code == "etag_mismatch"
    listed = await plans.stub.ListPlans(planner_pb2.ListPlansRequest(search="TWO", source="mice"))
    assert [(one.name, one.etag) for one in listed.plans] == [("two", renamed.etag)]


async def test_a_source_goes_when_no_plan_needs_it(plans: Plans) -> None:
    preview = await plans.plan(validate_only=True)
    plan = await plans.plan(sp.Selection(limit=2))
    with pytest.raises(Conflict, match=plan.plan_id) as told, calling():
        await plans.stub.DeleteSource(planner_pb2.DeleteSourceRequest(name="mice", actor="ann"))
    assert told.value.code == "source_needed"
    assert preview.plan_id not in told.value.message
    await plans.catalog(rows(), name="free")
    gone = await plans.stub.DeleteSource(planner_pb2.DeleteSourceRequest(name="free", actor="ann"))
    assert gone.version_count == 1
    with pytest.raises(grpc.aio.AioRpcError):
        await plans.stub.GetSource(planner_pb2.GetSourceRequest(source_id="free"))


async def test_all_that_is_wrong_with_a_plan_is_told_at_once(plans: Plans) -> None:
    with pytest.raises(InvalidInput) as told:
        await plans.plan(
            sp.Selection(filter="prise > 1", repo="x", limit=-1),
            ordering=sp.Ordering(sort=["colour"], pinned=["A", "A"]),
        )
    for words in ("no such field", "price", "repo needs a column", "limit is -1", "no column 'colour'", "stand twice"):
        assert words in told.value.message, words


async def test_what_is_no_table_is_taken_whole(plans: Plans) -> None:
    items = planner_pb2.CreateSourceRequest

    async def sent() -> AsyncIterator[planner_pb2.CreateSourceRequest]:
        yield items(header=items.Header(kind=planner_pb2.SOURCE_KIND_ITEMS))
        yield items(file=items.File(name="i"))
        yield items(chunk=b'{"key": "a"}\n')

    source = await plans.stub.CreateSource(sent())
    with pytest.raises(InvalidInput, match="is taken whole"):
        await plans.plan(sp.Selection(filter="key = a"), source_id=source.source_id)


async def test_an_origin_is_read_only_where_settings_allow_it(plans: Plans, tmp_path: Path) -> None:
    def asked(path: Path | str) -> planner_pb2.AddSourceRequest:
        return planner_pb2.AddSourceRequest(
            name="served", kind=planner_pb2.SOURCE_KIND_CATALOG, origin=sp.Origin(server_path=str(path)), actor="ann"
        )

    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(rows())
    (tmp_path / "secret.jsonl").write_bytes(rows())
    (folder / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    for wrong in (tmp_path / "secret.jsonl", folder / ".." / "secret.jsonl", folder / "link.jsonl", "/etc/passwd"):
        with pytest.raises(InvalidInput, match="not in a folder that may be read"), calling():
            await plans.stub.AddSource(asked(wrong))
    with calling():
        first = await plans.stub.AddSource(asked(folder / "a.jsonl"))
        assert (first.version, first.item_count) == (1, 11)
        again = await plans.stub.AddSource(asked(folder / "a.jsonl"))
        assert (again.name, again.version, again.source_id) == (first.name, 1, first.source_id)
    with pytest.raises(AlreadyExists), calling():
        await plans.stub.AddSource(asked(folder))
    (folder / "a.jsonl").write_bytes(rows({"acer-1": 3}))
    with calling():
        second = await plans.stub.RefreshSource(planner_pb2.RefreshSourceRequest(name="served", actor="bob"))
        same = await plans.stub.RefreshSource(planner_pb2.RefreshSourceRequest(name="served", actor="bob"))
    assert (second.version, list(second.change.changed), same.version) == (2, ["acer-1"], 2)
    with pytest.raises(InvalidInput, match="was uploaded"), calling():
        await plans.stub.RefreshSource(planner_pb2.RefreshSourceRequest(name="mice", actor="bob"))


async def test_a_task_file_is_a_source_in_its_own_order(plans: Plans) -> None:
    text = b"# P\n\n## Build\n\n- [ ] T002 second [depends: T001]\n- [ ] T001 first\n- [x] T000 done\n"
    parts = planner_pb2.CreateSourceRequest

    async def sent() -> AsyncIterator[planner_pb2.CreateSourceRequest]:
        options = sp.TaskOptions(each_task=True)
        yield parts(header=parts.Header(kind=planner_pb2.SOURCE_KIND_TASKS, name="todo", tasks=options))
        yield parts(file=parts.File(name="tasks.md"))
        yield parts(chunk=text)

    with calling():
        source = await plans.stub.CreateSource(sent())
        assert (source.name, source.item_count) == ("todo", 2)
        plan = await plans.stub.CreatePlan(planner_pb2.CreatePlanRequest(source_id="todo", stages=NOOP))
        fast = await plans.stub.CreatePlan(
            planner_pb2.CreatePlanRequest(source_id="todo", stages=NOOP, profile="fast", validate_only=True)
        )
        wide = await plans.stub.CreatePlan(
            planner_pb2.CreatePlanRequest(
                source_id="todo", stages=[planner_pb2.StageSpec(processor="noop", concurrency=3)]
            )
        )
    assert await plans.keys(plan) == ["T001", "T002"]
    assert [one.stages[0].concurrency for one in (plan, fast, wide)] == [1, 1, 3], "T002 needs T001, so one at a time"
