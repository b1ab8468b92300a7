"""What a machine has that a cluster could leave behind, counted before and after.

Another box may live at the same time on the same machine: its cgroups are its own, and while it lives the machine's
sysctls are not yet back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.box import machine
from tests.cluster.box.place import BRIDGE, MOUNTS, cgroup_name

__all__ = ["Standing", "left", "standing"]

_OURS = ("/penstock-", "/run/penstock", "cni", "kubelet", BRIDGE)
"""What stands in the names of things that clusters make."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The machine at one moment, outside of every box."""

    mounts: frozenset[str]
    interfaces: frozenset[str]
    folders: frozenset[str]
    sysctls: Mapping[str, str]
    """Empty while a box lives."""


def standing() -> Standing:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return Standing(
        mounts=frozenset(mount for mount in mounts if any(word in mount for word in _OURS)),
        interfaces=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
        folders=frozenset(str(Path(mount)) for mount in MOUNTS if Path(mount).exists()),
        sysctls={} if machine.occupied() else machine.sysctls(),
    )


def left(before: Standing, name: str) -> list[str]:
    """What is there now and was not before, of the box with this name or of any."""
    now = standing()
    lines = [f"mount {mount}" for mount in sorted(now.mounts - before.mounts)]
    lines += [f"interface {interface}" for interface in sorted(now.interfaces - before.interfaces)]
    lines += [f"cgroup {path}" for path in sorted(Path("/sys/fs/cgroup").glob(f"*/{cgroup_name(name)}"))]
    if before.sysctls and now.sysctls:
        lines += [f"folder {folder}" for folder in sorted(now.folders - before.folders)]
        lines += [
            f"sysctl {key}: {value}, was {before.sysctls[key]}"
            for key, value in now.sysctls.items()
            if before.sysctls.get(key) != value
        ]
    return lines
