"""Who tries whom behind the chart's NetworkPolicies: probe pods with the labels of the product's pods, and strangers.

`PEOPLE` are the pods, `targets` what each of them tries: every port of every pod, the Services of the chart, and the
node's own addresses (stores, API server, names). `wanted` says what should pass, from the table of edges and from what
docs/cluster.md says of stores; it does not read the policies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tests.cluster.box.place import HOST
from tests.cluster.chart.rendering import CHART
from tests.cluster.programs.control_plane import API_ADDRESS
from tests.cluster.programs.node import IMAGE

__all__ = ["NAMESPACES", "PEOPLE", "RELEASE", "Target", "Who", "pod_of", "targets", "values", "wanted"]

RELEASE = HOME = "walled"
WORKERS, ELSEWHERE, MONITORING, INGRESS = "walled-workers", "elsewhere", "monitoring", "ingress"
NAMESPACES = (HOME, WORKERS, ELSEWHERE, MONITORING, INGRESS)

GRPC, HEALTH, METRICS, HTTP = 7443, 7070, 9090, 8420
POSTGRESQL, REDIS, S3, MODELS = 5432, 6379, 9000, 8443
NOBODYS = 2222
PORTS = (GRPC, HEALTH, METRICS, HTTP, POSTGRESQL, REDIS, S3, NOBODYS)
API_PORTS = (443, 6443)
STORE, OUTSIDE = "10.77.0.2", "10.77.0.3"
"""More addresses of the node: of the stores, and of somebody else who listens on the same ports."""
OUTSIDE_PORTS = (POSTGRESQL, REDIS, S3, MODELS, NOBODYS)
NAMES = {GRPC: "grpc", HEALTH: "health", METRICS: "metrics", HTTP: "http"}

SERVICES = ("planner", "scheduler", "analyzer", "gateway")
_EDGES = {(edge["from"], edge["to"]) for edge in yaml.safe_load((CHART / "files" / "edges.yaml").read_text())["edges"]}
_EDGES |= {("client", service) for service in SERVICES if service != "gateway"}
_STORES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("planner", "analyzer", "gateway"), (POSTGRESQL, S3)),
    "scheduler": (POSTGRESQL, S3, REDIS),
    "worker": (S3,),
    "client": (S3,),
    "migrations": (POSTGRESQL,),
}


@dataclass(frozen=True, kw_only=True)
class Who:
    """A pod. component "": it has none of the product's labels; of: the release in its labels."""

    name: str
    namespace: str = HOME
    component: str = ""
    of: str = RELEASE
    worker_class: str = ""

    @property
    def labels(self) -> Mapping[str, str]:
        names = {"app.kubernetes.io/name": "penstock", "app.kubernetes.io/instance": self.of}
        more = {"penstock/worker-class": self.worker_class} if self.worker_class else {}
        return {**names, **more, "app.kubernetes.io/component": self.component} if self.component else {}

    @property
    def walled(self) -> bool:
        """Whether the release's policies are for it."""
        ours = bool(self.component) and self.of == RELEASE
        return self.namespace == WORKERS or (self.namespace == HOME and ours)

    @property
    def part(self) -> str:
        """The component that it really is, and not only says; "": none."""
        at = WORKERS if self.component == "worker" else HOME
        return self.component if self.walled and self.namespace == at and self.of == RELEASE else ""


PEOPLE = (
    *(Who(name=name, component=name) for name in (*SERVICES, "client", "migrations")),
    Who(name="worker", namespace=WORKERS, component="worker", worker_class="default"),
    Who(name="agent", namespace=WORKERS, component="worker", worker_class="agents"),
    # Right in part: each must be taken for what it is.
    Who(name="unlabelled", namespace=WORKERS),
    Who(name="planner-there", namespace=WORKERS, component="planner"),
    Who(name="worker-here", component="worker", worker_class="agents"),
    Who(name="bystander"),
    Who(name="planner-of-other", component="planner", of="other"),
    Who(name="worker-elsewhere", namespace=ELSEWHERE, component="worker", worker_class="agents"),
    Who(name="prometheus", namespace=MONITORING),
    Who(name="controller", namespace=INGRESS),
)


def pod_of(who: Who) -> Mapping[str, Any]:
    """It listens on every port, and tries when asked to."""
    listens = [*(f"tcp::{port}" for port in PORTS), *(f"udp::{port}" for port in (GRPC, NOBODYS))]
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": ["listen", *listens],
        # The chart's Services name ports.
        "ports": [{"name": NAMES[port], "containerPort": port} for port in NAMES],
    }
    metadata = {"name": who.name, "namespace": who.namespace, "labels": dict(who.labels)}
    spec = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def values(*, narrow: bool) -> Mapping[str, Any]:
    """Of the chart. narrow: with addresses, not ports alone, and with who may come to the gateway and for metrics."""
    found: dict[str, Any] = {
        "postgresql": {"url": f"postgresql://penstock:none@{STORE}:{POSTGRESQL}/penstock"},
        "redis": {"url": f"redis://{STORE}:{REDIS}/0"},
        "s3": {"url": "s3://penstock", "endpoint": f"http://{STORE}:{S3}", "accessKeyId": "a", "secretAccessKey": "b"},
        "worker": {
            "classes": {"agents": {"slots": 1, "max": 1, "egress": [{"cidr": f"{OUTSIDE}/32", "ports": [MODELS]}]}}
        },
    }
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}
    found["worker"]["classes"]["agents"]["resources"] = resources
    if narrow:
        stores = {name: {"cidrs": [f"{STORE}/32"]} for name in ("postgresql", "redis", "s3")}
        found["networkPolicy"] = {
            "dns": {"cidrs": [f"{HOST}/32"]},
            "egress": {**stores, "apiServer": {"cidrs": [f"{HOST}/32"]}},
            "gatewayFrom": [_peer(INGRESS)],
            "metricsFrom": [_peer(MONITORING)],
        }
    return found


def _peer(namespace: str) -> Mapping[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


@dataclass(frozen=True, kw_only=True)
class Target:
    """`at` (a pod, or an address of the node) on a port; `asked`: where it is asked, as the probe is told it."""

    at: Who | str
    port: int
    asked: str
    service: bool = False

    @property
    def name(self) -> str:
        where = self.at.name if isinstance(self.at, Who) else self.at
        way = self.asked.partition(":")[0]
        return f"{where}{' by its service' if self.service else ''}:{self.port}{'' if way == 'tcp' else '/' + way}"


def targets(pods: Mapping[str, str], services: Mapping[str, str]) -> Sequence[Target]:
    """Addresses of pods by name, and of the chart's Services by component."""
    return list(_targets(pods, services))


def _targets(pods: Mapping[str, str], services: Mapping[str, str]) -> Iterator[Target]:
    for who in PEOPLE:
        for port in PORTS:
            yield Target(at=who, port=port, asked=f"tcp:{pods[who.name]}:{port}")
        for port in (GRPC, NOBODYS):
            yield Target(at=who, port=port, asked=f"udp:{pods[who.name]}:{port}")
    for component, address in sorted(services.items()):
        at = next(who for who in PEOPLE if who.name == component)
        for port in (HTTP if component == "gateway" else GRPC, METRICS):
            yield Target(at=at, port=port, asked=f"tcp:{address}:{port}", service=True)
    for address in (STORE, OUTSIDE):
        for port in OUTSIDE_PORTS:
            yield Target(at=address, port=port, asked=f"tcp:{address}:{port}")
    yield Target(at=HOST, port=6443, asked=f"tcp:{HOST}:6443")
    yield Target(at=HOST, port=6443, asked=f"tcp:{API_ADDRESS}:443", service=True)
    yield Target(at=HOST, port=53, asked=f"tcp:{HOST}:53")
    yield Target(at=HOST, port=53, asked=f"dns:{HOST}:53")


def wanted(caller: Who, target: Target, *, narrow: bool) -> bool:
    """Whether it should pass. Of a pod and itself policies say nothing: that is not asked."""
    return _leaves(caller, target, narrow=narrow) and _comes_in(caller, target, narrow=narrow)


def _tcp(target: Target) -> bool:
    return target.asked.startswith("tcp:")


def _leaves(caller: Who, target: Target, *, narrow: bool) -> bool:
    if not caller.walled:
        return True
    part, at, port = caller.part, target.at, target.port
    if port == 53:
        return (bool(part) or caller.namespace == HOME) and at == HOST
    if not _tcp(target):
        return False
    if isinstance(at, Who) and port == GRPC and at.part and (part, at.part) in _EDGES:
        return True
    if (part, port) == ("client", HTTP) and isinstance(at, Who) and at.part == "gateway":
        return True
    if port in _STORES.get(part, ()) and (at == STORE or not narrow):
        return True
    if part == "scheduler" and port in API_PORTS and (at == HOST or not narrow):
        return True
    return part == "worker" and caller.worker_class == "agents" and (at, port) == (OUTSIDE, MODELS)


def _comes_in(caller: Who, target: Target, *, narrow: bool) -> bool:
    at, port = target.at, target.port
    if isinstance(at, str) or not at.walled:
        return True
    if not _tcp(target):
        return False
    if at.part == "gateway" and port == HTTP:
        return not narrow or caller.namespace == INGRESS or caller.part == "client"
    if port == METRICS and at.part in SERVICES:
        return narrow and caller.namespace == MONITORING
    # Clients speak to programs, and no pod of the chart does so to them.
    return port == GRPC and bool(at.part) and (caller.part, at.part) in _EDGES
