"""Pods become Ready on simulated nodes, and go."""

from __future__ import annotations

import time

from tests.cluster.programs.kwok import SIMULATED, SimulatedNodes

PODS = 30


def test_pods_become_ready_and_go(simulated_nodes: SimulatedNodes) -> None:
    control_plane = simulated_nodes.control_plane
    namespace = control_plane.namespace("many")
    began = time.monotonic()
    with control_plane.client() as api:
        for number in range(PODS):
            api.post(f"/api/v1/namespaces/{namespace}/pods", json=_pod(f"pod-{number}")).raise_for_status()
        created = time.monotonic() - began
        simulated_nodes.wait_pods(namespace, PODS)
        ready = time.monotonic() - began
        api.delete(f"/api/v1/namespaces/{namespace}/pods").raise_for_status()
        simulated_nodes.wait_pods(namespace, 0)
    gone = time.monotonic() - began
    print(f"{PODS} pods: created in {created:.1f} s, ready in {ready:.1f} s, gone in {gone:.1f} s")


def _pod(name: str) -> dict[str, object]:
    tolerations = [{"key": key, "value": value, "effect": "NoSchedule"} for key, value in SIMULATED.items()]
    containers = [{"name": "main", "image": "localhost/none:1"}]
    spec = {"containers": containers, "nodeSelector": SIMULATED, "tolerations": tolerations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
