"""The cache of the cluster's programs: built once, never half, again when what it is built from changes."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cluster import tools
from tests.cluster.programs.daemon import wait_until
from tests.cluster.tiers import TIERS
from tests.cluster.tools.__main__ import main

ROOT = Path(__file__).resolve().parents[3]

# In Go's place: notes what it is asked for, and writes it, or fails at the program that BROKEN names.
GO = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
folder=$2
shift 2
for package; do
  name=$(basename "$package")
  echo "$name" >> "$CALLS"
  case "$name" in "$BROKEN") echo "no such package: $name"; exit 1;; esac
  echo program > "$folder$name"
  chmod +x "$folder$name"
done
"""
# As Go, with a compiler below it that takes its time: each writes its pid.
SLOW_GO = """#!/bin/sh
sh -c 'echo $$ > "$CALLS.compiler"; exec sleep 100' &
echo $$ > "$CALLS.go"
wait
"""
PROGRAMS = {"first": "example.test/first", "second": "./second"}
MODULE = tools.Module(name="two", folder="two", programs=PROGRAMS)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs that Go was asked for, one a line; the cache and the one module are the test's own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go").write_text(GO)
    (tmp_path / "bin" / "go").chmod(0o755)
    (tmp_path / "two" / "second").mkdir(parents=True)
    (tmp_path / "two" / "go.mod").write_text("module two\n")
    (tmp_path / "two" / "go.sum").write_text("example.test v1 h1:one\n")
    monkeypatch.setattr(tools, "HERE", tmp_path)
    monkeypatch.setattr(tools, "MODULES", {"two": MODULE})
    monkeypatch.setenv(tools.CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("BROKEN", "none")
    (tmp_path / "calls").touch()
    return tmp_path / "calls"


def build() -> Path:
    return tools.build(["two"], say=lambda _: None)


def test_what_is_built_is_not_built_again(calls: Path) -> None:
    folder = build()
    assert calls.read_text().split() == ["first", "second"]
    assert sorted(path.name for path in folder.iterdir()) == ["first", "second"]
    assert build() == folder
    assert len(calls.read_text().split()) == 2
    assert tools.program("second").read_text() == "program\n"


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "second/main.go"])
def test_whatever_it_is_built_from_changes_it_is_built_anew_beside_the_old_one(
    calls: Path, tmp_path: Path, name: str
) -> None:
    old = build()
    with (tmp_path / "two" / name).open("a") as file:
        file.write("// changed\n")
    assert not tools.built(MODULE)
    assert build() != old
    assert len(calls.read_text().split()) == 4
    assert (old / "first").exists(), "an older checkout still finds its own"


def test_what_another_program_is_built_from_changes_nothing(calls: Path, tmp_path: Path) -> None:
    other = tools.Module(name="one", folder="two", programs={"first": "example.test/first"})
    key = other.key
    (tmp_path / "two" / "second" / "main.go").write_text("package main\n")
    assert other.key == key


def test_a_change_of_the_programs_or_of_their_stamps_is_another_key(calls: Path) -> None:
    stamped = tools.Module(name="two", folder="two", programs=PROGRAMS, stamps={"a.b": "1"})
    fewer = tools.Module(name="two", folder="two", programs={"first": "example.test/first"})
    assert len({MODULE.key, stamped.key, fewer.key}) == 3


def test_a_build_that_fails_leaves_nothing_and_names_the_program_and_why(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "second")
    with pytest.raises(tools.BuildFailed, match="two can't be built:\nno such package: second"):
        build()
    assert sorted(path.name for path in tools.cache().iterdir()) == ["lock"]
    with pytest.raises(tools.BuildFailed, match=r"first is not built: python -m tests\.cluster\.tools two"):
        tools.program("first")


def test_a_builder_that_can_not_be_started_leaves_no_pipe(calls: Path) -> None:
    fds = Path("/proc/self/fd")
    before = len(list(fds.iterdir()))
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            tools._go(["build"], module=tools.Module(name="gone", folder="gone", programs={}))
    assert len(list(fds.iterdir())) == before


def test_what_a_killed_builder_has_left_is_never_taken_and_goes(calls: Path) -> None:
    half = tools.cache() / "half-x" / "bin"
    half.mkdir(parents=True)
    (half / "first").touch()
    build()
    assert calls.read_text().split() == ["first", "second"]
    assert not half.parent.exists()


def test_builders_at_the_same_time_build_once(calls: Path) -> None:
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(build())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls.read_text().split() == ["first", "second"]
    assert len(folders) == 4
    assert len(set(folders)) == 1


def test_who_waits_for_a_builder_goes_on_when_what_he_wants_is_there(calls: Path) -> None:
    """A builder may build much more, for minutes: the lock is held all the time here."""
    tools.cache().mkdir(parents=True)
    said: list[str] = []
    with (tools.cache() / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=tools.build, args=(["two"],), kwargs={"say": said.append})
        waiting.start()
        wait_until(lambda: bool(said), "it says that it waits", seconds=30)
        tools.bin_folder(MODULE).mkdir(parents=True)
        waiting.join(30)
        assert not waiting.is_alive()
    assert said == ["two: waiting for another builder"]
    assert calls.read_text() == ""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda end: end.name)
def test_go_and_its_compilers_end_with_the_builder(calls: Path, tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "bin" / "go").write_text(SLOW_GO)
    code = (
        "from pathlib import Path; from tests.cluster import tools;"
        f"tools.HERE = Path({str(tmp_path)!r});"
        f"tools.MODULES = {{'two': tools.Module(name='two', folder='two', programs={PROGRAMS!r})}};"
        "tools.build(['two'], say=print)"
    )
    builder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    pids = [calls.with_name(f"calls.{name}") for name in ("go", "compiler")]
    wait_until(lambda: all(path.exists() and path.read_text() for path in pids), "a compiler runs", seconds=30)
    below = [int(path.read_text()) for path in pids]
    assert all(_runs(pid) for pid in below)
    builder.send_signal(end)
    builder.wait(30)
    wait_until(lambda: not any(_runs(pid) for pid in below), "Go and its compiler ended", seconds=30)


def _runs(pid: int) -> bool:
    """Also false of one that has ended and that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_tier_that_needs_no_program_has_its_folder_on_a_machine_that_never_built(calls: Path) -> None:
    assert tools.build([], say=lambda _: None).is_dir()
    assert calls.read_text() == ""


def test_without_go_it_is_said_what_can_not_be_built(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(tools.BuildFailed, match="no Go here to build two"):
        build()


def test_the_last_line_is_the_folder_of_programs(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["two"]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1], "first").exists()
    assert main(["three"]) == 2
    assert "no such module: three; there are two, all" in capsys.readouterr().err


@pytest.mark.parametrize("module", tools.MODULES.values(), ids=lambda module: module.name)
def test_each_module_names_its_programs_and_pins_them(module: tools.Module) -> None:
    written = (module.source / "go.mod").read_text()
    foreign = [package for package in module.programs.values() if not package.startswith(".")]
    own = [package for package in module.programs.values() if package.startswith(".")]
    assert all(package in written for package in foreign), "go.mod names each program by a tool line"
    assert all((module.source / package / "main.go").exists() for package in own)
    assert not foreign or (module.source / "go.sum").exists()
    assert "=> ." not in written, "nothing is taken from this machine's folders"
    assert "toolchain" not in written, "Go's own version is the machine's"


STARTED = re.compile(r'tools\.program\("([a-z-]+)"\)')
STARTS = {
    "control-plane": ("programs/control_plane.py",),
    "chart": ("programs/control_plane.py", "chart/*.py"),
    "scale": ("programs/control_plane.py", "programs/scheduler.py", "programs/kwok.py"),
    "node": ("programs/control_plane.py", "programs/scheduler.py", "programs/node.py", "node/*.py"),
    "faults": ("programs/control_plane.py", "programs/scheduler.py", "programs/node.py", "node/*.py", "faults/*.py"),
}
"""By tier: whose programs it starts."""


@pytest.mark.parametrize("name", STARTS)
def test_a_tier_waits_for_each_program_that_it_starts(name: str) -> None:
    """Where nothing is built yet it begins as soon as its own are there."""
    files = [path for pattern in STARTS[name] for path in (ROOT / "tests" / "cluster").glob(pattern)]
    started = {found for path in files for found in STARTED.findall(path.read_text())}
    waited = {found for module in TIERS[name].modules for found in tools.MODULES[module].programs}
    assert started
    assert started <= waited
