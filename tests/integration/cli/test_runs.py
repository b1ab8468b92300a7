"""`penstock runs`, `processors`, `status`, `settings`: what they print, as text and as JSON, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Command, carried_out
from tests.servers.stack import PENSTOCK, Stack, until


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text(
        "".join(json.dumps({"key": f"k{i}", "group": f"g{i % 3}", "payload": {"i": i}}) + "\n" for i in range(40))
    )
    return path


def test_a_run_from_start_to_its_items_and_events(penstock: Command, items: Path) -> None:
    started = penstock("runs", "start", "--items", items, "--processor", "noop", "--name", "forty", "--wait", "--json")
    assert started.code == 0, started.err
    last = started.lines()[-1]["run"]
    number = str(last["number"])
    assert (last["state"], last["name"], last["counts"]["completed"]) == ("completed", "forty", 40)

    shown = penstock("runs", "show", number)
    assert shown.code == 0
    assert f"Run {number} forty: completed" in shown.out
    assert penstock("runs", "show", last["run_id"], "--json").json()["number"] == last["number"]
    assert number in [line.split()[0] for line in penstock("runs", "list").out.splitlines()[1:]]
    assert penstock("runs", "list", "--json", "--limit", "1").json()[0]["run_id"]

    listed = penstock("runs", "items", number, "--json", "--limit", "5").lines()
    assert [item["seq"] for item in listed] == [0, 1, 2, 3, 4]
    assert {item["state"] for item in listed} == {"completed"}
    assert penstock("runs", "items", number, "--state", "failed", "--json").out == ""
    told = penstock("runs", "events", number, "--json").lines()
    assert [event["number"] for event in told] == list(range(1, len(told) + 1))
    assert told[0]["type"] == "run.created"
    assert penstock("runs", "watch", number).code == 0


def test_pause_resume_and_stop(penstock: Command, items: Path) -> None:
    arguments = (
        "--items",
        items,
        "--processor",
        "noop",
        "--param",
        "sleep_seconds=5",
        "--concurrency",
        "2",
        "--json",
    )
    number = str(penstock("runs", "start", *arguments).json()["number"])
    paused = penstock("runs", "pause", number, "--reason", "prices first", "--json").json()
    assert (paused["changed"], paused["run"]["state"]) == (True, "paused")
    again = penstock("runs", "pause", number)
    assert "already" in again.out
    assert penstock("runs", "resume", number, "--json").json()["run"]["state"] == "running"
    penstock("runs", "stop", number, "--force")
    watched = penstock("runs", "watch", number)
    assert watched.code == 1, "stopped is not completed"
    assert "stopped" in watched.out
    head, stage = (line.split() for line in watched.out.splitlines()[-2:])
    counts = dict(zip(head[3:9], map(int, stage[4:10]), strict=True))
    assert counts.pop("ITEMS") == 40 == sum(counts.values())
    assert counts["STOPPED"] > 30
    listed = next(line.split() for line in penstock("runs", "list").out.splitlines() if line.split()[0] == number)
    assert listed[2] == "40"
    assert int(listed[3].rstrip("%")) < 25, "what was stopped is not done"
    reasons = [event["reason"] for event in penstock("runs", "events", number, "--json").lines()]
    assert "prices first" in reasons
    refused = penstock("runs", "pause", number)
    assert refused.code == 1
    assert refused.err.startswith(f"penstock: run {number} is stopped, so it can't pause")
    assert f"of run {number} has no item 99" in penstock("items", "explain", number, "99").err


def test_ctrl_c_leaves_the_run_alone_and_says_how_to_come_back(stack: Stack, penstock: Command, items: Path) -> None:
    arguments = (
        "--items",
        items,
        "--processor",
        "noop",
        "--param",
        "sleep_seconds=5",
        "--concurrency",
        "1",
        "--json",
    )
    number = str(penstock("runs", "start", *arguments).json()["number"])
    process = subprocess.Popen(
        [*PENSTOCK, "runs", "watch", number, "--data", str(stack.data), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"penstock runs watch {number}" in words
    assert f"penstock runs stop {number}" in words
    assert "Traceback" not in words
    assert penstock("runs", "show", number, "--json").json()["state"] == "running"
    penstock("runs", "stop", number, "--force")
    until("stopped", lambda: penstock("runs", "show", number, "--json").json()["state"] == "stopped")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("runs", "show", "99999"), "99999"),
        (("runs", "items", "run-unknown"), "run-unknown"),
        (("runs", "start", "--items", "{items}", "--processor", "nope"), "noop"),
        (("runs", "start", "--items", "{items}", "--processor", "noop", "--param", "depth=1"), "sleep_seconds"),
        (("runs", "start", "--items", "{items}", "--processor", "noop", "--param", "depth"), "name=value"),
        (("runs", "start", "--items", "missing.jsonl", "--processor", "noop"), "missing.jsonl"),
        (("runs", "list", "--state", "sleeping"), "paused"),
        (("runs", "events", "1", "--type", "zork"), "run.state"),
        (("runs", "start"), "--items"),
        (("runs", "fly"), "fly"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    penstock: Command, items: Path, arguments: tuple[str, ...], words: str
) -> None:
    answer = penstock(*(part.format(items=items) for part in arguments))
    assert answer.code == 2, answer
    assert words in answer.err
    assert answer.out == ""


def test_items_with_faults_are_told_with_their_lines(penstock: Command, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"key": "a"}\n{"key": "a"}\nnot json\n{"payload": {}}\n')
    answer = penstock("runs", "start", "--items", path, "--processor", "noop", "--json")
    assert answer.code == 2
    message = json.loads(answer.err)["error"]["message"]
    for line in ("2", "3", "4"):
        assert line in message


def test_without_a_server_one_line_names_penstock_up(tmp_path: Path) -> None:
    for arguments in (("runs", "list"), ("status",), ("documents", "list"), ("processors", "list")):
        answer = carried_out(*arguments, data=tmp_path)
        assert answer.code == 1
        assert "penstock up" in answer.err
        assert len(answer.err.splitlines()) == 1
    home = carried_out("status", HOME=str(tmp_path))
    assert (home.code, "penstock up" in home.err) == (1, True)


def test_the_server_is_found_by_its_url_too(stack: Stack) -> None:
    answer = carried_out("status", "--json", PENSTOCK_URL=stack.url)
    assert answer.code == 0, answer.err
    assert answer.json()["ready"] is True


def test_status_says_what_runs(stack: Stack, penstock: Command) -> None:
    told = penstock("status", "--json").json()
    assert (told["ready"], told["url"], told["data"]) == (True, stack.url, str(stack.data))
    assert told["pids"]["supervisor"] == stack.supervisor.pid
    assert "ready" in penstock("status").out


def test_processors_are_listed(penstock: Command) -> None:
    names = [processor["name"] for processor in penstock("processors", "list", "--json").json()]
    assert {"collection", "document", "noop"} <= set(names)
    assert "sleep_seconds" in penstock("processors", "list").out


def test_settings_are_told_without_a_server() -> None:
    answer = carried_out("settings")
    assert answer.code == 0
    assert "PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS" in answer.out
    assert {"name", "default", "description"} == set(carried_out("settings", "--json").json()[0])


def test_version_help_and_a_broken_pipe() -> None:
    assert carried_out("--version").out.startswith("penstock ")
    for asked in (("--version", "--json"), ("--json", "-V")):
        assert set(carried_out(*asked).json()) == {"version"}
    for arguments in ((), ("documents",), ("runs",), ("runs", "start"), ("documents", "analyze"), ("up",)):
        text = carried_out(*arguments, "--help").out
        assert "Usage" in text
    assert "penstock documents analyze" in carried_out("documents", "analyze", "--help").out
    process = subprocess.Popen(
        [*PENSTOCK, "settings"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    words = process.stderr.read()
    process.stderr.close()
    process.wait(10)
    assert b"Traceback" not in words
