"""Where a box keeps its things: told by the environment, so that every process inside finds the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BOX = "PENSTOCK_CLUSTER_BOX"
STATE = "PENSTOCK_CLUSTER_STATE"
LOGS = "PENSTOCK_CLUSTER_LOGS"

HOST = "10.77.0.1"
"""The machine's own address inside of the box; pods and host programs reach each other by it."""
HOST_NETWORK = "10.77.0.0/24"
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
BRIDGE = "pen0"
MOUNTS = (
    "/run",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/etc/cni",
    "/opt/containerd",
    "/usr/libexec/kubernetes",
)
"""Fixed places to which kubelet, containerd and CNI write whatever their flags say: each an empty tmpfs inside."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A box's name and folders. `state` ends with the box, `logs` stay."""

    name: str
    state: Path
    logs: Path

    @property
    def cgroup(self) -> str:
        """Below the root of every hierarchy."""
        return cgroup_name(self.name)

    def environment(self) -> Mapping[str, str]:
        return {BOX: self.name, STATE: str(self.state), LOGS: str(self.logs)}


def cgroup_name(name: str) -> str:
    return f"penstock-{name}"


def inside() -> bool:
    """Whether this process runs in a box."""
    return BOX in os.environ


def here() -> Place:
    """The box that this process runs in. Raises KeyError outside of one."""
    return Place(name=os.environ[BOX], state=Path(os.environ[STATE]), logs=Path(os.environ[LOGS]))
