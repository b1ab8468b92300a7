"""A run that was archived: looked at as before, cloned, and commanded no more."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import StackFactory
from tests.integration.cli.conftest import Answer, carried_out
from tests.servers.stack import until


def test_an_archived_run_is_shown_listed_and_cloned(fresh_stack: StackFactory, tmp_path: Path) -> None:
    stack = fresh_stack(environment={"PENSTOCK_SCHEDULER__ARCHIVE_HOURS": "0"})
    stack.start()

    def penstock(*arguments: str | Path) -> Answer:
        return carried_out(*arguments, data=stack.data)

    path = tmp_path / "items.jsonl"
    payloads = [{"fail": "item", "permanent": True} if n % 3 == 0 else {"cost_micros": 5} for n in range(9)]
    path.write_text("".join(json.dumps({"key": f"k{n}", "payload": one}) + "\n" for n, one in enumerate(payloads)))
    watched = penstock("runs", "start", "--items", path, "--processor", "noop", "--wait")
    assert watched.code == 3, watched
    until("it is archived", lambda: stack.client.runs.get(1).archived, seconds=40, pause=0.2)

    shown = penstock("runs", "show", "1")
    assert "archived" in shown.out
    assert "$0.00003" in shown.out
    view = penstock("runs", "show", "1", "--json").json()
    assert (view["archived"], view["counts"]["failed"]) == (True, 3)
    failed = penstock("items", "list", "1", "--state", "failed", "--json").lines()
    assert [item["seq"] for item in failed] == [0, 3, 6]
    chosen = penstock("items", "list", "1", "--filter", "cost_micros > 0", "--json").lines()
    assert [item["seq"] for item in chosen] == [1, 2, 4, 5, 7, 8]
    assert penstock("items", "show", "1", "3", "--json").json()["error"]
    events = penstock("runs", "events", "1", "--json").lines()
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert sum(entry["micros"] for entry in penstock("budgets", "ledger", "1", "--json").lines()) == 30
    assert penstock("runs", "explain", "1").code == 0
    for command in (("runs", "resume", "1"), ("items", "retry", "1", "0"), ("runs", "update", "1", "--priority", "1")):
        refused = penstock(*command, "--json")
        assert (refused.code, json.loads(refused.err)["error"]["code"]) == (1, "run_archived"), command
    clone = penstock("runs", "clone", "1", "--failed", "--json")
    assert clone.code == 0, clone.err
    assert clone.json()["counts"]["total"] == 3
