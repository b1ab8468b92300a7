"""The tiers of the cluster's tests: what each shows, and what of the machine, Debian and Go it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
_BOX_KERNEL = ("root", "namespaces", "bridge")
_BOX_PACKAGES = ("util-linux", "iproute2")
_CONTROL_PLANE = (*_BOX_PACKAGES, "openssl", "etcd-server")
_NODE = (*_CONTROL_PLANE, "containerd", "runc", "containernetworking-plugins", "iptables", "nftables", "conntrack")


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One folder of tests beside this file, run in a box of its own."""

    name: str
    about: str
    modules: tuple[str, ...] = ()
    """Of tests.cluster.tools.MODULES."""
    packages: tuple[str, ...]
    """Of tests.cluster.packages.PROGRAMS."""
    kernel: tuple[str, ...] = _BOX_KERNEL
    """Of tests.cluster.kernel.CHECKS."""
    boxed: bool = True
    """False: its tests make boxes themselves."""

    @property
    def folder(self) -> Path:
        return HERE / self.name.replace("-", "_")


TIERS: Mapping[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier(
            name="box",
            about="nothing is left of a cluster, however it ends",
            packages=_BOX_PACKAGES,
            boxed=False,
        ),
        Tier(
            name="chart",
            about="what Helm makes of the chart, and what a real API server says to it",
            modules=("core", "helm", "score"),
            packages=_CONTROL_PLANE,
        ),
        Tier(
            name="control-plane",
            about="etcd, API server, controller manager: rights, admission, quota, pods counted",
            modules=("core",),
            packages=_CONTROL_PLANE,
        ),
        Tier(
            name="scale",
            about="hundreds of pods on simulated nodes",
            modules=("core", "kwok"),
            packages=_CONTROL_PLANE,
        ),
        Tier(
            name="node",
            about="kubelet, containerd, pod network, services, names: the product as it runs",
            modules=("core", "probe", "coredns", "helm", "s3"),
            packages=_NODE,
            kernel=(*_BOX_KERNEL, "veth", "nftables", "overlay", "cgroups"),
        ),
    )
}
"""In the order in which they run."""
