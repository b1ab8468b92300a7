"""Simulated nodes by kwok: pods on them become Ready and go at once, and nothing runs.

They stand beside a real node without touching it. kwok is started before its nodes are made: those that it finds with
old leases it may leave NotReady, and their pods for ever unready.
"""

from __future__ import annotations

import json
from typing import Any

from tests.cluster import tools
from tests.cluster.box.place import HOST
from tests.cluster.programs.control_plane import ControlPlane, is_ready
from tests.cluster.programs.daemon import Daemon, wait_until
from tests.cluster.programs.scheduler import pod_scheduler

__all__ = ["SIMULATED", "SimulatedNodes"]

READY_SECONDS = 60.0
ANNOTATION = "kwok.x-k8s.io/node"
SIMULATED = {"type": "simulated"}
"""Label of the nodes, and key=value of their taint: a pod wants it as selector and tolerates it."""
LEASE_SECONDS = 200
"""Long, with the controller manager's patience above it: shorter ones end in thousands of conflicts."""
CREATE_AT_ONCE = 100


class SimulatedNodes:
    """`scheduler` and `kwok` are daemons that a test may kill and freeze."""

    def __init__(self, control_plane: ControlPlane, *, nodes: int) -> None:
        self.control_plane = control_plane
        self.names = [f"simulated-{number}" for number in range(nodes)]
        folder = control_plane.place.state / "kwok"
        folder.mkdir()
        stages = folder / "stages.yaml"
        stages.write_text("\n---\n".join(json.dumps(stage) for stage in _stages()))
        kubeconfig = control_plane.client_kubeconfig("kwok", groups=["system:masters"])
        self.scheduler = pod_scheduler(control_plane)
        self.kwok = Daemon(
            "kwok",
            [
                *(str(tools.program("kwok")), f"--kubeconfig={kubeconfig}", f"--config={stages}"),
                *("--manage-all-nodes=false", f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake"),
                *("--cidr=10.245.0.0/16", f"--node-ip={HOST}", f"--node-lease-duration-seconds={LEASE_SECONDS}"),
            ],
            logs=control_plane.place.logs,
        )

    def start(self) -> None:
        self.scheduler.start()
        self.kwok.start()
        nodes = [_node(name) for name in self.names]
        for first in range(0, len(nodes), CREATE_AT_ONCE):
            self.control_plane.apply(*nodes[first : first + CREATE_AT_ONCE])
        with self.control_plane.client() as api:

            def all_ready() -> bool:
                items = api.get("/api/v1/nodes").json()["items"]
                ready = {item["metadata"]["name"] for item in items if is_ready(item)}
                return ready >= set(self.names)

            self.kwok.wait_until(all_ready, f"{len(self.names)} nodes are Ready", seconds=READY_SECONDS)

    def stop(self) -> None:
        for daemon in (self.kwok, self.scheduler):
            daemon.stop()

    def wait_pods(self, namespace: str, count: int, *, seconds: float = READY_SECONDS) -> None:
        """Until exactly so many pods are there, all of them Ready. Raises TimeoutError."""
        with self.control_plane.client() as api:

            def settled() -> bool:
                items = api.get(f"/api/v1/namespaces/{namespace}/pods").json()["items"]
                return len(items) == count and all(is_ready(item) for item in items)

            wait_until(settled, f"{count} pods Ready in {namespace}", seconds=seconds)


def _node(name: str) -> dict[str, Any]:
    labels = {**SIMULATED, "kubernetes.io/hostname": name}
    taints = [{"key": key, "value": value, "effect": "NoSchedule"} for key, value in SIMULATED.items()]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {ANNOTATION: "fake"}},
        "spec": {"taints": taints},
    }


_SIZES = "{cpu: '32', memory: 256Gi, pods: '110'}"
_NODE_READY = f"""
phase: Running
addresses:
- {{type: InternalIP, address: {{{{ NodeIP | Quote }}}}}}
- {{type: Hostname, address: {{{{ NodeName | Quote }}}}}}
allocatable: {_SIZES}
capacity: {_SIZES}
nodeInfo:
  {{architecture: amd64, operatingSystem: linux, kubeletVersion: simulated, containerRuntimeVersion: simulated,
  kernelVersion: simulated, kubeProxyVersion: simulated, osImage: simulated, bootID: '', machineID: '', systemUUID: ''}}
conditions:
{{{{ range NodeConditions }}}}
- type: {{{{ .type | Quote }}}}
  status: {{{{ .status | Quote }}}}
  reason: {{{{ .reason | Quote }}}}
  message: {{{{ .message | Quote }}}}
  lastHeartbeatTime: {{{{ Now | Quote }}}}
  lastTransitionTime: {{{{ Now | Quote }}}}
{{{{ end }}}}
"""
_POD_RUNNING = """
phase: Running
startTime: {{ Now | Quote }}
hostIP: {{ index (NodeIPsWith .spec.nodeName) 0 | Quote }}
podIP: {{ index (PodIPsWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace) 0 | Quote }}
conditions:
{{ range (list "Initialized" "ContainersReady" "Ready") }}
- {type: {{ . }}, status: "True", lastTransitionTime: {{ Now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ''
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ Now | Quote }}}}
{{ end }}
"""


def _stages() -> list[dict[str, Any]]:
    """What happens to a node and to a pod of it: made, it is Ready; deleted, it is gone."""
    alive = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    not_ready = {
        "key": '.status.conditions.[] | select( .type == "Ready" ) | .status',
        "operator": "NotIn",
        "values": ["True"],
    }
    pending = {"key": ".status.phase", "operator": "In", "values": ["Pending"]}
    deleted = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    return [
        _stage("node-ready", "Node", [not_ready], {"statusTemplate": _NODE_READY}),
        _stage("pod-running", "Pod", [alive, pending, not_ready], {"statusTemplate": _POD_RUNNING}),
        _stage("pod-gone", "Pod", [deleted], {"finalizers": {"empty": True}, "delete": True}),
    ]


def _stage(name: str, kind: str, when: list[dict[str, Any]], then: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": when},
            "next": then,
        },
    }
