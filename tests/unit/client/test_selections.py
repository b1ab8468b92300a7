"""What a selection and an order become on the wire, and which ones are refused before anything is sent."""

from __future__ import annotations

import pytest

from penstock.client import Ordering, Selection
from penstock.client.selections import row_query
from penstock.client.sources import SOURCE_KINDS, source_kind_of
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2, sources_pb2


def test_a_selection_that_names_no_way_takes_all_rows() -> None:
    message = Selection(org="acme", limit=3).message()
    assert message.WhichOneof("include") == "all"
    assert (message.org, message.limit) == ("acme", 3)


@pytest.mark.parametrize(
    ("selection", "which"),
    [
        (Selection(filter="a = 1"), "filter"),
        (Selection(filter=""), "filter"),  # refused by the planner, which says why; never taken for all rows
        (Selection(keys=["a", "b"]), "keys"),
        (Selection(keys=[]), "keys"),
        (Selection(missing="p"), "missing"),
        (Selection(reprocess="p", threshold=0.0), "reprocess"),
        (Selection(failed_of_run="run-1"), "failed_of_run"),
        (Selection(changed_since_plan="plan-1"), "changed_since_plan"),
        (Selection(sql="SELECT 1"), "sql"),
    ],
)
def test_each_way_to_include_is_its_own(selection: Selection, which: str) -> None:
    assert selection.message().WhichOneof("include") == which


@pytest.mark.parametrize("way", ["missing", "failed_of_run", "changed_since_plan", "sql"])
def test_what_names_nothing_does_not_select_all(way: str) -> None:
    with pytest.raises(InvalidInput, match=f"{way} is empty"):
        Selection(**{way: ""}).message()  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=f"{way} is null"):
        Selection.of({way: None})


def test_all_that_is_wrong_with_a_selection_is_told_at_once() -> None:
    with pytest.raises(InvalidInput) as told:
        Selection(filter="a = 1", missing="p", threshold=0.5).message()
    assert told.value.code == "bad_selection"
    assert "filter and missing" in told.value.message
    assert "threshold belongs to reprocess" in told.value.message
    with pytest.raises(InvalidInput, match="needs a threshold"):
        Selection(reprocess="p").message()


def test_a_single_text_is_no_list_of_letters() -> None:
    with pytest.raises(InvalidInput, match="keys is a list of texts"):
        Selection(keys="abc").message()
    with pytest.raises(InvalidInput, match="pinned is a list of texts"):
        Ordering(pinned="Razer").message()


def test_a_value_that_no_field_holds_is_named() -> None:
    with pytest.raises(InvalidInput, match="limit can't be"):
        Selection(limit=2**70).message()
    with pytest.raises(InvalidInput, match="page_size can't be"):
        row_query(page_size=2**40)


def test_an_ordering_is_carried_as_it_is() -> None:
    given = Ordering(pinned=["B"], groups=["A", "C"], sort=["price desc", "name"])
    assert given.message() == sources_pb2.Ordering(pinned=["B"], groups=["A", "C"], sort=["price desc", "name"])


def test_kinds_are_words() -> None:
    assert set(SOURCE_KINDS) == {"documents", "items", "catalog", "table", "tasks"}
    assert source_kind_of("table") == planner_pb2.SOURCE_KIND_TABLE
    with pytest.raises(InvalidInput, match="catalog"):
        source_kind_of("spreadsheet")
