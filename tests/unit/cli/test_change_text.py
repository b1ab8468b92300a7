"""What a table of events says of what each of them changed."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.cli.change_text import change_text

RATE = {"dimension": "requests", "per_minute": 50.0, "burst": 0, "estimate": 1.0}


@pytest.mark.parametrize(
    ("type_", "data", "text"),
    [
        (
            "run.updated",
            {"priority": [0, 10], "budget_micros": [5_000_000, None]},
            "priority 0 → 10, budget $5.00 → none",
        ),
        ("stage.updated", {"concurrency": [2, 1_000]}, "concurrency 2 → 1,000"),
        ("limit.set", {"until_ms": 0, "concurrency": [None, 5]}, "concurrency none → 5"),
        ("limit.set", {"rates": [[], [RATE]]}, "rates none → 50 requests a minute, estimate 1"),
        ("limit.set", {"until_ms": 0, "concurrency": 5, "adaptive": False}, ""),
        ("limit.cap", {"cap": 4, "closures": 1, "at_once": [2, 4]}, "at once 2 → 4"),
        ("items.action", {"action_id": "a", "verb": "retry", "items": "state = failed"}, "retry state = failed"),
        (
            "items.action_done",
            {"verb": "retry", "matched": 7, "changed": 5, "already": 0, "refused": 2},
            "retry: 5 of 7 changed, 2 refused",
        ),
        ("items.action", None, ""),
    ],
)
def test_an_event_without_states_tells_what_it_changed(type_: str, data: Any, text: str) -> None:
    for state in (None, "open"):
        assert change_text(event(type_, data, state, state)) == text


def test_a_change_of_state_is_told_old_and_new() -> None:
    assert change_text(event("run.state", {}, "running", "paused")) == "running → paused"
    assert change_text(event("run.state", {}, None, "queued")) == "· → queued"
    assert (
        change_text(event("limit.closed", {"until_ms": None, "key": "domain:a"}, "open", "closed")) == "open → closed"
    )


def event(type_: str, data: Any, old: str | None, new: str | None) -> Any:
    return {"type": type_, "data": data, "old_state": old, "new_state": new}
