"""Nothing is left of a box: processes, mounts, interfaces, cgroups, sysctls, folders; however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import box, leftovers
from tests.cluster.box import machine
from tests.cluster.box.callers import SECONDS, Caller, assert_nothing_left
from tools.test import marked

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


@pytest.mark.parametrize("code", [0, 7])
def test_nothing_is_left_when_the_command_ends_and_its_code_is_kept(
    start: Callable[[str], Caller], before: leftovers.Standing, code: int
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
    start: Callable[[str], Caller], before: leftovers.Standing, number: signal.Signals, script: str
) -> None:
    one = start(script)
    state = one.wait_done()
    assert len(marked(one.mark)) >= 4, "caller, guard, unshare, the box's first process and its command"
    one.caller.send_signal(number)
    assert_nothing_left(one, before, state)


def test_nothing_is_left_of_a_box_whose_guard_was_killed_once_the_next_one_comes(
    start: Callable[[str], Caller], before: leftovers.Standing
) -> None:
    one = start(ENDLESS)
    state = one.wait_done()
    assert machine.sysctls()["kernel/panic"] == "77"
    os.kill(one.guard(), signal.SIGKILL)
    one.wait_gone()
    assert_nothing_left(one, before, state)


def test_sysctls_stay_until_the_last_of_two_boxes_leaves(
    tmp_path: Path, before_alone: leftovers.Standing, start: Callable[[str], Caller]
) -> None:
    go, second = tmp_path / "go", tmp_path / "second"
    second.mkdir()
    one = start(f"{MESS}\nwhile [ ! -e {go} ]; do sleep 0.02; done")
    state = one.wait_done()
    assert box.run(["sh", "-c", "test $(cat /proc/sys/kernel/panic) = 77"], logs=second) == 0
    assert machine.sysctls()["kernel/panic"] == "77"
    go.touch()
    assert one.caller.wait(SECONDS) == 0
    assert before_alone.sysctls["kernel/panic"] != "77"
    assert_nothing_left(one, before_alone, state)


def test_nothing_inside_reaches_the_network_outside(tmp_path: Path) -> None:
    asked = "ip route get 10.96.0.1 && ! ip route get 192.0.2.1"
    assert box.run(["sh", "-c", asked], logs=tmp_path) == 0
