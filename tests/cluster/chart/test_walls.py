"""What a pod of the worker namespace may be, and what the scheduler may do there: tried at a real API server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from penstock.runtime.rights import WANTED
from tests.cluster.chart.rendering import CHART, Object, helm, values
from tests.cluster.programs.control_plane import ControlPlane
from tests.cluster.showing import show

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
# `get` on one ConfigMap by name is no `get` on ConfigMaps.
SCHEDULER = {(right.resource, right.verb) for right in WANTED if not right.owned}


def worker_pod(release: str, **spec: Any) -> Object:
    container = {
        "name": "worker",
        "image": "penstock:0.1.0",
        "env": [
            {"name": "PENSTOCK_WORKER__SLOTS", "value": "32"},
            {"name": "PENSTOCK_WORKER_SESSION", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Gi"},
            "limits": {"memory": "2Gi", "ephemeral-storage": "2Gi"},
        },
        **spec.pop("container", {}),
    }
    labels = spec.pop("labels", {"penstock/worker-class": "default"})
    whole = {
        "serviceAccountName": f"{release}-worker",
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "containers": spec.pop("containers", [container]),
        "volumes": [
            {"name": "tls", "secret": {"secretName": f"{release}-worker-tls"}},
            {"name": "s3", "secret": {"secretName": f"{release}-worker-s3"}},
            {"name": "data", "emptyDir": {}},
        ],
        **spec,
    }
    metadata = {"name": "one", "labels": labels, "finalizers": whole.pop("finalizers", [])}
    metadata["annotations"] = whole.pop("annotations", {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}


def with_volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "more", **source}]}


SAFE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
BOUND = {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Gi"}
ELSEWHERE = {"httpGet": {"host": "169.254.169.254", "port": 80}, "tcpSocket": {"host": "10.0.0.1", "port": 22}}
CLOUD_TOKEN = {"serviceAccountToken": {"path": "token", "audience": "sts.amazonaws.com", "expirationSeconds": 86400}}
CLOUD = 'worker.serviceAccount.annotations={"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/workers"}'
ANNOTATIONS = 'worker.annotationsOfOthers=["cloud.example/"]'
FOREIGN = {
    "class": ({"labels": {"penstock/worker-class": "other"}}, "the classes are default"),
    "account": ({"serviceAccountName": "default"}, "a worker's service account is walls-worker"),
    "token": ({"automountServiceAccountToken": True}, "a worker has no token"),
    "projected token": (
        with_volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]}),
        "volumes of a worker of class 'default' are emptyDirs and the Secrets",
    ),
    "projected token for others than the cloud": (
        with_volume(projected={"sources": [CLOUD_TOKEN, {"serviceAccountToken": {"path": "a", "audience": "vault"}}]}),
        "volumes of a worker of class 'default' are emptyDirs and the Secrets",
    ),
    "more than the cloud's token": (
        with_volume(projected={"sources": [CLOUD_TOKEN, {"secret": {"name": "another"}}]}),
        "volumes of a worker of class 'default' are emptyDirs and the Secrets",
    ),
    "image": (
        {"container": {"image": "elsewhere.example/miner:1"}},
        "the image of a worker of class 'default' is penstock:0.1.0: see worker.classes",
    ),
    "a second container": (
        {
            "containers": [
                {
                    "name": name,
                    "image": "penstock:0.1.0",
                    "securityContext": SAFE,
                    "resources": {"requests": BOUND, "limits": BOUND},
                }
                for name in ("worker", "more")
            ]
        },
        "a worker has one container",
    ),
    **{
        f"another network by {key}": ({"annotations": {key: "[]"}}, "a worker's annotations are the scheduler's own")
        for key in ("k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network", "cni.projectcalico.org/ipAddrs")
    },
    "a queue's annotation without a queue": (
        {"annotations": {"kueue.x-k8s.io/role-hash": "x"}},
        "a worker's annotations are the scheduler's own: see worker.annotationsOfOthers",
    ),
    **{
        name: ({"tolerations": [toleration]}, "a worker's tolerations are those of its class: see worker.classes")
        for name, toleration in {
            "on a control plane": {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"},
            "on every node": {"operator": "Exists"},
            "on others' nodes": {"key": "dedicated", "operator": "Equal", "value": "others", "effect": "NoSchedule"},
            "on a node that is drained": {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"},
        }.items()
    },
    "on nodes of its choice": ({"nodeSelector": {"pool": "databases"}}, "a worker's nodeSelector is that of its class"),
    "Secret": (with_volume(secret={"secretName": "another"}), "see worker.classes.default.secrets"),
    "ConfigMap": (with_volume(configMap={"name": "another"}), "are emptyDirs and the Secrets"),
    "Secret as environment": (
        {"container": {"envFrom": [{"secretRef": {"name": "another"}}]}},
        "nothing out of Secrets or ConfigMaps",
    ),
    "one key of a Secret": (
        {"container": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "another", "key": "a"}}}]}},
        "nothing out of Secrets or ConfigMaps",
    ),
    "more containers before": (
        {"initContainers": [{"name": "a", "image": "penstock:0.1.0"}]},
        "no init containers",
    ),
    "writable root": (
        {"container": {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}},
        "writes to its volumes alone",
    ),
    "host path": (with_volume(hostPath={"path": "/"}), "are emptyDirs and the Secrets"),
    "host network": ({"hostNetwork": True}, "shares nothing of its host"),
    "host port": ({"container": {"ports": [{"containerPort": 1, "hostPort": 1}]}}, "shares nothing of its host"),
    "privileged": ({"container": {"securityContext": {"privileged": True}}}, "no privileges"),
    "another runtime": ({"runtimeClassName": "lax"}, "a worker's runtimeClassName is that of its class"),
    "before all others": ({"priorityClassName": "system-node-critical"}, "priorityClassName is that of its class"),
    "a node by name": ({"nodeName": "control-plane"}, "a worker's node is chosen by the cluster"),
    "root of its own": (
        {"hostUsers": False, "container": {"securityContext": {**SAFE, "runAsNonRoot": False, "runAsUser": 0}}},
        "no privileges",
    ),
    "devices that no class has": (
        {"container": {"resources": {kind: {**BOUND, "example.com/gpu": "8"} for kind in ("requests", "limits")}}},
        "a worker's resources are cpu, ephemeral-storage, memory, and no claims",
    ),
    "claims": ({"resourceClaims": [{"name": "a", "resourceClaimName": "b"}]}, "and no claims"),
    "what keeps it for ever": ({"finalizers": ["example.com/never"]}, "a worker has no finalizers"),
    **{
        f"{hook} of another machine": ({"container": {hook: {asks: ELSEWHERE[asks]}}}, "name no host")
        for hook in ("livenessProbe", "readinessProbe", "startupProbe")
        for asks in ELSEWHERE
    },
    **{
        f"{hook} on another machine": ({"container": {"lifecycle": {hook: {asks: ELSEWHERE[asks]}}}}, "name no host")
        for hook in ("postStart", "preStop")
        for asks in ELSEWHERE
    },
}


def pod_security(control_plane: ControlPlane, level: str) -> None:
    label = f"pod-security.kubernetes.io/enforce={level}"
    control_plane.kubectl("label", "--overwrite", "namespace", "walls-workers", label)


@pytest.fixture(scope="module")
def walls(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> ControlPlane:
    """A release named walls, installed; the namespace of its workers has what they need."""
    control_plane.namespace("walls")
    environment = {"KUBECONFIG": str(control_plane.kubeconfig), "HOME": str(tmp_path_factory.mktemp("home"))}
    words = ("install", "walls", str(CHART), "-n", "walls", *values("minimal"))
    helm(*words, "--set-json", CLOUD, "--set-json", ANNOTATIONS, environment=environment)
    # PodSecurity refuses much of the same, and first: here the policy has to do it by itself.
    pod_security(control_plane, "privileged")
    control_plane.kubectl("-n", "walls-workers", "create", "secret", "generic", "another", "--from-literal=a=b")
    lax = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "lax"}, "handler": "runc"}
    control_plane.apply(lax)
    # The policy is in force a moment after it is made.
    account = control_plane.account_kubeconfig("walls", "walls-scheduler")
    bad = worker_pod("walls", serviceAccountName="default")
    with control_plane.client(account) as api:
        for _ in range(200):
            path = "/api/v1/namespaces/walls-workers/pods?dryRun=All"
            if "ValidatingAdmissionPolicy" in api.post(path, json=bad).text:
                break
        else:
            pytest.fail("the policy has not come into force")
    return control_plane


def test_the_scheduler_makes_a_worker_by_its_own_rights(walls: ControlPlane) -> None:
    account = walls.account_kubeconfig("walls", "walls-scheduler")
    with walls.client(account) as api:
        for level in ("restricted", "privileged"):
            pod_security(walls, level)
            made = api.post("/api/v1/namespaces/walls-workers/pods?dryRun=All", json=worker_pod("walls"))
            assert made.status_code == 201, made.text
        assert api.get("/api/v1/namespaces/walls-workers/configmaps/walls-workers").status_code == 200


def test_what_the_cluster_itself_puts_on_each_pod_is_let_in(walls: ControlPlane) -> None:
    """A token that the cloud mounts for itself, and an annotation that the values name."""
    volumes = with_volume(projected={"sources": [CLOUD_TOKEN]})
    known = worker_pod("walls", **volumes, annotations={"cloud.example/looked-at": "yes"})
    known["spec"]["containers"][0]["env"].append({"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::1:role/workers"})
    with walls.client() as api:
        made = api.post("/api/v1/namespaces/walls-workers/pods?dryRun=All", json=known)
    assert made.status_code == 201, made.text


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_a_pod_that_is_no_worker_is_refused_whoever_makes_it(
    foreign: tuple[dict[str, Any], str], walls: ControlPlane
) -> None:
    changes, told = foreign
    pod = worker_pod("walls", **json.loads(json.dumps(changes)))
    # An administrator is no way around: the walls are the namespace's.
    account = walls.account_kubeconfig("walls", "walls-scheduler")
    for kubeconfig in (account, None):
        with walls.client(kubeconfig) as api:
            refused = api.post("/api/v1/namespaces/walls-workers/pods?dryRun=All", json=pod)
        assert refused.status_code in (403, 422), refused.text
        assert told in refused.json()["message"], refused.text


def test_a_worker_that_is_there_does_not_become_another_thing(walls: ControlPlane) -> None:
    """By `kubectl set image` and `kubectl debug`, as an administrator. Labels may change, as they do."""
    place = "/api/v1/namespaces/walls-workers/pods/one"
    merge = {"Content-Type": "application/strategic-merge-patch+json"}
    shell = {"name": "shell", "image": "penstock:0.1.0", "command": ["sh"]}
    with walls.client() as api:
        api.post(place.rpartition("/")[0], json=worker_pod("walls")).raise_for_status()

        def patched(spec: dict[str, Any], part: str = "") -> httpx.Response:
            return api.patch(f"{place}{part}", content=json.dumps(spec), headers=merge)

        other = patched({"spec": {"containers": [{"name": "worker", "image": "elsewhere.example/miner:1"}]}})
        debugged = patched({"spec": {"ephemeralContainers": [shell]}}, "/ephemeralcontainers")
        labelled = patched({"metadata": {"labels": {"looked-at": "yes"}}})
        api.request("DELETE", place, json={"gracePeriodSeconds": 0}).raise_for_status()
    assert (other.status_code, debugged.status_code, labelled.status_code) == (422, 422, 200), labelled.text
    assert "the image of a worker of class 'default' is penstock:0.1.0" in other.text
    assert "no init containers and no ephemeral ones" in debugged.text


def test_more_than_the_sum_of_all_classes_is_no_pod(walls: ControlPlane) -> None:
    # All that the quota bounds is named: too much CPU is all that is wrong.
    rest = {"memory": "1Gi", "ephemeral-storage": "1Gi"}
    huge = worker_pod("walls", container={"resources": {"requests": {"cpu": "3", **rest}, "limits": rest}})
    with walls.client() as api:
        refused = api.post("/api/v1/namespaces/walls-workers/pods?dryRun=All", json=huge)
    assert refused.status_code == 403
    assert "exceeded quota: walls-workers, requested: requests.cpu=3" in refused.text, refused.text


def table_of_rights(resources: Sequence[tuple[str, str]], allowed: set[tuple[str, str, str, str]]) -> str:
    """A line for each resource that was tried in each place, a column for each verb."""
    names = [f"{group}/{resource}" if group else resource for group, resource in resources]
    width = max(map(len, names))
    tried = 3 * len(resources) * len(VERBS)
    lines = [
        "What the scheduler's service account may do: every verb on every resource that the API server has.",
        f"{tried} rights were tried, {len(allowed)} are allowed. `get` on the ConfigMap that owns the pods is allowed",
        "by its name, which is no `get` on configmaps.",
    ]
    for namespace, what in (
        ("walls-workers", "worker namespace"),
        ("walls", "its own namespace"),
        ("", "whole cluster"),
    ):
        lines += ["", f"{what:<{width}}  {'  '.join(f'{verb:<8}' for verb in VERBS)}".rstrip()]
        for (group, resource), name in zip(resources, names, strict=True):
            cells = ["ALLOWED" if (namespace, group, resource, verb) in allowed else "refused" for verb in VERBS]
            columns = "  ".join(f"{cell:<{max(8, len(verb))}}" for cell, verb in zip(cells, VERBS, strict=True))
            lines.append(f"{name:<{width}}  {columns}".rstrip())
    return "\n".join(lines) + "\n"


def test_every_verb_on_every_resource_that_is_not_the_schedulers_job_is_refused(walls: ControlPlane) -> None:
    """All resources that the API server has, in both namespaces and in the whole cluster."""
    groups = [("", "/api/v1")]
    with walls.client() as api:
        for group in api.get("/apis").json()["groups"]:
            groups.append((group["name"], f"/apis/{group['preferredVersion']['groupVersion']}"))
        resources = {(name, one["name"]) for name, path in groups for one in api.get(path).json()["resources"]}
        allowed = set()
        user = "system:serviceaccount:walls:walls-scheduler"
        for (group, resource), verb in itertools.product(sorted(resources), VERBS):
            kind, _, subresource = resource.partition("/")
            for namespace in ("walls-workers", "walls", ""):
                attributes = {"group": group, "resource": kind, "subresource": subresource, "verb": verb}
                if namespace:
                    attributes["namespace"] = namespace
                review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
                spec = {"user": user, "groups": ["system:serviceaccounts"], "resourceAttributes": attributes}
                answer = api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json={**review, "spec": spec})
                if answer.json()["status"]["allowed"]:
                    allowed.add((namespace, group, resource, verb))
    show("rights-of-the-scheduler.txt", table_of_rights(sorted(resources), allowed))
    assert allowed == {("walls-workers", "", resource, verb) for resource, verb in SCHEDULER}
    assert len(resources) > 50
