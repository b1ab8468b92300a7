"""kube-scheduler: gives pods to nodes, real or simulated."""

from __future__ import annotations

from tests.cluster import tools
from tests.cluster.programs.control_plane import QPS, ControlPlane
from tests.cluster.programs.daemon import Daemon

__all__ = ["pod_scheduler"]


def pod_scheduler(control_plane: ControlPlane) -> Daemon:
    """Not started yet."""
    kubeconfig = control_plane.client_kubeconfig("system:kube-scheduler")
    words = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1", *QPS]
    return Daemon("kube-scheduler", [str(tools.program("kube-scheduler")), *words], logs=control_plane.place.logs)
