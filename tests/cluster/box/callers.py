"""Boxes that tests start from outside, kill, and look behind."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

from tests.cluster import box, leftovers
from tests.cluster.box import machine
from tests.cluster.programs.daemon import wait_until
from tools.test import MARK, marked

SECONDS = 60.0


class Caller:
    """A caller of `box.run` in a process of its own, found again by a mark that everything below it inherits."""

    def __init__(self, folder: Path, script: str) -> None:
        self.mark, self.name, self.folder = secrets.token_hex(8), secrets.token_hex(4), folder
        code = (
            "import sys; from pathlib import Path; from tests.cluster import box;"
            f"sys.exit(box.run(['sh', '-c', {script!r}], logs=Path({str(folder)!r}), name={self.name!r}))"
        )
        environment = {**os.environ, MARK: self.mark}
        self.caller = subprocess.Popen([sys.executable, "-c", code], cwd=box.ROOT, env=environment)

    def wait_done(self) -> Path:
        """Until the script has made its mess; the box's state folder."""
        done = self.folder / "done"
        wait_until(lambda: done.exists() and bool(done.read_text().strip()), "the box is in use", seconds=SECONDS)
        return Path(done.read_text().strip())

    def guard(self) -> int:
        found = [pid for pid, line in marked(self.mark).items() if "tests.cluster.box.guard" in line]
        assert len(found) == 1, found
        return found[0]

    def wait_gone(self) -> None:
        wait_until(lambda: not marked(self.mark), f"processes of the box ended: {marked(self.mark)}", seconds=SECONDS)


def assert_nothing_left(one: Caller, before: leftovers.Standing, state: Path) -> None:
    one.wait_gone()
    wait_until(lambda: not machine.entered(one.name), "the box has left the account", seconds=SECONDS)
    left = leftovers.left(before, one.name)
    assert not left, f"left behind: {left}"
    assert not state.exists(), f"left behind: {state}"
