"""Nothing is left of a box: processes, mounts, interfaces, cgroups, sysctls, folders; however it ends."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import box, leftovers
from tests.cluster.box import machine
from tests.cluster.programs.daemon import wait_until
from tools.test import MARK, marked

SECONDS = 60.0
# All that a cluster does to a machine, and a process in a session of its own; then word that it is done.
MESS = """
mount -t tmpfs tmpfs /opt
ip link add penx type veth peer name peny
setsid sleep 1000 &
for top in /sys/fs/cgroup/memory /sys/fs/cgroup/pids; do
  of_box=$top/penstock-$PENSTOCK_CLUSTER_BOX
  if [ -d $of_box ]; then mkdir -p $of_box/pods/one; echo $! > $of_box/pods/one/cgroup.procs; fi
done
echo 77 > /proc/sys/kernel/panic
echo $PENSTOCK_CLUSTER_STATE > $PENSTOCK_CLUSTER_LOGS/done
"""
ENDLESS = f"{MESS}\nexec sleep 1000"
STUBBORN = f"{MESS}\ntrap '' INT TERM\nwhile true; do sleep 1000; done"


class Marked:
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


@pytest.fixture
def before() -> leftovers.Standing:
    """The machine while no other box lives on it: its sysctls count only then."""
    deadline = time.monotonic() + SECONDS
    while machine.occupied():
        if time.monotonic() > deadline:
            pytest.skip("another box lives on this machine")
        time.sleep(0.2)
    return leftovers.standing()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Marked]]:
    made: list[Marked] = []

    def make(script: str) -> Marked:
        made.append(Marked(tmp_path, script))
        return made[-1]

    yield make
    for one in made:
        one.caller.kill()
        one.caller.wait()


def assert_nothing_left(one: Marked, before: leftovers.Standing, state: Path) -> None:
    one.wait_gone()
    wait_until(lambda: not machine.occupied(), "the box has left the account", seconds=SECONDS)
    assert leftovers.left(before, one.name) == []
    assert not state.exists()


@pytest.mark.parametrize("code", [0, 7])
def test_nothing_is_left_when_the_command_ends_and_its_code_is_kept(
    start: Callable[[str], Marked], before: leftovers.Standing, code: int
) -> None:
    one = start(f"{MESS}\nexit {code}")
    assert one.caller.wait(SECONDS) == code
    assert not marked(one.mark), "all is gone when the caller hears of the end"
    assert_nothing_left(one, before, one.wait_done())


@pytest.mark.parametrize(
    ("number", "script"),
    [(signal.SIGKILL, STUBBORN), (signal.SIGKILL, ENDLESS), (signal.SIGTERM, ENDLESS), (signal.SIGINT, ENDLESS)],
)
def test_nothing_is_left_when_the_caller_is_ended(
    start: Callable[[str], Marked], before: leftovers.Standing, number: signal.Signals, script: str
) -> None:
    one = start(script)
    state = one.wait_done()
    assert len(marked(one.mark)) >= 4, "caller, guard, unshare, the box's first process and its command"
    one.caller.send_signal(number)
    assert_nothing_left(one, before, state)


def test_nothing_is_left_of_a_box_whose_guard_was_killed_once_the_next_one_comes(
    start: Callable[[str], Marked], before: leftovers.Standing
) -> None:
    one = start(ENDLESS)
    state = one.wait_done()
    assert machine.sysctls()["kernel/panic"] == "77"
    os.kill(one.guard(), signal.SIGKILL)
    one.wait_gone()
    assert_nothing_left(one, before, state)


def test_sysctls_stay_until_the_last_of_two_boxes_leaves(
    tmp_path: Path, before: leftovers.Standing, start: Callable[[str], Marked]
) -> None:
    go, second = tmp_path / "go", tmp_path / "second"
    second.mkdir()
    one = start(f"{MESS}\nwhile [ ! -e {go} ]; do sleep 0.02; done")
    state = one.wait_done()
    assert box.run(["sh", "-c", "test $(cat /proc/sys/kernel/panic) = 77"], logs=second) == 0
    assert machine.sysctls()["kernel/panic"] == "77"
    go.touch()
    assert one.caller.wait(SECONDS) == 0
    assert_nothing_left(one, before, state)


def test_nothing_inside_reaches_the_network_outside(tmp_path: Path) -> None:
    asked = "ip route get 192.0.2.1 2>&1; test $? -ne 0 && test $(ls /sys/class/net | wc -l) -gt 0"
    assert box.run(["sh", "-c", asked], logs=tmp_path) == 0
