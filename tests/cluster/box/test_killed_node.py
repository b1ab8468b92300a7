"""A whole cluster with pods is killed in the middle: its pods, their networks and their cgroups are gone as well."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import kernel, leftovers, packages, tools
from tests.cluster.box import machine
from tests.cluster.box.callers import SECONDS, Caller, assert_nothing_left
from tests.cluster.programs.daemon import wait_until
from tests.cluster.tiers import TIERS
from tools.test import marked

# A node with one pod, then word that it is there; then it waits to be killed.
CLUSTER = """
import time
from tests.cluster.box import place
from tests.cluster.programs.control_plane import ControlPlane
from tests.cluster.programs.node import IMAGE, Node

plane = ControlPlane(place.here())
plane.start()
node = Node(plane)
node.start()
container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never"}
pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": "default"}}
plane.apply({**pod, "spec": {"containers": [container]}})
node.wait_pod("default", "one")
(plane.place.logs / "done").write_text(str(plane.place.state))
time.sleep(1000)
"""


@pytest.fixture
def able() -> None:
    """What the tier of nodes needs, which this machine may lack."""
    tier = TIERS["node"]
    reasons = [f"{name} is not installed" for name in packages.lacking(tier.packages)]
    reasons += kernel.lacking(tier.kernel)
    modules = ("core", "scheduler", "kubelet", "probe", "coredns")
    reasons += [f"{name} is not built" for name in modules if not tools.built(tools.MODULES[name])]
    if reasons:
        pytest.skip("; ".join(reasons))


@pytest.mark.usefixtures("able")
def test_nothing_is_left_of_a_killed_cluster_with_pods(
    start: Callable[[str], Caller], before: leftovers.Standing, tmp_path: Path
) -> None:
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    one = start(f"exec env PYTHONPATH=. {sys.executable} {script}")
    state = one.wait_done()
    programs = " ".join(marked(one.mark).values())
    assert all(name in programs for name in ("kube-apiserver", "kubelet", "containerd-shim")), programs
    depth = [path for top in machine.cgroups(one.name) for path in top.rglob("pod*")]
    assert depth, "pods have cgroups of their own"
    one.caller.kill()
    assert_nothing_left(one, before, state)
    wait_until(lambda: not any(path.exists() for path in depth), "cgroups of pods are gone", seconds=SECONDS)
