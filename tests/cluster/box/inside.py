"""The first process of a box: mounts, interfaces and cgroups, then the command; reaps what others leave to it.

It ends as the command ends, and the kernel kills whatever else is left inside. A signal to end is passed on to the
command as an interrupt, so that tests close what they have open. What can't be prepared ends it with 70 and the reason.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.box.place import BRIDGE, HOST, HOST_NETWORK, MOUNTS, SERVICES, Place, here

CANNOT_PREPARE = 70
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
"""Hierarchies of cgroup v1 in which a kubelet wants a root of its own."""
CGROUPS = Path("/sys/fs/cgroup")


def prepare(place: Place) -> None:
    """Raises subprocess.CalledProcessError, OSError."""
    for folder in MOUNTS:
        _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    prefix = HOST_NETWORK.rpartition("/")[2]
    _do("ip", "link", "set", "lo", "up")
    _do("ip", "link", "add", BRIDGE, "type", "bridge")
    _do("ip", "address", "add", f"{HOST}/{prefix}", "dev", BRIDGE)
    _do("ip", "link", "set", BRIDGE, "up")
    # Programs of the host need some route to a service's address before it is translated.
    _do("ip", "route", "add", SERVICES, "dev", BRIDGE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridged.exists():
        bridged.write_text("1")
    for controller in CONTROLLERS:
        if (CGROUPS / controller / "cgroup.procs").exists():
            (CGROUPS / controller / place.cgroup).mkdir()
    cpuset = CGROUPS / "cpuset"
    if (cpuset / place.cgroup).is_dir():
        # Empty they are when made, and nothing starts in an empty set.
        for name in ("cpuset.cpus", "cpuset.mems"):
            (cpuset / place.cgroup / name).write_text((cpuset / name).read_text())


def _do(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def run(command: list[str]) -> int:
    """Runs the command, reaps all that ends, and ends with it."""
    first = subprocess.Popen(command)

    def interrupt(*_: object) -> None:
        first.send_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == first.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(words: list[str]) -> int:
    try:
        prepare(here())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"box: can't be prepared: {error}", file=sys.stderr)
        return CANNOT_PREPARE
    return run(words)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
