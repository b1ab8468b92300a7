"""A limit, a processor and a check of one are shown as every other thing is: `show.print_facts`."""

from __future__ import annotations

from typing import Any, cast

import pytest

from penstock.cli.limits import _print_limit
from penstock.cli.processors import _say, _say_check
from penstock.client.plan_views import ProcessorView, processor_view
from penstock.v1 import planner_pb2, scheduler_pb2

PAINTS = "red \x1b[31m\nand\u202e back"
PAINTED = "red  [31m and  back"


def view_of(**more: Any) -> ProcessorView:
    view = processor_view(planner_pb2.Processor(name="scan", version="1"))
    return cast("ProcessorView", {**view, **more})


def test_a_limit_that_nobody_uses_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    _print_limit(scheduler_pb2.Limit(key="domain:a", cooldown_seconds=30, concurrency=2), as_json=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  in use   0",
        "  at once  2",
        "  cooldown 30 s",
    ]


def test_what_a_processor_has_none_of_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    _say(view_of(problems=[{"line": None, "text": PAINTS}]))
    told = capsys.readouterr().out.splitlines()[1:]
    assert f"  wrong      {PAINTED}" in told
    assert not [line for line in told if line.rstrip().endswith("—")]


def test_what_a_program_says_in_a_check_does_not_paint_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"file": "scan.toml", "name": "scan", "version": "1", "usable": True, "problems": []}
    dry_run = {"argv": ["scan", "INPUT"], "problem": None}
    outcome = {"ended": "failed", "error": PAINTS, "cost_micros": 0}
    _say_check({**told, "dry_run": dry_run, "outcome": outcome})
    assert capsys.readouterr().out.splitlines() == [
        '  argv        ["scan", "INPUT"]',
        "  ended       failed",
        f"  error       {PAINTED}",
        "  cost_micros 0",
        "scan.toml: scan 1 is right",
    ]
