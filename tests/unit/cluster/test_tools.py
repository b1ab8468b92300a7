"""The cache of the cluster's programs: built once, never half, again when what it is built from changes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.cluster import tools
from tests.cluster.tools.__main__ import main

# In Go's place: counts its calls, and writes what it is asked for, or fails at the program that BROKEN names.
GO = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
echo "$(basename "$2")" >> "$CALLS"
case "$2" in */"$BROKEN") echo "no such package"; exit 1;; esac
echo program > "$2"
chmod +x "$2"
"""
PROGRAMS = {"first": "example.test/first", "second": "example.test/second"}
MODULE = tools.Module(name="two", folder="two", programs=PROGRAMS)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs that Go was asked for, one a line; the cache and the one module are the test's own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go").write_text(GO)
    (tmp_path / "bin" / "go").chmod(0o755)
    (tmp_path / "two").mkdir()
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


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go"])
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


def test_a_change_of_the_programs_or_of_their_stamps_is_another_key(calls: Path) -> None:
    stamped = tools.Module(name="two", folder="two", programs=PROGRAMS, stamps={"a.b": "1"})
    fewer = tools.Module(name="two", folder="two", programs={"first": "example.test/first"})
    assert len({MODULE.key, stamped.key, fewer.key}) == 3


def test_a_build_that_fails_leaves_nothing_and_names_the_program_and_why(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "second")
    with pytest.raises(tools.BuildFailed, match="second can't be built:\nno such package"):
        build()
    assert sorted(path.name for path in tools.cache().iterdir()) == ["lock"]
    with pytest.raises(tools.BuildFailed, match=r"first is not built: python -m tests\.cluster\.tools two"):
        tools.program("first")


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
    own = [package for package in module.programs.values() if package != "."]
    assert all(package in written for package in own), "go.mod names each program by a tool line"
    assert not own or (module.source / "go.sum").exists()
    assert "=> ." not in written, "nothing is taken from this machine's folders"
    assert "toolchain" not in written, "Go's own version is the machine's"
