"""A whole cluster: restricted pods run, a service and its name lead to them, and a pod that is deleted ends soon."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import tools
from tests.cluster.programs.daemon import wait_until
from tests.cluster.programs.node import IMAGE, Node

NAMESPACE = "pods"
PORT = 8080
SECONDS = 30.0


def pod(name: str, *words: str, ready: bool = True) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": list(words),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    if ready:
        container["readinessProbe"] = {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1}
    spec = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 20,
        "restartPolicy": "Never",
    }
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": words[0] if words else name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def servers(node_cluster: Node) -> Iterator[Node]:
    """Two pods that serve, behind one service."""
    plane = node_cluster.control_plane
    plane.namespace(NAMESPACE, labels={"pod-security.kubernetes.io/enforce": "restricted"})
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "serve"}, "ports": [{"port": 80, "targetPort": PORT}]},
    }
    plane.apply(service, *(pod(name, "serve", f":{PORT}") for name in ("one", "two")))
    for name in ("one", "two"):
        node_cluster.wait_pod(NAMESPACE, name)
    yield node_cluster
    plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_a_service_answers_from_the_host_by_both_of_its_pods(servers: Node) -> None:
    address = servers.control_plane.kubectl(
        *("get", "service", "web", "-n", NAMESPACE, "-o", "jsonpath={.spec.clusterIP}")
    )
    heard: set[str] = set()

    def both() -> bool:
        asked = [str(tools.program("probe")), "get", f"http://{address}/"]
        heard.add(subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip())
        return {"one", "two"} <= heard

    wait_until(both, f"both pods have answered by {address}; heard {heard}", seconds=SECONDS)


def test_a_pod_reaches_the_service_by_its_name(servers: Node) -> None:
    plane = servers.control_plane
    url = f"http://web.{NAMESPACE}.svc.cluster.local/"

    def answered() -> bool:
        plane.try_kubectl("delete", "pod", "asks", "-n", NAMESPACE, "--ignore-not-found", "--wait=true")
        plane.apply(pod("asks", "get", url, ready=False))
        phase = ("get", "pod", "asks", "-n", NAMESPACE, "-o", "jsonpath={.status.phase}")
        ended = ("Succeeded", "Failed")
        wait_until(lambda: plane.kubectl(*phase) in ended, "the asking pod has ended", seconds=SECONDS)
        return plane.kubectl("logs", "asks", "-n", NAMESPACE).strip() in ("one", "two")

    wait_until(answered, "a pod has heard the service", seconds=SECONDS)


def test_a_pod_that_is_deleted_ends_in_good_order(servers: Node) -> None:
    plane = servers.control_plane
    plane.apply(pod("goes"))
    servers.wait_pod(NAMESPACE, "goes")
    plane.kubectl("delete", "pod", "goes", "-n", NAMESPACE, "--wait=true", "--timeout=15s")
    assert plane.try_kubectl("get", "pod", "goes", "-n", NAMESPACE).returncode != 0
