"""Sources, rows and plans of tables as JSON objects: nothing that a message tells is lost, what is absent is null."""

from __future__ import annotations

from penstock.client import Ordering, Selection
from penstock.client.plan_views import plan_comparison_view, plan_view
from penstock.client.source_views import row_page_view, source_view
from penstock.client.views import item_view
from penstock.v1 import planner_pb2, scheduler_pb2, sources_pb2


def test_a_first_version_has_no_change_and_a_nameless_one_no_version() -> None:
    view = source_view(planner_pb2.Source(source_id="source-1", kind=planner_pb2.SOURCE_KIND_CATALOG))
    assert (view["name"], view["version"], view["change"], view["group"]) == (None, None, None, None)


def test_a_later_version_tells_what_changed() -> None:
    source = planner_pb2.Source(
        source_id="source-2",
        name="mice",
        version=2,
        latest_version=3,
        columns=[sources_pb2.SourceColumn(name="price", kind=sources_pb2.COLUMN_KIND_NUMBER)],
        notices=[sources_pb2.Notice(code="rows_skipped", message="1 row", line=7), sources_pb2.Notice(code="note")],
        change=sources_pb2.SourceChange(from_source_id="source-1", added_count=2, added=["a", "b"]),
    )
    view = source_view(source)
    assert view["columns"] == [{"name": "price", "kind": "number"}]
    assert [notice["line"] for notice in view["notices"]] == [7, None]
    assert view["change"] is not None
    assert (view["change"]["added_count"], view["change"]["added"]) == (2, ["a", "b"])


def test_a_row_without_a_result_says_so_and_one_without_confidence_too() -> None:
    page = sources_pb2.RowPage(
        total=2,
        rows=[
            sources_pb2.TableRow(key="a", values=b'{"n": 1}'),
            sources_pb2.TableRow(key="b", result=sources_pb2.RowResult(state="completed"), why="all"),
        ],
    )
    first, second = row_page_view(page)["rows"]
    assert (first["values"], first["result"], first["why"]) == ({"n": 1}, None, None)
    assert second["result"] is not None
    assert second["result"]["confidence"] is None
    assert second["why"] == "all"


def test_a_plan_tells_its_selection_whatever_it_is() -> None:
    for selection, told in (
        (Selection(), {"all": True}),
        (Selection(keys=["a"]), {"keys": ["a"]}),
        (Selection(reprocess="p", threshold=0.25), {"reprocess": {"processor": "p", "threshold": 0.25}}),
        (Selection(sql="SELECT key FROM items", limit=5), {"sql": "SELECT key FROM items", "limit": 5}),
    ):
        plan = planner_pb2.Plan(selection=selection.message(), ordering=Ordering(pinned=["x"]).message())
        view = plan_view(plan)
        assert view["selection"] == told
        assert view["ordering"] is not None
        assert view["ordering"]["pinned"] == ["x"]
    assert plan_view(planner_pb2.Plan())["selection"] is None


def test_an_item_that_was_listed_without_its_payload_has_none_rather_than_null() -> None:
    item = scheduler_pb2.RunItem(key="a", payload=b'{"n": 1}')
    assert item_view(item)["payload"] == {"n": 1}
    assert item_view(scheduler_pb2.RunItem(key="a", payload=b"null"))["payload"] is None
    assert "payload" not in item_view(scheduler_pb2.RunItem(key="a"), with_payload=False)


def test_a_view_has_every_field_of_its_message() -> None:
    """What a message gets anew must be shown, or left out on purpose."""
    left_out = {"snapshot"}
    source = {field.name for field in planner_pb2.Source.DESCRIPTOR.fields} - left_out
    assert source == set(source_view(planner_pb2.Source()))
    assert {field.name for field in planner_pb2.Plan.DESCRIPTOR.fields} == set(plan_view(planner_pb2.Plan()))
    comparison = planner_pb2.PlanComparison()
    assert {field.name for field in comparison.DESCRIPTOR.fields} == set(plan_comparison_view(comparison))
    page = sources_pb2.RowPage(rows=[sources_pb2.TableRow(result=sources_pb2.RowResult(processor="p"))])
    view = row_page_view(page)
    assert {field.name for field in page.DESCRIPTOR.fields} == set(view)
    assert {field.name for field in sources_pb2.TableRow.DESCRIPTOR.fields} == set(view["rows"][0])
    assert {field.name for field in sources_pb2.RowResult.DESCRIPTOR.fields} == set(view["rows"][0]["result"] or {})
