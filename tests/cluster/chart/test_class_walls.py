"""Each class's pods, as the scheduler itself makes them, come through the walls, with what the cluster's own admission
and Kueue's put on them; and none of them as another class's.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from scheduler.backends.kubernetes.classes import ClassFile
from scheduler.backends.kubernetes.surroundings import surroundings_of
from scheduler.backends.kubernetes.template import Owner, pod_json
from tests.cluster.chart.rendering import CHART, RELEASE, Object, helm, values
from tests.cluster.chart.test_programs import settings_of
from tests.cluster.programs.control_plane import ControlPlane

NAMESPACE, WORKERS = "kinds", f"{RELEASE}-workers"
CLASSES = ("default", "agents", "gpu", "resting")
OF_CLASS = "are those of its class: see worker.classes"
FAR = [{"key": "far", "operator": "Exists"}]
"""What a sandbox's nodes are kept free for it by."""


class Kinds:
    """A release with several classes."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self.control_plane = control_plane
        file = folder / "classes.yaml"
        told = control_plane.kubectl("-n", NAMESPACE, "get", "configmap", f"{RELEASE}-classes", "-o", "yaml")
        file.write_text(yaml.safe_load(told)["data"]["classes.yaml"])
        self._file = ClassFile(file)
        self._file.read()
        self._around = surroundings_of(settings_of("classes", "scheduler"), {})
        owner = json.loads(control_plane.kubectl("-n", WORKERS, "get", "configmap", WORKERS, "-o", "json"))["metadata"]
        self._owner = Owner(owner["name"], owner["uid"])
        self._account = control_plane.account_kubeconfig(NAMESPACE, f"{RELEASE}-scheduler")

    def pod(self, worker_class: str) -> Object:
        of_class = self._file.classes[worker_class]
        return copy.deepcopy(pod_json(worker_class, of_class, self._around, slot=0, generation=1, owner=self._owner)[1])

    def refusal(self, pod: Object) -> str:
        """Why the scheduler may not make it; "": it may."""
        return str(self._made(pod).get("message", ""))

    def taken(self, pod: Object) -> Object:
        """As the API server would have it."""
        made = self._made(pod)
        assert "spec" in made, made
        return made

    def _made(self, pod: Object) -> Object:
        with self.control_plane.client(self._account) as api:
            answer: Object = api.post(f"/api/v1/namespaces/{WORKERS}/pods?dryRun=All", json=pod).json()
        return answer


@pytest.fixture(scope="module")
def kinds(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kinds]:
    control_plane.namespace(NAMESPACE)
    sandbox = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}}
    far = {"handler": "runsc", "scheduling": {"nodeSelector": {"sandbox": "yes"}, "tolerations": FAR}}
    batch = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "batch"}, "value": 10}
    control_plane.apply({**sandbox, **far}, batch)
    folder = tmp_path_factory.mktemp("kinds")
    environment = {"KUBECONFIG": str(control_plane.kubeconfig), "HOME": str(folder)}
    helm("install", RELEASE, str(CHART), "-n", NAMESPACE, *values("classes"), environment=environment)
    one = Kinds(control_plane, folder)
    foreign = one.pod("default")
    foreign["spec"]["containers"][0]["image"] = "elsewhere.example/miner:1"
    for _ in range(200):  # the policy is in force a moment after it is made
        if "the image of a worker of class 'default'" in one.refusal(foreign):
            break
    else:
        pytest.fail("the policy has not come into force")
    yield one
    helm("uninstall", RELEASE, "-n", NAMESPACE, environment=environment)


@pytest.mark.parametrize("name", CLASSES)
def test_the_pods_of_each_class_come_through_with_what_the_cluster_adds(name: str, kinds: Kinds) -> None:
    made = kinds.taken(kinds.pod(name))["spec"]
    keys = {one.get("key") for one in made["tolerations"]}
    assert {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} <= keys, "the cluster has added them"
    if name == "agents":
        assert {"agents", "far"} <= keys
        assert made["nodeSelector"] == {"pool": "agents", "sandbox": "yes"}


def test_a_class_has_its_own_image_and_no_others(kinds: Kinds) -> None:
    for name, other in (("default", "agents"), ("agents", "default")):
        pod = kinds.pod(name)
        pod["spec"]["containers"][0]["image"] = kinds.pod(other)["spec"]["containers"][0]["image"]
        assert f"the image of a worker of class '{name}' is " in kinds.refusal(pod)


Change = Callable[[Object], None]


def tolerates(*tolerations: Mapping[str, Any]) -> Change:
    def change(pod: Object) -> None:
        pod["spec"].setdefault("tolerations", []).extend(tolerations)

    return change


def selects(**labels: str) -> Change:
    def change(pod: Object) -> None:
        pod["spec"]["nodeSelector"] = labels

    return change


def queued(pod: Object) -> None:
    """As Kueue's webhook leaves it."""
    pod["metadata"]["annotations"]["kueue.x-k8s.io/role-hash"] = "a"
    pod["metadata"]["labels"]["kueue.x-k8s.io/managed"] = "true"
    pod["metadata"]["finalizers"] = ["kueue.x-k8s.io/managed"]
    pod["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]


def limited(pod: Object) -> None:
    pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"] = "LimitRanger plugin set: cpu limit for container a"


DEVICE = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
MASTER = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}
ARCHITECTURE = {"key": "kubernetes.io/arch", "operator": "Equal", "value": "arm64", "effect": "NoSchedule"}
CHANGES: dict[str, tuple[str, Change, str]] = {
    "GKE's, of an architecture": ("default", tolerates(ARCHITECTURE), ""),
    "Kueue's, of a class with a queue": ("gpu", queued, ""),
    "Kueue's, of one without": ("default", queued, "a worker's annotations are the scheduler's own"),
    "a LimitRange's": ("default", limited, ""),
    "a device's taint": ("gpu", tolerates(DEVICE), ""),
    "a device's taint of a class without": ("default", tolerates(DEVICE), OF_CLASS),
    "its own toleration with another effect": (
        "agents",
        tolerates({"key": "", "operator": "Exists", "effect": "NoExecute"}),
        OF_CLASS,
    ),
    "a control plane's, of a class with a sandbox": ("agents", tolerates(MASTER), OF_CLASS),
    "a toleration of another class": (
        "default",
        tolerates({"key": "agents", "operator": "Exists", "effect": "NoSchedule"}),
        OF_CLASS,
    ),
    "other nodes than its class's": ("agents", selects(pool="databases"), "a worker's nodeSelector is that of its"),
    "any node in place of its class's": ("agents", selects(), "a worker's nodeSelector is that of its class"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_added_is_of_the_class_or_of_the_cluster(name: str, kinds: Kinds) -> None:
    worker_class, change, told = CHANGES[name]
    pod = kinds.pod(worker_class)
    change(pod)
    refusal = kinds.refusal(pod)
    assert told in refusal
    assert bool(told) == bool(refusal)


@pytest.fixture
def namespace_of_theirs(kinds: Kinds) -> Iterator[None]:
    """Whose administrator says where all its pods run."""
    keys = ("scheduler.alpha.kubernetes.io/defaultTolerations", "scheduler.alpha.kubernetes.io/node-selector")
    kinds.control_plane.kubectl("annotate", "namespace", WORKERS, f"{keys[0]}=[]", f"{keys[1]}=pool=theirs")
    yield
    kinds.control_plane.kubectl("annotate", "namespace", WORKERS, *(f"{key}-" for key in keys))


def test_what_the_namespace_says_of_its_nodes_passes_but_for_a_control_plane(
    kinds: Kinds, namespace_of_theirs: None
) -> None:
    pod = kinds.pod("default")
    tolerates({"key": "dedicated", "operator": "Exists"})(pod)
    selects(pool="theirs")(pod)
    for _ in range(200):  # the API server sees the namespace's change a moment later
        if not kinds.refusal(pod):
            break
    assert kinds.refusal(pod) == ""
    tolerates(MASTER)(pod)
    assert OF_CLASS in kinds.refusal(pod)
