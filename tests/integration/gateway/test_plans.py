"""Plans of tables over HTTP: what is selected and in what order, looked through, compared, named by two at once."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import MICE, catalog, problem_of
from tests.servers.stack import until

PLANS = "/api/v1/plans"


@pytest.fixture(scope="module", autouse=True)
def source(buyer: httpx.Client) -> dict[str, Any]:
    return catalog(buyer, "planned", MICE)


def asked(**other: object) -> dict[str, object]:
    return {"source_id": "planned", "stages": [{"processor": "noop"}], **other}


def made(buyer: httpx.Client, **other: object) -> dict[str, Any]:
    answer = buyer.post(PLANS, json=asked(**other))
    assert answer.status_code == 200, answer.text
    plan: dict[str, Any] = answer.json()
    return plan


def test_a_plan_says_all_that_it_was_made_from(buyer: httpx.Client, source: dict[str, Any]) -> None:
    selection = {"filter": "brand in (Razer, Acer)", "exclude_keys": ["razer-viper-mini"], "limit": 3}
    ordering = {"pinned": ["Razer"], "groups": ["Acer"], "sort": ["model desc"], "as_selected": False}
    body = asked(selection=selection, ordering=ordering, name="said")
    plan = buyer.post(PLANS, json=body, headers={"Penstock-Actor": "ann"}).json()
    assert plan == {
        **{name: plan[name] for name in ("plan_id", "create_time", "stages", "etag", "uid", "estimate", "profiles")},
        "source_id": source["source_id"],
        "kind": "catalog",
        "name": "said",
        "item_count": 3,
        "granularity": None,
        "draft": False,
        "source_name": "planned",
        "source_version": 1,
        "source_moved": False,
        "selection": selection,
        "ordering": ordering,
        "profile": None,
        "actor": "ann",
        "groups": [{"group": "Razer", "count": 2}, {"group": "Acer", "count": 1}],
        "more_groups": 0,
        "left_out": plan["left_out"],
        "warnings": [],
        "needs_confirm": False,
    }
    assert {one["code"]: one["keys"] for one in plan["left_out"]} == {
        "excluded_by_id": ["razer-viper-mini"],
        "past_the_limit": [],
    }
    assert buyer.get(f"{PLANS}/{plan['plan_id']}").json() == plan
    page = buyer.get(f"{PLANS}/{plan['plan_id']}/rows", params={"groups": True}).json()
    assert [(row["position"], row["key"]) for row in page["rows"]] == [
        (0, "razer-viper-8khz"),
        (1, "razer-deathadder-v3"),
        (2, "acer-cestus-350"),
    ]
    rule = "filter: brand in (Razer, Acer)"
    assert page["rows"][0]["why"] == f"{rule}; group pinned 1, then sort keys"
    assert page["rows"][2]["why"] == f"{rule}; group priority 1, then sort keys"
    assert page["rows"][0]["values"] == MICE[0]
    assert sorted(one["group"] for one in page["groups"]) == ["Acer", "Razer"]
    # What the grid of a plan says comes first is what its items are.
    items = buyer.get(f"{PLANS}/{plan['plan_id']}/items").json()["items"]
    assert [item["key"] for item in items] == [row["key"] for row in page["rows"]]
    part = buyer.get(f"{PLANS}/{plan['plan_id']}/rows", params={"filter": "brand = Acer"}).json()
    assert [(row["position"], row["key"]) for row in part["rows"]] == [(2, "acer-cestus-350")]


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (None, 10),
        ({}, 10),
        ({"all": True}, 10),
        ({"keys": ["acer-cestus-310", "acer-cestus-310"]}, 1),
        ({"missing": "noop"}, 10),
        ({"sql": "SELECT product_id FROM items WHERE model LIKE 'Viper%'"}, 2),
        ({"filter": "variant is null", "exclude_filter": "brand:logi"}, 5),
        ({"limit": 4, "again": True}, 4),
    ],
)
def test_every_way_of_choosing(buyer: httpx.Client, selection: dict[str, object] | None, count: int) -> None:
    assert made(buyer, selection=selection, validate_only=True)["item_count"] == count


def test_the_order_of_ids_can_be_kept(buyer: httpx.Client) -> None:
    keys = ["steelseries-rival-3", "acer-cestus-310", "logitech-g9"]
    plan = made(buyer, selection={"keys": keys}, ordering={"as_selected": True})
    page = buyer.get(f"{PLANS}/{plan['plan_id']}/rows").json()
    assert [row["key"] for row in page["rows"]] == keys
    assert plan["selection"] == {"keys": keys}


@pytest.mark.parametrize(
    ("change", "status", "code", "words"),
    [
        ({"selection": {"all": True, "filter": "a = 1"}}, 400, "bad_selection", "all and filter"),
        ({"selection": {"all": False}}, 400, "invalid_input", "selection.all"),
        ({"selection": {"ids": ["a"]}}, 400, "invalid_input", "selection.ids"),
        ({"selection": {"keys": []}}, 400, "selection_empty", "matches nothing"),
        ({"selection": {"keys": ["nope"]}}, 400, "unknown_ids", "nope"),
        ({"selection": {"limit": -1}}, 400, "invalid_input", "limit"),
        ({"selection": {"limit": True}}, 400, "invalid_input", "selection.limit"),
        ({"selection": {"limit": "3"}}, 400, "invalid_input", "selection.limit"),
        ({"selection": {"state": "open"}}, 400, "no_such_column", "state"),
        ({"selection": {"reprocess": {"processor": "noop"}}}, 400, "invalid_input", "threshold"),
        ({"selection": {"changed_since_plan": "none"}}, 404, "plan_not_found", "none"),
        ({"selection": {"sql": "DROP TABLE items"}}, 400, "sql_refused", "SELECT"),
        ({"ordering": {"sort": ["colour"]}}, 400, "bad_order", "colour"),
        ({"ordering": {"order": []}}, 400, "invalid_input", "ordering.order"),
        ({"ordering": {"as_selected": True}}, 400, "bad_order", "as selected"),
        ({"stages": []}, 400, "bad_stages", "one stage"),
        ({"granularity": "sentence"}, 400, "bad_granularity", "documents"),
        ({"source_id": "nope"}, 404, "source_not_found", "planned"),
    ],
)
def test_a_plan_that_can_not_be_is_refused(
    buyer: httpx.Client, change: dict[str, object], status: int, code: str, words: str
) -> None:
    assert words in problem_of(buyer.post(PLANS, json=asked(**change)), status, code)


def test_half_a_character_is_no_id(buyer: httpx.Client) -> None:
    body = b'{"source_id":"planned","stages":[{"processor":"noop"}],"selection":{"keys":["\\ud800"]}}'
    answer = buyer.post(PLANS, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text


def test_of_two_who_name_a_plan_the_second_is_told(buyer: httpx.Client) -> None:
    plan = made(buyer, selection={"filter": "brand = Logitech"}, name="first")
    path = f"{PLANS}/{plan['plan_id']}"
    etag = buyer.get(path).headers["etag"]
    assert etag == f'"{plan["etag"]}"'
    ann = buyer.patch(path, json={"name": "ann's"}, headers={"If-Match": etag})
    assert (ann.status_code, ann.json()["name"]) == (200, "ann's")
    assert ann.headers["etag"] == f'"{ann.json()["etag"]}"' != etag
    assert "ann's" in problem_of(
        buyer.patch(path, json={"name": "bo's"}, headers={"If-Match": etag}), 409, "etag_mismatch"
    )
    assert "ann's" in problem_of(buyer.patch(path, json={"name": "bo's", "etag": plan["etag"]}), 409, "etag_mismatch")
    assert buyer.get(path).json()["name"] == "ann's"
    assert buyer.patch(path, json={"name": "bo's", "etag": ann.json()["etag"]}).json()["name"] == "bo's"
    assert buyer.patch(path, json={"name": "cy's"}, headers={"If-Match": "*"}).json()["name"] == "cy's"
    problem_of(buyer.patch(path, json={"name": "x", "etag": "v1"}), 400, "bad_etag")
    problem_of(buyer.patch(path, json={"name": "x", "etag": "1"}, headers={"If-Match": '"2"'}), 400, "bad_etag")
    problem_of(buyer.patch(path, json={"stages": []}), 400, "invalid_input")
    problem_of(buyer.patch(f"{PLANS}/none", json={"name": "x"}), 404, "plan_not_found")
    assert buyer.patch(path, json={"name": "d"}).json()["plan_id"] == plan["plan_id"]


def test_plans_are_listed_and_drafts_are_not(buyer: httpx.Client) -> None:
    made(buyer, selection={"filter": "brand = Acer"}, name="shown one")
    made(buyer, selection={"filter": "brand = Razer"}, name="shown two")
    made(buyer, selection={"filter": "brand = Razer"}, ordering={"sort": ["model"]}, name="shown 3", validate_only=True)
    query = {"search": "Shown", "source": "planned"}
    page = buyer.get(PLANS, params={**query, "page_size": 1}).json()
    rest = buyer.get(PLANS, params={**query, "page_token": page["next_page_token"]}).json()
    assert [plan["name"] for plan in page["plans"] + rest["plans"]] == ["shown two", "shown one"]
    assert rest["next_page_token"] is None
    assert buyer.get(PLANS, params={**query, "source": "other"}).json()["plans"] == []
    problem_of(buyer.get(PLANS, params={"page_token": "x"}), 400, "bad_page_token")


def test_two_plans_are_compared(buyer: httpx.Client) -> None:
    one = made(buyer, selection={"keys": ["acer-cestus-310", "logitech-g9"]})
    other = made(
        buyer,
        selection={"keys": ["acer-cestus-310", "razer-viper-mini"]},
        stages=[{"processor": "noop", "concurrency": 2}],
    )
    answer = buyer.get(f"{PLANS}/{one['plan_id']}/diff/{other['plan_id']}")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert any("concurrency" in one for one in found.pop("settings"))
    assert found == {
        **dict.fromkeys(("added_count", "removed_count"), 1),
        **dict.fromkeys(("moved_count", "changed_count"), 0),
        "added": ["razer-viper-mini"],
        "removed": ["logitech-g9"],
        "moved": [],
        "changed": [],
    }
    problem_of(buyer.get(f"{PLANS}/{one['plan_id']}/diff/none"), 404, "plan_not_found")


def test_a_source_that_a_plan_needs_stays_and_a_plan_says_that_it_moved(buyer: httpx.Client) -> None:
    catalog(buyer, "moving", MICE)
    plan = made(buyer, source_id="moving")
    assert plan["plan_id"] in problem_of(buyer.delete("/api/v1/sources/moving"), 409, "source_needed")
    catalog(buyer, "moving", MICE[:5])
    moved = buyer.get(f"{PLANS}/{plan['plan_id']}").json()
    assert (moved["source_moved"], moved["source_version"], moved["item_count"]) == (True, 1, 10)


def test_the_schema_of_sources_and_plans_is_true(buyer: httpx.Client, source: dict[str, Any]) -> None:
    schema = buyer.get("/openapi.json").json()
    paths, shapes = schema["paths"], schema["components"]["schemas"]
    form = paths["/api/v1/sources"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) >= {"name", "kind", "key", "group", "skip_bad", "each_task", "files", "items"}
    for path, method, codes in (
        ("sources/add", "post", {"404", "409"}),
        ("sources/{source}", "delete", {"404", "409"}),
        ("plans", "post", {"404", "409", "413"}),
        ("plans/{plan_id}", "patch", {"404", "409"}),
    ):
        assert codes <= set(paths[f"/api/v1/{path}"][method]["responses"]), path
    plan = made(buyer, selection={"missing": "noop"})
    rows = buyer.get(f"{PLANS}/{plan['plan_id']}/rows").json()
    for shape, value in (
        ("SourceView", source),
        ("StatisticsView", buyer.get("/api/v1/sources/planned/statistics").json()),
        ("PlanView", plan),
        ("RowPageView", rows),
        ("RowView", rows["rows"][0]),
    ):
        assert set(shapes[shape]["properties"]) == set(value), shape


def test_estimates_are_listed_beside_what_became_of_their_runs(buyer: httpx.Client, source: dict[str, Any]) -> None:
    for _ in range(2):
        plan = made(buyer, selection={"again": True})
        run = buyer.post("/api/v1/runs", json={"plan_id": plan["plan_id"], "confirm": True}).json()
        path = f"/api/v1/runs/{run['run_id']}"
        until("it has ended", lambda at=path: buyer.get(at).json()["state"] == "completed", seconds=30)  # type: ignore[misc]
    told = plan["estimate"]
    assert set(told) == {"runtime_seconds", "cost_micros", "words", "stages", "notes"}
    (stage,) = told["stages"]
    assert stage["runtime_rest"]["basis"] == "measured"
    assert {group["group"] for group in stage["groups"]} == {"Razer", "Logitech", "Acer", "SteelSeries"}
    assert all(set(group["runtime_seconds"]) == {"p10", "p50", "p90"} for group in stage["groups"])
    assert [one["profile"] for one in plan["profiles"]] == ["fast", "standard", "thorough"]
    page = buyer.get("/api/v1/estimates", params={"plan": plan["plan_id"], "page_size": 1}).json()
    (one,) = page["estimates"]
    assert (one["run_id"], one["state"], one["cost_micros"]) == (run["run_id"], "completed", None)
    assert one["runtime_seconds"]["told"] == told["runtime_seconds"]
    assert one["runtime_seconds"]["within"] == (one["runtime_seconds"]["off"] == 1.0)
    assert page["runtime"]["words"].endswith("by the median")
    assert page["cost"]["words"] == "no estimate has been compared with a run yet"
    problem_of(buyer.get("/api/v1/estimates", params={"page_token": "x"}), 400, "bad_page_token")
    shapes = buyer.get("/openapi.json").json()["components"]["schemas"]
    assert set(shapes["EstimatePageView"]["properties"]) == set(page)
    assert set(shapes["RunEstimateView"]["properties"]) == set(one)


def test_a_plan_goes_out_as_a_file_and_comes_in_again(buyer: httpx.Client) -> None:
    plan = made(buyer, selection={"filter": "brand = Razer", "again": True}, name="a file")
    file = buyer.get(f"{PLANS}/{plan['plan_id']}/export")
    assert (file.status_code, file.headers["content-type"]) == (200, "application/gzip")
    assert plan["plan_id"] in file.headers["content-disposition"]
    got = buyer.post(f"{PLANS}/import", content=file.content)
    assert (got.status_code, got.json()["plan_id"]) == (200, plan["plan_id"])
    small = buyer.get(f"{PLANS}/{plan['plan_id']}/export", params={"without_source": True})
    assert len(small.content) < len(file.content)
    assert problem_of(buyer.post(f"{PLANS}/import", content=file.content[:-5]), 400, "bad_plan_file")
    assert problem_of(buyer.post(f"{PLANS}/import", content=b""), 400, "bad_plan_file")
    assert problem_of(buyer.get(f"{PLANS}/plan-none/export"), 404, "plan_not_found")


def test_a_copy_is_set_otherwise_and_the_difference_is_told_in_sentences(buyer: httpx.Client) -> None:
    plan = made(buyer, selection={"filter": "brand = Acer", "again": True})
    copy = buyer.post(f"{PLANS}/{plan['plan_id']}/copy", json={"concurrency": 3, "name": "gently"}).json()
    assert (copy["name"], copy["item_count"], copy["stages"][0]["concurrency"]) == ("gently", plan["item_count"], 3)
    compared = buyer.get(f"{PLANS}/{plan['plan_id']}/diff/{copy['plan_id']}").json()
    assert compared["settings"] == ["stage 0: concurrency 3, was 64"]
    assert problem_of(buyer.post(f"{PLANS}/{plan['plan_id']}/copy", json={"speed": 3}), 400, "invalid_input")


def test_rows_of_a_plan_take_results_and_refuse_a_processor_that_is_none(buyer: httpx.Client) -> None:
    plan = made(buyer, selection={"filter": "brand = Acer", "again": True})
    page = buyer.get(f"{PLANS}/{plan['plan_id']}/rows", params={"result_of": "collection", "groups": True}).json()
    assert page["results"]["states"] == [{"state": None, "count": page["total"]}]
    assert {"name": "result.state", "kind": "text"} in page["results"]["columns"]
    assert [row["result"] for row in page["rows"]] == [None] * page["total"]
    wrong = buyer.get(f"{PLANS}/{plan['plan_id']}/rows", params={"result_of": "nobody"})
    assert problem_of(wrong, 400, "no_such_processor")


def test_a_plan_is_removed_unless_somebody_named_it_meanwhile(buyer: httpx.Client) -> None:
    catalog(buyer, "passing", MICE)
    plan = buyer.post(PLANS, json={**asked(name="short"), "source_id": "passing"}).json()
    path = f"{PLANS}/{plan['plan_id']}"
    problem = problem_of(buyer.delete("/api/v1/sources/passing"), 409, "source_needed")
    assert f"'short' ({plan['plan_id']})" in problem
    assert f"penstock plans remove {plan['plan_id']}" in problem
    etag = buyer.get(path).headers["etag"]
    assert buyer.patch(path, json={"name": "mine"}).status_code == 200
    problem_of(buyer.delete(path, headers={"If-Match": etag}), 409, "etag_mismatch")
    problem_of(buyer.delete(path, params={"etag": "v1"}), 400, "bad_etag")
    gone = {"plan_id": plan["plan_id"], "name": "mine", "draft": False, "run_count": 0}
    looked = buyer.delete(path, params={"validate_only": True})
    assert (looked.status_code, looked.json()) == (200, gone)
    assert buyer.get(path).status_code == 200
    removed = buyer.delete(path, headers={"If-Match": buyer.get(path).headers["etag"]})
    assert (removed.status_code, removed.json()) == (200, gone)
    problem_of(buyer.delete(path), 404, "plan_not_found")
    preview = {**asked(validate_only=True), "source_id": "passing"}
    draft = buyer.post(PLANS, json=preview).json()
    source = buyer.delete("/api/v1/sources/passing")
    assert source.json() == {"name": "passing", "version_count": 1, "draft_count": 1}
    problem_of(buyer.get(f"{PLANS}/{draft['plan_id']}"), 404, "plan_not_found")


def test_a_plan_that_runs_stays_and_one_with_items_left_goes_by_force(buyer: httpx.Client) -> None:
    slow = {"processor": "noop", "parameters": {"sleep_seconds": 60}, "concurrency": 1}
    plan = made(buyer, selection={"filter": "brand = Acer", "again": True}, stages=[slow])
    run = buyer.post("/api/v1/runs", json={"plan_id": plan["plan_id"]}).json()
    path, at = f"{PLANS}/{plan['plan_id']}", f"/api/v1/runs/{run['run_id']}"
    listed = buyer.get("/api/v1/runs", params={"plan": plan["plan_id"]}).json()["runs"]
    assert [one["run_id"] for one in listed] == [run["run_id"]]
    needed = buyer.delete(path, params={"force": True})
    assert f"run {run['number']}" in problem_of(needed, 409, "plan_needed")
    assert needed.json()["about"]["runs"] == run["run_id"]
    assert buyer.post(f"{at}/stop", json={"force": True}).status_code == 200
    until("the run is stopped", lambda: buyer.get(at).json()["state"] == "stopped")
    assert "not completed" in problem_of(buyer.delete(path), 409, "plan_needed")
    removed = buyer.delete(path, params={"force": True})
    assert (removed.status_code, removed.json()["run_count"]) == (200, 1)
    assert buyer.get(at).json()["plan_removed"] is True
    assert buyer.get(f"{at}/items").status_code == 200
    last = run["counts"]["total"] - 1
    assert "never began" in problem_of(buyer.get(f"{at}/items/0/{last}"), 404, "item_not_found")
    assert "its items are 0 to" in problem_of(buyer.get(f"{at}/items/0/{last + 1}"), 404, "item_not_found")
    problem_of(buyer.post(f"{at}/clone", json={}), 409, "plan_removed")
    problem_of(buyer.post(f"{at}/resume", json={}), 409, "plan_removed")
