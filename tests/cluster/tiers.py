"""The tiers of the cluster's tests: what each shows, and what of the machine, Debian and Go it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
_BOX_KERNEL = ("root", "namespaces", "bridge")
_BOX_PACKAGES = ("util-linux", "iproute2")
_CONTROL_PLANE = (*_BOX_PACKAGES, "openssl", "etcd-server")
_NETWORK = ("containernetworking-plugins", "iptables", "nftables", "conntrack")


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
    images: bool = False
    """Whether its tests run the product: the image, and those of its stores, are made before the box is entered."""
    boxed: bool = True
    """False: its tests make boxes themselves."""
    alone: bool = False
    """True: it measures the machine, or counts what is on it; no other tier runs meanwhile."""

    @property
    def folder(self) -> Path:
        return HERE / self.name.replace("-", "_")


def _on_a_node(name: str, about: str) -> Tier:
    """Of one whole node, on which the product runs."""
    return Tier(
        name=name,
        about=about,
        modules=("core", "scheduler", "kubelet", "probe", "coredns", "helm", "s3"),
        packages=(*_CONTROL_PLANE, "containerd", "runc", *_NETWORK, "buildah", "mmdebstrap"),
        images=True,
        kernel=(*_BOX_KERNEL, "veth", "nftables", "overlay", "cgroups"),
    )


TIERS: Mapping[str, Tier] = {
    tier.name: tier
    for tier in (
        _on_a_node("node", "kubelet, containerd, pod network, services, names: the product as it runs"),
        _on_a_node(
            "faults", "the same, harmed: workers, node, stores, API server; work goes on, each item is recorded once"
        ),
        Tier(
            name="image",
            about="the image as it is shipped: built here, weighed, and each program started in it",
            packages=("util-linux", "buildah", "mmdebstrap"),
            kernel=("root", "namespaces"),
            boxed=False,
        ),
        Tier(
            name="control-plane",
            about="etcd, API server, controller manager: rights, admission, quota, pods counted",
            modules=("core",),
            packages=_CONTROL_PLANE,
        ),
        Tier(
            name="chart",
            about="what Helm makes of the chart, and what a real API server says to it",
            modules=("core", "helm", "score"),
            packages=_CONTROL_PLANE,
        ),
        Tier(
            name="scale",
            about="hundreds of pods on simulated nodes",
            alone=True,
            modules=("core", "scheduler", "kwok"),
            packages=_CONTROL_PLANE,
        ),
        Tier(
            name="box",
            about="nothing is left of a cluster, however it ends",
            alone=True,
            packages=_BOX_PACKAGES,
            boxed=False,
        ),
    )
}
"""In the order in which they begin: the longest first."""
