"""What of the machine itself a tier needs: each check tries the thing in a namespace of its own and leaves nothing.

A check returns nothing when all is well, else one line that says what this machine lacks.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cluster.packages import search_path

__all__ = ["CHECKS", "lacking"]

_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids")
_SECONDS = 20
_NAT = "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; add rule ip t c masquerade"


def _tried(*command: str) -> bool:
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, env={**os.environ, "PATH": search_path()}
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _root() -> str | None:
    return None if os.geteuid() == 0 else "only root makes namespaces of networks and mounts"


def _namespaces() -> str | None:
    command = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "true")
    return None if _tried(*command) else "no namespaces of network, mounts and processes (unshare was refused)"


def _bridge() -> str | None:
    made = _tried("unshare", "--net", "ip", "link", "add", "pen0", "type", "bridge")
    return None if made else "the kernel makes no bridge"


def _veth() -> str | None:
    made = _tried("unshare", "--net", "ip", "link", "add", "pen0", "type", "veth", "peer", "name", "pen1")
    return None if made else "the kernel makes no pairs of interfaces (veth)"


def _nftables() -> str | None:
    return None if _tried("unshare", "--net", "nft", _NAT) else "the kernel translates no addresses (nf_tables, nat)"


def _overlay() -> str | None:
    known = "overlay" in Path("/proc/filesystems").read_text().split()
    return None if known else "the kernel has no overlay file system"


def _cgroups() -> str | None:
    missing = [name for name in _CONTROLLERS if not Path(f"/sys/fs/cgroup/{name}/cgroup.procs").exists()]
    return f"cgroup v1 lacks {', '.join(missing)} (v2 alone has not been tried)" if missing else None


CHECKS: Mapping[str, Callable[[], str | None]] = {
    "root": _root,
    "namespaces": _namespaces,
    "bridge": _bridge,
    "veth": _veth,
    "nftables": _nftables,
    "overlay": _overlay,
    "cgroups": _cgroups,
}


def lacking(names: tuple[str, ...]) -> list[str]:
    """One line for each that fails. Without root the rest can't be tried."""
    if "root" in names and (line := _root()):
        return [line]
    return [line for name in names if (line := CHECKS[name]())]
