"""What each defence of the sandbox stops by itself, against code that does what it likes; what all of them leave."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.sandbox.sandbox import NOBODY
from tests.integration.planner.sandbox_attack import ATTACKS

ROOT = os.geteuid() == 0
LANDLOCK = ctypes.CDLL(None).syscall(444, None, 0, 1) >= 4
HARMLESS = {"read what is given"}
NEVER = {"write what is given", "make here"}
"""The kernel gives no writing by a descriptor for reading, and makes nothing in a folder that was removed."""

ALL = set(ATTACKS) - NEVER
BY_NAME_ALONE = {"empty", "make folder", "rename", "remove"}
FILES = {"list", "read", "write", "empty by open", "make", "open what is given anew", *BY_NAME_ALONE}
NETWORK = {"connect", "datagram"}


def could(folder: Path, user: int, *steps: str) -> set[str]:
    """What the attacks did under these steps."""
    folder = folder / "attacked"
    folder.mkdir()
    for name in ("given", "other", "third"):
        (folder / name).write_text(name)
    if user:
        for path in (folder, *folder.iterdir()):
            os.chown(path, user, user)
    gone = folder.parent / "gone"
    gone.mkdir()
    run = "import os, runpy, sys; os.rmdir(os.getcwd()); sys.argv[0] = ''; "
    run += "runpy.run_module('tests.integration.planner.sandbox_attack', run_name='__main__')"
    process = subprocess.run(
        [sys.executable, "-P", "-c", run, str(folder), str(user), *steps],
        cwd=gone,
        env={"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(process.stdout.splitlines()[-1]))


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder to which everybody comes; those of pytest are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="penstock-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(params=["root", "owner"] if ROOT else ["self"])
def user(request: pytest.FixtureRequest) -> int:
    """Whom process and files belong to. 0: whoever runs the tests."""
    return NOBODY if request.param == "owner" else 0


def test_without_defence_everything_can_be_done(ground: Path, user: int) -> None:
    assert could(ground, user) == ALL


def test_without_descriptors_nothing_is_opened_and_only_names_can_change(ground: Path, user: int) -> None:
    assert could(ground, user, "stop_descriptors") == {"fork", *BY_NAME_ALONE} | HARMLESS


def test_files_that_may_not_grow_can_still_be_emptied(ground: Path, user: int) -> None:
    assert could(ground, user, "bound") == ALL - {"write"}


def test_without_processes_nothing_is_forked_but_by_root(ground: Path, user: int) -> None:
    assert could(ground, user, "stop_processes") == (ALL if ROOT and not user else ALL - {"fork"})


@pytest.mark.skipif(not LANDLOCK, reason="this kernel has no Landlock that knows TCP")
def test_landlock_leaves_no_file_and_no_tcp(ground: Path, user: int) -> None:
    assert could(ground, user, "lock_files") == {"fork", "datagram"} | HARMLESS


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_another_user_changes_nothing(ground: Path) -> None:
    assert could(ground, 0, "become") == {"fork", "list", "read"} | NETWORK | HARMLESS


@pytest.mark.skipif(not ROOT, reason="only root can change its root folder")
def test_an_empty_root_folder_leaves_no_file(ground: Path) -> None:
    assert could(ground, 0, "leave_files") == {"fork"} | NETWORK | HARMLESS


@pytest.mark.skipif(not ROOT, reason="only root can leave its network")
def test_a_network_of_its_own_reaches_nobody(ground: Path) -> None:
    assert could(ground, 0, "leave_network") == {"fork"} | FILES | HARMLESS


def test_all_together_leave_what_was_given(ground: Path, user: int) -> None:
    assert could(ground, user, "confine") == HARMLESS
