"""`--profile` and `--sample` as a user types them: a trial first, then the rest with what it told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.cli.test_planning import Typed, penstock
from tests.servers.stack import Stack

__all__ = ["penstock"]

FAILS = {"fail": "error", "permanent": True}


@pytest.fixture
def source(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """12 rows of 3 brands; of these all of Zowie fail."""
    rows = [
        {"id": f"s{n}", "brand": brand, "model": f"M{n}", **(FAILS if brand == "Zowie" else {})}
        for n, brand in enumerate(["Acer", "Razer", "Zowie"] * 4)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = str(request.node.name)[:60].replace("_", "-")
    stack.client.sources.catalog([path], name=name)
    return name


def test_profiles_are_listed_and_fill_in_a_plan(penstock: Typed, source: str) -> None:
    table = penstock("plans", "profiles").out.splitlines()
    assert table[0].split() == ["PROFILE", "CONCURRENCY", "TRIES", "SECONDS", "CLASS", "PARAMETERS"]
    assert [line.split()[:3] for line in table[1:]] == [
        *(["fast", "256", "2"], ["standard", "default", "default"], ["thorough", "16", "10"]),
    ]
    assert [one["name"] for one in penstock("plans", "profiles", "--json").json()] == ["fast", "standard", "thorough"]
    create = ("plans", "create", source, "--processor", "noop", "--draft")
    view = penstock(*create, "--profile", "thorough", "--max-tries", "3", "--json").json()
    assert (view["profile"], view["stages"][0]["concurrency"], view["stages"][0]["max_tries"]) == ("thorough", 16, 3)
    refused = penstock(*create, "--profile", "through")
    assert (refused.code, "there are: fast, standard, thorough" in refused.err) == (2, True)
    shown = penstock(
        "process", "missing", "noop", "--source", source, "--profile", "fast", "--dry-run", "--json"
    ).json()
    assert shown["plan"]["profile"] == "fast"


def test_a_plan_made_with_a_sample_leaves_out_what_the_sample_did(penstock: Typed, source: str) -> None:
    create: tuple[str, ...] = ("plans", "create", source, "--processor", "noop", "--param", "sleep_seconds=0.001")
    create = (*create, "--filter", "brand != Zowie", "--sample", "3")
    said_no = penstock(*create, words="n\n")
    assert (said_no.code, "nothing was started" in said_no.out) == (1, True)
    assert "Run a sample of 3 items first?" in said_no.err
    assert penstock(*create).code == 2, "nobody answers"
    made = penstock(*create, "--name", "after a sample", words="y\n")
    assert made.code == 0, made.err
    assert "Plan after a sample: 8 items (a draft" in made.out, "first what it is a sample of"
    assert "Plan after a sample: 5 items" in made.out
    assert any(line.split()[:3] == ["done", "already", "3"] for line in made.out.splitlines())
    assert made.out.splitlines()[-1].endswith(": 5 items in 2 groups")
    rest = penstock(*create[:-1], "50", "--yes")
    assert rest.code == 0
    assert "the sample is all of it" in rest.err
    assert "nothing is left to do: the selection matches nothing: of 12 rows it includes 8" in rest.out


def test_process_runs_a_sample_and_then_asks_for_the_rest(penstock: Typed, source: str) -> None:
    process = ("process", "missing", "noop", "--source", source, "--profile", "fast")
    dry = penstock(*process, "--sample", "6", "--dry-run")
    assert (dry.code, "nothing was started, not even a sample of 6" in dry.out) == (0, True)
    declined = penstock(*process, "--sample", "6", words="y\nn\n")
    assert (declined.code, "Run noop over 8 of them?" in declined.err) == (1, True)
    assert "2 of the sample's 6 items failed" in declined.out
    assert "nothing was started" in declined.out
    lines = penstock(*process, "--sample", "5", "--yes", "--json").lines()
    told = [(kind, line[kind]["item_count"]) for line in lines for kind in ("plan", "sample") if kind in line]
    assert told[:2] == [("plan", 8), ("sample", 5)]
    last_of_sample = next(at for at, line in enumerate(lines) if "plan" in line and at > 0) - 1
    done = lines[last_of_sample]["run"]["counts"]["completed"]
    assert told[2:] == [("plan", 8 - done)], "what the sample did is left out"
    left = penstock(*process, "--dry-run", "--json").json()["plan"]
    assert left["item_count"] == 4, "those that fail"


def test_a_sample_that_fails_whole_is_said_and_ends_it(penstock: Typed, source: str) -> None:
    failing = ("--processor", "noop", "--filter", "brand = Zowie", "--again")
    told = penstock("plans", "create", source, *failing, "--sample", "2", "--yes", "--name", "never made")
    assert told.code == 1
    assert "the sample failed in all of its 2 items, so nothing else is started" in told.err
    assert "the plan's selection takes what is done already" in told.err
    assert "never made" not in penstock("plans", "list", "--source", source).out


def test_a_sample_out_of_range_is_refused(penstock: Typed, source: str, tmp_path: Path) -> None:
    refused = penstock("plans", "create", source, "--processor", "noop", "--again", "--sample", "10001", "--yes")
    assert (refused.code, "a sample has 1-10,000 items" in refused.err) == (2, True)
    (tmp_path / "tasks.md").write_text("## One\n- [ ] T001 do it\n")
    assert penstock("sources", "add", "cli-sample-tasks", tmp_path / "tasks.md").code == 0
    tasks = penstock("plans", "create", "cli-sample-tasks", "--processor", "noop", "--sample", "1", "--yes")
    assert (tasks.code, "tasks are done once" in tasks.err) == (2, True)


def test_the_rest_has_what_the_sample_left_of_the_budget(penstock: Typed, stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "paid.jsonl"
    path.write_text("".join(json.dumps({"id": n, "cost_micros": 1_000}) + "\n" for n in range(6)))
    stack.client.sources.catalog([path], name="cli-paid-samples")
    lines = penstock(
        *("process", "missing", "noop", "--source", "cli-paid-samples", "--budget", "0.01", "--sample", "2"),
        *("--yes", "--json"),
    ).lines()
    caps = [line["run"]["money"]["budget_micros"] for line in lines if "run" in line]
    assert (caps[0], caps[-1]) == (10_000, 8_000)
    assert lines[-1]["run"]["money"]["spent_micros"] == 4_000
