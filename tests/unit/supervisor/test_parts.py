"""The supervisor's parts by themselves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.settings import load
from penstock.supervisor import redis_server, watcher
from penstock.supervisor.child import Child
from penstock.supervisor.echo import LogEcho, rotate, tail
from penstock.supervisor.folder import DataFolder
from penstock.supervisor.plan import program_environment
from penstock.supervisor.ports import first_free, holder, reserve
from penstock.supervisor.processes import Process, descendants, end, identify, signal_to
from tests.servers.stack import until


def below(pid: int) -> list[Process]:
    return [process for child in descendants(pid) if (process := identify(child))]


def gone(process: Process) -> bool:
    return not process.alive()


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def test_a_process_is_its_pid_and_its_start() -> None:
    child = sleeper()
    try:
        process = identify(child.pid)
        assert process is not None
        assert child.pid in descendants(os.getpid())
        impostor = Process(process.pid, process.start_ticks - 1)
        assert not impostor.alive()
        assert signal_to(impostor, signal.SIGKILL) is False
        assert process.alive()
        assert end([impostor, process]) == 1
        assert not process.alive(), "a zombie does not live"
    finally:
        child.kill()
        child.wait()
    assert identify(child.pid) is None


def test_a_reserved_port_is_refused_to_others_and_left_to_the_one_who_will_listen() -> None:
    kept = reserve(0)
    assert kept is not None
    assert reserve(kept.port) is None, "another supervisor gets another port"
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", kept.port))
        server.listen()
        assert holder(kept.port).pid == os.getpid()
    kept.close()
    again = reserve(kept.port)
    assert again is not None
    other = first_free([kept.port, 0])
    assert other is not None
    assert other.port != kept.port
    again.close()
    other.close()


def test_a_data_folder_has_one_holder(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "data")
    first.say_who("http://127.0.0.1:1")
    with pytest.raises(Unavailable, match=f"process {os.getpid()} at http://127.0.0.1:1"):
        DataFolder(tmp_path / "data")
    first.close()
    DataFolder(tmp_path / "data").close()


def test_files_of_the_data_folder_are_whole_and_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    token = folder.token()
    assert len(token.read_text().strip()) >= 32
    assert folder.token().read_text() == token.read_text()
    folder.write_json("state.json", {"ports": {"planner": 1}})
    assert folder.read_state() == {"ports": {"planner": 1}}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (token, tmp_path / "data" / "state.json")} == {0o600}
    (tmp_path / "data" / "state.json").write_text('{"half')
    assert folder.read_state() == {}
    folder.close()


def test_a_data_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="can't be written"):
        DataFolder(tmp_path / "file" / "data")


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = DataFolder(tmp_path / "data")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="is full: free some space") as told:
        folder.write_json("state.json", {"ports": {}})
    assert told.value.code == "disk_full"
    folder.close()


def test_pauses_between_starts_grow_to_a_bound_and_begin_anew_after_a_steady_life(tmp_path: Path) -> None:
    child = Child("p", ["true"], {}, tmp_path, tmp_path / "log", 0)
    pauses = []
    for _ in range(8):
        child.died(1, 5.0)
        pauses.append(round(child.due - 5.0, 2))
    assert pauses == [0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    child.died(1, 1000.0)
    assert child.due == 1000.0, "it had lived long: at once"


def test_a_child_is_deaf_to_ctrl_c_from_its_first_moment(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = Child("p", ["sleep", "60"], dict(os.environ), tmp_path, tmp_path / "p.log", reading)
    child.start(0.0)
    assert child.process is not None
    os.kill(child.process.pid, signal.SIGINT)
    assert child.process.alive()
    os.kill(child.process.pid, signal.SIGTERM)
    _, status = os.waitpid(child.process.pid, 0)
    child.died(os.waitstatus_to_exitcode(status), 1.0)
    assert child.exit_code == -signal.SIGTERM
    os.close(reading)
    os.close(writing)


def test_the_watcher_ends_its_child_when_the_lifeline_is_cut_and_dies_with_it() -> None:
    for way in ("lifeline", "killed"):
        reading, writing = os.pipe()
        held = subprocess.Popen(
            [sys.executable, "-I", "-S", watcher.__file__, str(reading), "/bin/sleep", "60"], pass_fds=(reading,)
        )
        os.close(reading)
        (child,) = until("started", partial(below, held.pid))
        if way == "lifeline":
            os.close(writing)
        else:
            held.kill()
        held.wait(20)
        until("its child ended", partial(gone, child), seconds=20)
        if way == "killed":
            os.close(writing)


def test_the_watcher_ends_as_its_child_did() -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-I", "-S", watcher.__file__, str(reading)]
    assert subprocess.run([*command, "/bin/false"], pass_fds=(reading,), check=False).returncode == 1
    missing = subprocess.run([*command, "/none"], pass_fds=(reading,), check=False, capture_output=True, text=True)
    assert missing.returncode == 127
    assert "can't be started" in missing.stderr
    os.close(reading)
    os.close(writing)


def test_socket_paths_are_short_or_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(long))
    folder = redis_server.make_socket_folder()
    try:
        assert folder.parent == Path("/tmp")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(long.iterdir()) == []
    finally:
        folder.rmdir()


def test_an_old_redis_on_path_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0 malloc=jemalloc bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert redis_server.server_program() != str(old)
    old.write_text("#!/bin/sh\necho 'Redis server v=7.4.1 sha=0 malloc=jemalloc bits=64'\n")
    assert redis_server.server_program() == str(old)


def test_logs_are_shown_rotated_and_bounded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("penstock.supervisor.echo.LARGEST_LOG_BYTES", 100)
    log = tmp_path / "planner.log"
    echo = LogEcho(tmp_path)
    log.write_text('{"event": "serving"}\nplain words\nhalf a li')
    echo.poll()
    with log.open("a") as file:
        file.write("ne\n" + "x" * 100 + "\n")
    echo.close()
    shown = capsys.readouterr().err.splitlines()
    assert shown[:3] == ['{"event": "serving"}', "planner: plain words", "planner: half a line"]
    assert log.stat().st_size == 0, "cut when it is too large"
    assert log.with_name("planner.log.1").stat().st_size > 100
    log.write_text("a\nb\nc\n")
    assert tail(log, 2) == ["b", "c"]
    rotate(log)
    assert not log.exists()
    assert log.with_name("planner.log.1").read_text() == "a\nb\nc\n"


def test_what_is_written_while_a_log_is_moved_is_kept_and_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("penstock.supervisor.echo.LARGEST_LOG_BYTES", 100)
    log = tmp_path / "planner.log"
    log.write_text("early " + "x" * 200 + "\n")
    copy, late = shutil.copyfileobj, ["one\n", "two\n"]

    def copying(source: BinaryIO, target: BinaryIO, length: int) -> None:
        copy(source, target, length)
        if late:
            with log.open("a") as writer:
                writer.write(late.pop(0))

    monkeypatch.setattr(shutil, "copyfileobj", copying)
    echo = LogEcho(tmp_path)
    echo.poll()
    with log.open("a") as writer:
        writer.write("three\n")
    echo.close()
    assert log.with_name("planner.log.1").read_text().splitlines()[1:] == ["one", "two"]
    assert log.read_text() == "three\n"
    shown = capsys.readouterr().err.splitlines()
    assert shown[1:] == ["planner: one", "planner: two", "planner: three"]


def test_a_standard_error_that_nobody_reads_makes_nothing_wait(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom penstock.supervisor.echo import LogEcho\n"
        "echo = LogEcho(Path(sys.argv[1]))\nbegan = time.monotonic()\n"
        "for i in range(50_000): echo.say('x' * 100)\necho.close()\n"
        "Path(sys.argv[1], 'seconds').write_text(str(time.monotonic() - began))\nimport os; os._exit(0)\n"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", script, str(tmp_path)], stderr=subprocess.PIPE)
    try:
        process.wait(60)
        assert float((tmp_path / "seconds").read_text()) < 30
    finally:
        process.kill()
        assert process.stderr is not None
        process.stderr.close()
        process.wait()


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    url = "postgresql://localhost/db"
    given = {
        "PENSTOCK_DATA": str(tmp_path),
        "PENSTOCK_PLANNER__DATABASE_URL": url,
        "PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS": "40",
    }
    made = program_environment(
        load(given),
        data=tmp_path,
        config=None,
        token=tmp_path / "token",
        redis_url="unix:///r",
        ports={"planner": 1, "scheduler": 2, "analyzer": 3, "gateway": 4},
        workers=None,
        lifeline=9,
    )
    for name in ("PENSTOCK_PLANNER__DATABASE_URL", "PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS"):
        assert made.get(name) == os.environ.get(name), "left to the environment that it came from"
    assert made["PENSTOCK_SCHEDULER__DATABASE_URL"] == "sqlite:///scheduler.db"
    assert made["PENSTOCK_WORKER__DRAIN_SECONDS"] == "6"
    ours = {name: value for name, value in made.items() if name.startswith("PENSTOCK_")}
    assert load(ours).scheduler.backend == "process", "every name that is given is a setting"
    assert json.dumps(ours)
