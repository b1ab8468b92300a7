"""Profiles and samples over HTTP: the same as by the client, and the contract's field `profile`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import MICE, catalog, problem_of

NOOP = [{"processor": "noop"}]


@pytest.fixture(scope="module")
def tried(buyer: httpx.Client) -> str:
    catalog(buyer, "tried", MICE)
    return "tried"


def plan(http: httpx.Client, source: str, **fields: Any) -> httpx.Response:
    return http.post("/api/v1/plans", json={"source_id": source, "stages": NOOP, "validate_only": True, **fields})


def test_profiles_are_listed(buyer: httpx.Client) -> None:
    profiles = buyer.get("/api/v1/profiles").json()["profiles"]
    assert profiles[0] == {
        "name": "fast",
        "concurrency": 256,
        "max_tries": 2,
        "max_run_seconds": None,
        "worker_class": None,
        "parameters": {},
    }
    assert [one["name"] for one in profiles] == ["fast", "standard", "thorough"]


def test_a_profile_stands_in_a_plan_and_in_the_contracts_settings(buyer: httpx.Client, tried: str) -> None:
    made = plan(buyer, tried, profile="thorough").json()
    assert (made["profile"], made["stages"][0]["concurrency"]) == ("thorough", 16)
    body = {"source": tried, "selection": {"all": True}, "processor": "noop", "validate_only": True}
    settings = buyer.post("/api/v1/indexlab/batch/plan", json={**body, "profile": "fast"}).json()["settings"]
    assert (settings["profile"], settings["concurrency"], settings["max_tries"]) == ("fast", 256, 2)
    settings = buyer.post("/api/v1/indexlab/batch/plan", json=body).json()["settings"]
    assert (settings["profile"], settings["concurrency"]) == (None, 64)
    for answer in (
        plan(buyer, tried, profile="x"),
        buyer.post("/api/v1/indexlab/batch/plan", json={**body, "profile": "x"}),
    ):
        assert "there are: fast, standard, thorough" in problem_of(answer, 400, "unknown_profile")


def test_a_sample_is_a_draft_of_some_of_the_items(buyer: httpx.Client, tried: str) -> None:
    made = plan(buyer, tried, profile="fast").json()
    answer = buyer.post(f"/api/v1/plans/{made['plan_id']}/sample", json={"size": 4, "name": "four"})
    assert answer.status_code == 200, answer.text
    sample = answer.json()
    assert (sample["item_count"], sample["draft"], sample["name"], sample["profile"]) == (4, True, "four", "fast")
    assert (sample["source_name"], sample["selection"]) == (tried, None)
    assert [one["code"] for one in sample["warnings"]] == ["sample"]
    rows = buyer.get(f"/api/v1/plans/{sample['plan_id']}/rows").json()
    assert rows["total"] == 4
    assert {row["group"] for row in rows["rows"]} == {"Razer", "Logitech", "Acer", "SteelSeries"}


@pytest.mark.parametrize(("size", "code"), [(0, "bad_sample"), (10_001, "bad_sample"), ("x", None)])
def test_a_sample_of_no_size_is_refused(buyer: httpx.Client, tried: str, size: object, code: str | None) -> None:
    made = plan(buyer, tried).json()
    answer = buyer.post(f"/api/v1/plans/{made['plan_id']}/sample", json={"size": size})
    assert answer.status_code == 400, answer.text
    assert code is None or answer.json()["code"] == code
    problem_of(buyer.post("/api/v1/plans/plan-none/sample", json={"size": 1}), 404, "plan_not_found")
