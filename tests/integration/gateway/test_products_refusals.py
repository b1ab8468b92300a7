"""The products contract against what is no request: 400 with a sentence, never 422, whatever comes; 404, 405, 409."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import MICE, catalog, problem_of
from tests.integration.gateway.test_products import BATCH, asked, planned


@pytest.fixture(scope="module", autouse=True)
def mice(buyer: httpx.Client) -> None:
    catalog(buyer, "mice", MICE)


JSON_TYPE = {"content-type": "application/json"}
VERBS = ("plan", "start", "pause", "resume", "stop")
JUNK: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"x", "the body is no JSON"),
    "nothing": (b"", "must be a JSON object"),
    "a list": (b"[1]", "must be a JSON object"),
    "null": (b"null", "must be a JSON object"),
    "two objects": (b"{}{}", "the body is no JSON"),
    "a name twice": (b'{"plan_id": "a", "plan_id": "b"}', "the name 'plan_id' stands twice in an object of the body"),
    "NaN": (b'{"plan_id": NaN}', "it has no number NaN"),
    "Infinity": (b'{"x": [-Infinity]}', "it has no number -Infinity"),
    "too many digits": (b'{"x": %b}' % (b"9" * 5_000), "a number of too many digits"),
    "too deep": (b'{"x": ' + b"[" * 200_000, "nested too deep"),
    "no UTF-8": (b'{"plan_id": "\xff"}', "the body is no UTF-8: byte 14 of it is wrong"),
    "UTF-16": ('{"plan_id": "a"}'.encode("utf-16"), "the body is no UTF-8: byte 1 of it is wrong"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_body_that_is_no_json_object_is_400_on_every_route(buyer: httpx.Client, verb: str) -> None:
    for what, (body, words) in JUNK.items():
        answer = buyer.post(f"{BATCH}/{verb}", content=body, headers=JSON_TYPE)
        assert words in problem_of(answer, 400, "invalid_input"), what
        assert set(answer.json()) == {"type", "title", "status", "detail", "code"}
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        answer = buyer.post(f"{BATCH}/{verb}", content=b"{}", headers={"content-type": content_type})
        assert "Content-Type: application/json" in problem_of(answer, 400, "invalid_input")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": "3"}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"concurrency": 10**30}, "concurrency"),
        ({"concurrency": 2**31}, "concurrency"),
        ({"max_run_seconds": None}, "max_run_seconds"),
        ({"validate_only": "yes"}, "validate_only"),
        ({"validate_only": 1}, "validate_only"),
        ({"selection": {"all": "true"}}, "selection.all"),
        ({"selection": []}, "selection"),
        ({"selection": {"filter": ["brand = Acer"]}}, "selection.filter"),
        ({"selection": {"all": True, "exclude": {"all": True}}}, "selection.exclude"),
        ({"pinned": [None]}, "pinned"),
        ({"source": ""}, "source"),
        ({"source": "x" * 201}, "source"),
        ({"name": "n" * 201}, "name"),
        ({"source": "\ud800"}, "source"),
        ({f"u{n}": n for n in range(2_000)}, "u9: Extra inputs are not permitted; and 1,990 more"),
        ({"u" * 100_000: 1}, f"{'u' * 80}: Extra"),
    ],
)
def test_what_has_another_type_is_told_by_its_name(buyer: httpx.Client, change: dict[str, object], words: str) -> None:
    body = json.dumps(asked(**change)).encode()
    detail = problem_of(buyer.post(f"{BATCH}/plan", content=body, headers=JSON_TYPE), 400, "invalid_input")
    assert words in detail
    assert len(detail) < 1_000


def test_what_confirms_a_cost_is_true_and_nothing_like_it(buyer: httpx.Client) -> None:
    catalog(buyer, "dear", [{"product_id": f"p-{n}"} for n in range(201)])
    plan_id = planned(buyer, source="dear", validate_only=True)["plan_id"]
    for like_true in ("true", "yes", 1, [True]):
        body = {"plan_id": plan_id, "confirm": like_true}
        assert "confirm" in problem_of(buyer.post(f"{BATCH}/start", json=body), 400, "invalid_input")
    problem_of(buyer.post(f"{BATCH}/start", json={"plan_id": plan_id, "confirm": False}), 409, "confirm_required")


def test_another_method_is_405_and_another_path_404(buyer: httpx.Client) -> None:
    for path, method, taken in (("plan", "GET", "POST"), ("latest", "POST", "GET"), ("1/status", "DELETE", "GET")):
        answer = buyer.request(method, f"{BATCH}/{path}")
        assert f"does not take {method}; it takes {taken}" in problem_of(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == taken
    for path in ("plans", "1/nothing", "a/b/c", "1%2F2/status"):
        problem_of(buyer.get(f"{BATCH}/{path}"), 404, "no_such_route")


def test_ids_and_questions_that_can_not_be(buyer: httpx.Client) -> None:
    for run_id in ("9" * 30, "-1", "1.0", "%ff", "latest", "run-none", "\u0661"):
        for what in ("status", "items"):
            problem_of(buyer.get(f"{BATCH}/{run_id}/{what}"), 404, "run_not_found")
    problem_of(buyer.get(f"{BATCH}/%00/status"), 400, "bad_text")
    problem_of(buyer.get(f"{BATCH}/plan/%00"), 400, "bad_text")
    problem_of(buyer.get(f"{BATCH}/{'x' * 201}/status"), 404, "not_found")
    for query in ({"page_size": 1_001}, {"page_size": -1}, {"page_size": "1e3"}, {"page_size": "9" * 5_000}):
        problem_of(buyer.get(f"{BATCH}/plan/none", params=query), 400, "invalid_input")
        problem_of(buyer.get(f"{BATCH}/none/items", params=query), 400, "invalid_input")
    problem_of(buyer.get(f"{BATCH}/latest", params={"state": "running"}), 400, "unknown_parameter")


def test_plans_are_saved_listed_and_loaded_again(buyer: httpx.Client) -> None:
    # Each is unlike all plans of other tests: the same inputs would be their plan, under its first name.
    made = [planned(buyer, name=f"saved {n}", concurrency=71 + n) for n in range(3)]
    draft = planned(buyer, name="saved not", concurrency=75, validate_only=True)
    pages, token = list[dict[str, Any]](), ""
    while True:
        page = buyer.get("/api/v1/plans", params={"search": "saved", "page_size": 2, "page_token": token}).json()
        pages += page["plans"]
        if page["next_page_token"] is None:
            break
        token = page["next_page_token"]
    assert [plan["plan_id"] for plan in pages] == [plan["plan_id"] for plan in reversed(made)]
    for plan in (*made, draft):
        assert buyer.get(f"{BATCH}/plan/{plan['plan_id']}").json() == plan
