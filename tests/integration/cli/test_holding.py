"""The commands that hold and let go, over all of Penstock: gates, caps, limits, actions on items, clones, retries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.client.runs import RUN_STATES
from tests.integration.cli.conftest import Command
from tests.servers.stack import Stack, until

InState = Callable[[str, str], dict[str, Any]]

START = ("runs", "start", "--processor", "noop", "--json", "--items")


@pytest.fixture(autouse=True)
def _open_again(penstock: Command) -> Iterator[None]:
    """What a test did to all runs must not outlive it."""
    yield
    penstock("retries", "allow")
    for limit in penstock("limits", "list", "--prefix", "cli-test:", "--json").json():
        penstock("limits", "open", limit["key"])
        penstock("limits", "delete", limit["key"])
    penstock("budgets", "price", "noop", "none")


def written(path: Path, payloads: Iterable[dict[str, Any]]) -> Path:
    lines = (json.dumps({"key": f"{path.stem}-{n}", "payload": payload}) for n, payload in enumerate(payloads))
    path.write_text("\n".join(lines) + "\n")
    return path


def started(penstock: Command, *arguments: str | Path) -> str:
    answer = penstock(*START, *arguments)
    assert answer.code == 0, answer.err
    return str(answer.json()["number"])


def shown(penstock: Command, number: str) -> dict[str, Any]:
    told: dict[str, Any] = penstock("runs", "show", number, "--json").json()
    return told


@pytest.fixture
def in_state(stack: Stack, penstock: Command) -> InState:
    """The run as `runs show` has it, once it is in this state."""

    def reached(number: str, state: str) -> dict[str, Any]:
        wanted = RUN_STATES[state]
        asking = stack.client.runs
        until(f"run {number} is {state}", lambda: asking.get(int(number)).state == wanted, seconds=40)
        return shown(penstock, number)

    return reached


def test_a_gate_holds_a_run_until_it_is_answered(penstock: Command, in_state: InState, tmp_path: Path) -> None:
    items = written(tmp_path / "gate.jsonl", [{}] * 5)
    gate = ("--rules", '{"gate": {"name": "go"}}')
    number = started(penstock, items, *gate)
    run = in_state(number, "waiting")
    assert run["waiting"] == "gate go"
    assert penstock("status", "--json").json()["waiting_runs"][number] == "gate go"
    waiting = penstock("gates", "list", number, "--json").json()
    assert [one["name"] for one in waiting] == ["go"]
    assert any(reason["code"] == "gate" for reason in penstock("runs", "explain", number, "--json").json()["reasons"])
    approved = penstock("gates", "approve", number, "--reason", "fine")
    assert "gate go approved" in approved.out, approved.err
    assert in_state(number, "completed")["counts"]["completed"] == 5
    assert penstock("gates", "approve", number, "go").code == 1
    told = [event for event in penstock("runs", "events", number, "--json").lines() if event["reason"]]
    assert any("fine" in event["reason"] and event["actor"] == "cli" for event in told)

    rejected = started(penstock, items, *gate, "--name", "second")
    in_state(rejected, "waiting")
    penstock("gates", "reject", rejected, "go")
    assert in_state(rejected, "stopped")["counts"]["completed"] == 0


def test_a_cap_holds_a_run_and_more_money_lets_it_go_on(penstock: Command, in_state: InState, tmp_path: Path) -> None:
    items = written(tmp_path / "money.jsonl", [{"cost_micros": 100_000}] * 10)
    assert penstock("budgets", "price", "noop", "0.10").err == ""
    slip = penstock("budgets", "price", "nop", "0.10")
    assert "the planner knows no processor nop; it knows" in slip.err
    assert penstock("budgets", "price", "nop", "none").code == 0
    number = started(penstock, items, "--param", "paid=true", "--concurrency", "1", "--budget", "0.45")
    run = in_state(number, "waiting")
    assert run["waiting"].startswith("budget")
    assert run["money"]["spent_micros"] == 400_000
    assert run["counts"]["completed"] == 4
    assert any(one["code"] == "budget" for one in penstock("runs", "explain", number, "--json").json()["reasons"])
    assert penstock("budgets", "set", number, "5", "--reason", "worth it").code == 0
    run = in_state(number, "completed")
    assert (run["money"]["spent_micros"], run["money"]["reserved_micros"]) == (1_000_000, 0)
    entries = penstock("budgets", "ledger", number, "--json").lines()
    assert sum(entry["micros"] for entry in entries) == 1_000_000
    items_listed = penstock("items", "list", number, "--json").lines()
    assert sum(item["cost_micros"] for item in items_listed) == 1_000_000
    assert "$1.00" in penstock("budgets", "show", number).out
    assert "budget $0.45 → $5.00" in penstock("runs", "events", number, "--type", "run.updated").out


def test_a_closed_key_holds_its_items_alone(penstock: Command, in_state: InState, tmp_path: Path) -> None:
    payloads = [{"limits": [f"cli-test:{'shut' if n < 6 else 'fine'}"]} for n in range(12)]
    assert penstock("limits", "set", "cli-test:*", "--concurrency", "2").code == 0
    assert penstock("limits", "close", "cli-test:shut", "--reason", "they asked").code == 0
    number = started(penstock, written(tmp_path / "keys.jsonl", payloads))
    until("the others are done", lambda: shown(penstock, number)["counts"]["completed"] == 6, pause=0.2)
    why = penstock("items", "explain", number, "0", "--json").json()
    assert any(reason["key"] == "cli-test:shut" for reason in why["reasons"]), why
    closed = [one["key"] for one in penstock("limits", "list", "--closed", "--json").json()]
    assert "cli-test:shut" in closed
    event = penstock("limits", "events", "cli-test:shut", "--json").json()[0]
    assert (event["new_state"], event["actor"], event["reason"]) == ("closed", "cli", "they asked")
    assert "concurrency none → 2" in penstock("limits", "events", "cli-test:*").out
    assert "cli-test:shut" in penstock("status", "--json").json()["closed_limits"]
    told = penstock("runs", "explain", number, "--json").json()["reasons"]
    assert ("limit_closed", "cli-test:shut") in [(reason["code"], reason["key"]) for reason in told]
    assert penstock("limits", "open", "cli-test:shut").code == 0
    in_state(number, "completed")


def test_what_failed_is_found_grouped_retried_and_cloned(penstock: Command, in_state: InState, tmp_path: Path) -> None:
    failing = [{"fail": "provider", "permanent": True} if n % 4 == 0 else {} for n in range(20)]
    number = started(penstock, written(tmp_path / "fails.jsonl", failing), "--max-tries", "1")
    run = in_state(number, "completed_with_failures")
    (group,) = run["failures"]
    assert (group["count"], group["kind"]) == (5, "provider")
    words = f'fingerprint = "{group["fingerprint"]}"'
    listed = penstock("items", "list", number, "--filter", f"state = failed AND {words}", "--json").lines()
    assert [item["seq"] for item in listed] == [0, 4, 8, 12, 16]
    preview = penstock("items", "retry", number, "--filter", words, "--preview", "--json").json()
    assert (preview["matched"], preview["action_id"]) == (5, None)
    assert shown(penstock, number)["counts"]["failed"] == 5, "a preview changes nothing"
    done = penstock("items", "retry", number, "4", "8-9", "--json")
    assert done.json()["changed"] == 2, done
    assert done.json()["refused"] == 1, "what is completed is not retried"
    events = penstock("runs", "events", number, "--type", "items.action", "--type", "items.action_done").out
    assert "retry 3 items by seq" in events
    assert "retry: 2 of 3 changed, 1 refused" in events
    in_state(number, "completed_with_failures")
    attempts = {one["seq"]: one["attempt"] for one in penstock("items", "list", number, "--json").lines()}
    assert (attempts[4], attempts[8], attempts[0], attempts[1]) == (2, 2, 1, 1)
    clone = penstock("runs", "clone", number, "--failed", "--json").json()
    assert (clone["counts"]["total"], clone["cloned_from"]) == (5, run["run_id"])
    told = penstock("items", "retry", number, "--filter", "state ~ failed")
    assert (told.code, told.out) == (2, "")


def test_waiting_items_are_skipped_and_moved_to_the_front(penstock: Command, in_state: InState, tmp_path: Path) -> None:
    penstock("limits", "close", "cli-test:all")
    number = started(
        penstock, written(tmp_path / "front.jsonl", [{"limits": ["cli-test:all"]}] * 8), "--concurrency", "1"
    )
    assert "payload" not in penstock("items", "list", number, "--json").lines()[0]
    assert isinstance(penstock("items", "list", number, "--json", "--payload").lines()[0]["payload"], dict)
    few = penstock("items", "list", number, "--limit", "3").out
    assert few.splitlines()[-1] == "… and 5 more: --limit N shows more"
    assert "more" not in penstock("items", "list", number, "--limit", "8").out
    assert "and 6 more" in penstock("items", "list", number, "--state", "queued", "--limit", "2", "--json").err
    untouched = penstock("items", "list", number, "--filter", "state = queued").out
    assert untouched.splitlines()[-1].endswith("--state queued lists that, too.")
    assert penstock("items", "skip", number, "0-1", "--json").json()["changed"] == 2
    assert penstock("items", "front", number, "6", "--json").json()["changed"] == 1
    assert penstock("runs", "update", number, "--priority", "7").code == 0
    penstock("limits", "open", "cli-test:all")
    run = in_state(number, "completed")
    assert (run["counts"]["skipped"], run["priority"]) == (2, 7)
    items = penstock("items", "list", number, "--json").lines()
    began = sorted((item["start_time"], item["seq"]) for item in items if item["state"] == "completed")
    assert began[0][1] == 6


def test_retries_wait_while_they_are_stopped(penstock: Command, in_state: InState, tmp_path: Path) -> None:
    assert penstock("retries", "stop", "--reason", "incident").code == 0
    payloads = [{"fail": "item", "fail_attempts": 1}, {}]
    number = started(penstock, written(tmp_path / "again.jsonl", payloads))
    until("the rest is done", lambda: shown(penstock, number)["counts"]["completed"] == 1, pause=0.2)
    until("it waits", lambda: shown(penstock, number)["counts"]["retry"] == 1, pause=0.2)
    why = penstock("items", "explain", number, "0", "--json").json()
    assert why["reasons"], why
    assert penstock("status", "--json").json()["retries_allowed"] is False
    assert penstock("retries", "allow").code == 0
    in_state(number, "completed")


def test_an_exclusive_key_has_one_live_run(penstock: Command, in_state: InState, tmp_path: Path) -> None:
    items = written(tmp_path / "alone.jsonl", [{}])
    gate = ("--rules", '{"gate": {"name": "go"}}', "--exclusive", "project:cli-test")
    first = started(penstock, items, *gate)
    second = penstock(*START, items, *gate)
    assert second.code == 1
    assert json.loads(second.err)["error"]["code"] == "exclusive_key_held"
    assert shown(penstock, first)["run_id"] in second.err
    in_state(first, "waiting")
    penstock("runs", "stop", first, "--force")
    in_state(first, "stopped")
    third = started(penstock, items, *gate)
    penstock("runs", "stop", third, "--force")


def test_absurd_settings_are_all_told_at_once(penstock: Command, tmp_path: Path) -> None:
    items = written(tmp_path / "absurd.jsonl", [{}])
    rules = '{"retry": [{"kinds": ["weather"], "max_tries": 0}], "tolerance": {"share": 3}, "heal": {"attempts": 9}}'
    answer = penstock(*START, items, "--rules", rules)
    assert answer.code == 2
    for word in ("weather", "max_tries", "tolerance.share", "heal.attempts"):
        assert word in answer.err
    answer = penstock("limits", "set", "cli-test:x", "--concurrency", "0", "--rate", "Tokens=5")
    assert answer.code == 2


def test_what_ended_unknown_is_settled_by_a_person(penstock: Command, in_state: InState, tmp_path: Path) -> None:
    payloads = [{"fail": "unknown", "permanent": True}, {"fail": "unknown", "permanent": True, "fail_attempts": 1}, {}]
    number = started(penstock, written(tmp_path / "unknown.jsonl", payloads))
    run = in_state(number, "completed_with_failures")
    assert [group["kind"] for group in run["failures"]] == ["unknown"]
    spared = penstock("items", "retry", number, "--filter", "state = failed", "--json").json()
    assert spared["changed"] == 0, "no bulk retry takes what may have been done"
    accepted = penstock("items", "accept", number, "0", "--reason", "it was sent", "--json").json()
    assert accepted["changed"] == 1, accepted
    retried = penstock("items", "retry", number, "--filter", "kind = unknown", "--json").json()
    assert retried["changed"] == 1, retried
    assert in_state(number, "completed")["counts"]["completed"] == 3
