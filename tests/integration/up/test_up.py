"""`penstock up`: what it says, what it refuses, what it restarts, how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from penstock.client.resources import StageOptions
from penstock.supervisor.processes import identify
from tests.conftest import StackFactory
from tests.servers.postgres import PostgresServer
from tests.servers.stack import PENSTOCK, Stack, until

PROGRAMS = ("redis", "planner", "scheduler", "analyzer", "gateway")


def answers(stack: Stack, path: str = "/readyz") -> int:
    try:
        with urllib.request.urlopen(stack.url + path, timeout=5) as answer:
            return int(answer.status)
    except OSError:
        return 0


def readiness(stack: Stack) -> str:
    try:
        with urllib.request.urlopen(stack.url + "/readyz", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def refused(data: Path, *arguments: str, seconds: float = 20, **environment: str) -> tuple[int, str]:
    """Runs a `penstock up` that must end by itself: its exit code and what it says on standard error."""
    result = subprocess.run(
        [*PENSTOCK, "up", "--data", str(data), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, **environment},
    )
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr.strip()


def test_it_is_ready_in_time_says_one_line_and_tells_clients_where_it_is(fresh_stack: StackFactory) -> None:
    stack = fresh_stack()
    stack.data.mkdir()
    (stack.data / "letter.txt").write_text("mine")
    seconds = stack.start()
    assert seconds < 40, "the bench has the real bound; this one only catches a stall"
    assert answers(stack) == 200

    endpoints = json.loads((stack.data / "endpoints.json").read_text())
    assert endpoints["http"] == stack.url
    for name in ("planner", "scheduler", "analyzer"):
        assert re.fullmatch(r"127\.0\.0\.1:\d+", endpoints[name])
    assert endpoints["redis"].startswith("unix:///")
    assert set(PROGRAMS) | {"supervisor"} <= set(endpoints["pids"])
    for name in ("token", "endpoints.json", "state.json"):
        assert stat.S_IMODE((stack.data / name).stat().st_mode) == 0o600, name

    socket_path = Path(endpoints["redis"].removeprefix("unix://"))
    assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
    assert len(os.fsencode(socket_path)) <= 100

    process = stack.supervisor
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == "", "the ready line is the only one on standard output"
    assert stack.stop() == 0
    assert not socket_path.parent.exists()
    assert (stack.data / "letter.txt").read_text() == "mine"


def test_a_second_up_on_the_same_data_folder_says_who_holds_it(stack: Stack) -> None:
    code, words = refused(stack.data)
    assert code == 1
    assert f"process {stack.supervisor.pid}" in words
    assert stack.url in words
    assert len(words.splitlines()) == 1


def test_a_port_that_is_taken_is_refused_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, words = refused(tmp_path / "data", "--port", str(port))
    assert code == 1
    assert f"port {port} is taken by process {os.getpid()}" in words
    assert len(words.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_without_a_port_the_next_free_one_is_taken(stack: Stack, fresh_stack: StackFactory) -> None:
    other = fresh_stack()
    other.start()
    assert other.url != stack.url
    assert answers(stack) == answers(other) == 200


def test_with_a_port_it_serves_there(fresh_stack: StackFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    stack = fresh_stack(arguments=("--port", str(port)))
    stack.start()
    assert stack.url == f"http://127.0.0.1:{port}"


def test_a_folder_that_is_a_file_or_below_one_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        code, words = refused(place)
        assert code == 2
        assert "can't be written" in words
        assert "--data" in words
        assert len(words.splitlines()) == 1
    assert f"{tmp_path / 'file'} is a file" in refused(tmp_path / "file")[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    code, words = refused(folder)
    assert code == 2
    assert "can't be written" in words


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everywhere")
def test_a_folder_that_may_not_be_looked_into_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o400)
    code, words = refused(tmp_path / "closed" / "data")
    assert code == 2
    assert "can't be written (permission denied)" in words


def test_an_address_that_would_not_be_served_is_refused(tmp_path: Path) -> None:
    code, words = refused(tmp_path / "data", PENSTOCK_GATEWAY__HOST="0.0.0.0")
    assert code == 2
    assert "gateway.host (PENSTOCK_GATEWAY__HOST) is 0.0.0.0" in words
    assert not (tmp_path / "data").exists()


def test_settings_that_are_wrong_are_all_told_and_nothing_is_started(tmp_path: Path) -> None:
    code, words = refused(tmp_path / "data", PENSTOCK_LOG_LEVEL="loud", PENSTOCK_SCHEDULER__WORKER="3")
    assert code == 2
    assert "log_level" in words
    assert "did you mean scheduler.workers?" in words
    assert not (tmp_path / "data").exists()


def test_a_settings_file_is_heard_and_a_wrong_one_refused(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("[gateway]\nprot = 1\n")
    code, words = refused(tmp_path / "data", "--config", str(config))
    assert code == 2
    assert "did you mean gateway.port?" in words


@pytest.mark.slow
def test_each_program_that_dies_comes_back_under_its_address(fresh_stack: StackFactory) -> None:
    stack = fresh_stack()
    stack.start()
    before = json.loads((stack.data / "endpoints.json").read_text())
    for name in PROGRAMS:
        old = stack.kill(name)
        stack.restarted(name, old)
        until(f"ready after {name} was killed", lambda: answers(stack) == 200)
    after = json.loads((stack.data / "endpoints.json").read_text())
    for key in ("http", "planner", "scheduler", "analyzer", "redis"):
        assert before[key] == after[key], key
    assert stack.stop() == 0


def test_readiness_names_the_dependency_that_does_not_answer(fresh_stack: StackFactory) -> None:
    stack = fresh_stack()
    stack.start()
    stack.kill("redis", signal.SIGSTOP)
    until("readiness names Redis", lambda: "scheduler can't use Redis" in readiness(stack))
    stack.kill("redis", signal.SIGCONT)
    until("it is ready again", lambda: answers(stack) == 200)


def test_a_program_that_keeps_dying_is_started_with_growing_pauses_and_never_given_up(
    fresh_stack: StackFactory,
) -> None:
    stack = fresh_stack()
    stack.start()
    pid = stack.pids()["analyzer"]
    began = time.monotonic()
    for _ in range(3):
        stack.kill("analyzer")
        pid = stack.restarted("analyzer", pid)
    assert time.monotonic() - began >= 0.2 + 0.4, "0, 0.2 and 0.4 s of pause"
    until("ready again", lambda: answers(stack) == 200)


def test_everything_ends_within_a_second_or_so_of_the_supervisor(fresh_stack: StackFactory) -> None:
    stack = fresh_stack()
    stack.start()
    stack.kill_supervisor()
    until("all programs ended", lambda: not stack.survivors(), seconds=20.0)


@pytest.mark.parametrize("group", [False, True], ids=["supervisor", "group"])
def test_it_comes_back_after_a_kill_with_the_same_grpc_addresses(fresh_stack: StackFactory, group: bool) -> None:
    stack = fresh_stack(own_group=True)
    stack.start()
    before = json.loads((stack.data / "endpoints.json").read_text())
    stack.kill_supervisor(group=group)
    stack.start()
    after = json.loads((stack.data / "endpoints.json").read_text())
    for name in ("planner", "scheduler", "analyzer"):
        assert before[name] == after[name], name
    assert not set(before["pids"].values()) & set(after["pids"].values())


def test_what_the_last_one_left_is_ended_first(fresh_stack: StackFactory) -> None:
    stack = fresh_stack()
    stack.start()
    stuck = stack.pids()["analyzer"]
    # A stopped process can't read the end of its pipe: it would outlive its supervisor for ever.
    stack.kill("analyzer", signal.SIGSTOP)
    stack.kill_supervisor()
    assert identify(stuck) is not None
    stack.start()
    assert identify(stuck) is None


def test_a_pid_that_now_belongs_to_another_is_left_alone(fresh_stack: StackFactory) -> None:
    stack = fresh_stack()
    stack.data.mkdir()
    other = identify(os.getpid())
    assert other is not None
    record = {"name": "planner", "pid": other.pid, "start_ticks": other.start_ticks - 1}
    (stack.data / "state.json").write_text(json.dumps({"processes": [record]}))
    stack.start()
    assert identify(os.getpid()) == other


def test_sigterm_stops_as_ctrl_c_does_while_a_stream_is_open(fresh_stack: StackFactory) -> None:
    stack = fresh_stack()
    stack.start()
    address = ("127.0.0.1", int(stack.url.rsplit(":", 1)[1]))
    with socket.create_connection(address) as idle:
        idle.sendall(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        idle.recv(100)
        began = time.monotonic()
        stack.supervisor.send_signal(signal.SIGTERM)
        assert stack.supervisor.wait(20) == 0
    assert time.monotonic() - began < 20
    assert stack.survivors() == []


def test_it_stops_cleanly_when_told_before_it_is_ready(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*PENSTOCK, "up", "--data", str(tmp_path / "data")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until("started", lambda: (tmp_path / "data" / "state.json").exists())
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert out == ""
    assert process.returncode == 0


def test_a_second_ctrl_c_does_not_wait_for_what_runs(fresh_stack: StackFactory, tmp_path: Path) -> None:
    stack = fresh_stack()
    stack.start()
    items = tmp_path / "items.jsonl"
    items.write_text('{"key": "long"}\n')
    source = stack.client.sources.items(items)
    stage = StageOptions(processor="noop", parameters={"sleep_seconds": 60})
    run = stack.client.runs.start(stack.client.plans.create(source.source_id, stages=[stage]).plan_id)
    until("it runs", lambda: stack.client.runs.get(run.run_id).counts.running == 1)
    stack.supervisor.send_signal(signal.SIGINT)
    until("stopping", lambda: not (stack.data / "endpoints.json").exists())
    stack.supervisor.send_signal(signal.SIGINT)
    assert stack.supervisor.wait(20) == 1, "0 is that of a stop that took its time"
    assert stack.survivors() == []


def test_what_runs_at_a_stop_is_handed_back_and_goes_on_at_the_next_start(
    fresh_stack: StackFactory, tmp_path: Path
) -> None:
    stack = fresh_stack(environment={"PENSTOCK_WORKER__DRAIN_SECONDS": "0.5"})
    stack.start()
    items = tmp_path / "items.jsonl"
    items.write_text("".join(f'{{"key": "k{i}"}}\n' for i in range(6)))
    source = stack.client.sources.items(items)
    stage = StageOptions(processor="noop", parameters={"sleep_seconds": 2}, concurrency=3)
    run = stack.client.runs.start(stack.client.plans.create(source.source_id, stages=[stage]).plan_id)
    until("it runs", lambda: stack.client.runs.get(run.run_id).counts.running == 3)
    assert stack.stop() == 0
    stack.start()
    ended = stack.client.runs.wait(run.run_id)
    assert (ended.counts.completed, ended.counts.failed) == (6, 0)
    assert {item.tries for item in stack.client.runs.items(run.run_id)} == {0}, "a stop costs no try"


def test_logs_go_to_the_data_folder_and_the_older_ones_are_kept_once(fresh_stack: StackFactory) -> None:
    stack = fresh_stack()
    stack.start()
    stack.stop()
    assert {path.name for path in (stack.data / "logs").iterdir()} >= {f"{name}.log" for name in PROGRAMS}
    stack.start()
    assert (stack.data / "logs" / "scheduler.log.1").exists()


@pytest.mark.slow
def test_it_runs_on_postgresql_as_well(
    fresh_stack: StackFactory, postgres: PostgresServer, empty_postgres_url: str
) -> None:
    names = ("PLANNER", "SCHEDULER", "ANALYZER")
    stack = fresh_stack(environment={f"PENSTOCK_{name}__DATABASE_URL": empty_postgres_url for name in names})
    stack.start()
    assert answers(stack) == 200
    assert not list(stack.data.glob("*.db"))


def test_a_worker_that_is_no_longer_needed_is_ended_when_it_has_nothing_to_do(fresh_stack: StackFactory) -> None:
    """Not the one of the highest slot, whatever it does: its items would be executed again, and paid again."""
    stack = fresh_stack(
        environment={
            "PENSTOCK_WORKER__SLOTS": "1",
            "PENSTOCK_WORKER__DRAIN_SECONDS": "1",
            "PENSTOCK_SCHEDULER__IDLE_SECONDS": "1",
        }
    )
    stack.start()
    payloads = [{"key": f"k{seconds}", "payload": {"sleep_seconds": seconds}} for seconds in (3, 12)]
    source = stack.client.sources.items(payloads)
    plan = stack.client.plans.create(source.source_id, stages=[StageOptions(processor="noop")])
    run = stack.client.runs.start(plan.plan_id)
    until("one worker is ended", lambda: "a worker is no longer needed" in _log(stack, "scheduler"), seconds=30)
    until("the other has done its item", lambda: stack.client.runs.get(run.run_id).counts.completed == 2, seconds=30)
    assert [stack.client.items.get(run.run_id, seq).attempt for seq in (0, 1)] == [1, 1]


def _log(stack: Stack, program: str) -> str:
    return (stack.data / "logs" / f"{program}.log").read_text()
