"""A real API server takes every render, and keeps a release through install, upgrade, rollback and uninstall."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.chart.rendering import CHART, HERE, VALUES, Object, Refused, helm, render
from tests.cluster.programs.control_plane import ControlPlane

OF_OTHERS = ("cert-manager.io/", "monitoring.coreos.com/", "gateway.networking.k8s.io/")
"""Kinds that the API server learns of operators that are not here: rendered, and looked at as objects, alone."""
EXAMPLES = CHART.parent.parent / "examples" / "cluster"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
SCHEDULER = {
    *(("pods", verb) for verb in ("create", "get", "list", "watch", "delete")),
    ("pods/log", "get"),
}

Helm = Callable[..., str]


@pytest.fixture
def installer(control_plane: ControlPlane, tmp_path: Path) -> Helm:
    """Helm as an administrator of the real cluster."""
    environment = {"KUBECONFIG": str(control_plane.kubeconfig), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    return lambda *words: helm(*words, environment=environment)


@pytest.fixture
def namespaces(control_plane: ControlPlane) -> Iterator[Callable[[str], str]]:
    """Makes namespaces, which go with the test."""
    made = []

    def make(name: str, **labels: str) -> str:
        made.append(control_plane.namespace(name, labels=labels))
        return name

    yield make
    for name in made:
        control_plane.kubectl("delete", "namespace", name, "--wait=false")


def values(name: str) -> list[str]:
    return ["--values", str(HERE / "values" / f"{name}.yaml")]


def secret(control_plane: ControlPlane, namespace: str, name: str) -> dict[str, str]:
    """Its data, decoded."""
    data = json.loads(control_plane.kubectl("-n", namespace, "get", "secret", name, "-o", "json"))["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def ours(control_plane: ControlPlane, release: str) -> list[str]:
    """All that is left of a release, whatever its kind."""
    kinds = control_plane.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    kinds = [kind for kind in kinds if not kind.startswith("events")]
    selector = f"app.kubernetes.io/instance={release}"
    return control_plane.kubectl("get", ",".join(kinds), "-A", "-l", selector, "-o", "name").split()


@pytest.mark.parametrize("name", VALUES)
def test_the_api_server_takes_every_render(
    name: str, control_plane: ControlPlane, namespaces: Callable[..., str]
) -> None:
    release = f"dry-{name}"
    namespace = namespaces(release)
    objects = render(name, release=release, namespace=namespace)
    workers = next(one["metadata"]["namespace"] for one in objects if one["kind"] == "ResourceQuota")
    namespaces(workers)
    known = [one for one in objects if not one["apiVersion"].startswith(OF_OTHERS)]
    assert len(known) >= 20
    whole = {"apiVersion": "v1", "kind": "List", "items": known}
    words = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-")
    done = control_plane.try_kubectl(*words, text=json.dumps(whole))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr


def test_the_manifests_of_the_try_out_are_taken_and_restricted(
    control_plane: ControlPlane, namespaces: Callable[..., str]
) -> None:
    level = {"pod-security.kubernetes.io/warn": "restricted"}
    namespace = namespaces("try-out", **level)
    files = sorted(path for path in EXAMPLES.glob("*.yaml") if path.name != "values.yaml")
    assert len(files) >= 4
    for path in files:
        done = control_plane.try_kubectl("-n", namespace, "apply", "--dry-run=server", "-f", str(path))
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr


def test_the_values_of_the_try_out_are_taken(installer: Helm) -> None:
    said = installer("template", "penstock", str(CHART), "-n", "penstock", "--values", str(EXAMPLES / "values.yaml"))
    assert said.count("kind: Deployment") == 4


def test_a_release_lives_through_upgrades_and_the_way_back_and_leaves_nothing(
    control_plane: ControlPlane, installer: Helm, namespaces: Callable[..., str]
) -> None:
    namespace = namespaces("life")
    said = installer("install", "life", str(CHART), "-n", namespace, *values("minimal"))
    assert "helm test life -n life --logs" in said
    assert "WARNING, for GitOps" in said
    before = {name: secret(control_plane, namespace, f"life-{name}") for name in ("ca", "planner-tls", "admin-token")}
    worker = secret(control_plane, "life-workers", "life-worker-tls")
    assert worker["ca.crt"] == before["ca"]["tls.crt"]
    assert before["admin-token"]["admin-token"].startswith("pst_")

    installer("upgrade", "life", str(CHART), "-n", namespace, *values("minimal"), "--set", "planner.replicas=2")
    after = {name: secret(control_plane, namespace, f"life-{name}") for name in before}
    assert after == before, "what was made at the install is kept"

    installer("upgrade", "life", str(CHART), "-n", namespace, *values("minimal"), "--set", "tls.chart.generation=2")
    renewed = {name: secret(control_plane, namespace, f"life-{name}") for name in before}
    assert renewed["ca"] == before["ca"]
    assert renewed["planner-tls"]["tls.crt"] != before["planner-tls"]["tls.crt"]
    assert secret(control_plane, "life-workers", "life-worker-tls")["tls.key"] != worker["tls.key"]

    control_plane.kubectl("-n", namespace, "create", "secret", "generic", "redis-ca", "--from-literal=ca.crt=one")
    for name in ("classes", "small", "minimal"):
        installer("upgrade", "life", str(CHART), "-n", namespace, *values(name))
    for revision in ("4", "1"):
        installer("rollback", "life", revision, "-n", namespace)
    installer("uninstall", "life", "-n", namespace, "--wait", "--timeout", "60s")
    # The namespace itself goes with its last object.
    control_plane.kubectl("wait", "--for=delete", "namespace/life-workers", "--timeout=60s")
    assert ours(control_plane, "life") == []


def test_two_releases_stand_in_one_namespace(
    control_plane: ControlPlane, installer: Helm, namespaces: Callable[..., str]
) -> None:
    namespace = namespaces("pair")
    for release in ("one", "two"):
        installer("install", release, str(CHART), "-n", namespace, *values("minimal"))
    with pytest.raises(
        Refused, match=r"worker\.namespace: the namespace one-workers belongs to the release one of pair"
    ):
        installer(
            "upgrade", "two", str(CHART), "-n", namespace, *values("minimal"), "--set", "worker.namespace=one-workers"
        )
    installer("uninstall", "one", "-n", namespace)
    names = ours(control_plane, "two")
    assert len(names) > 25
    installer("uninstall", "two", "-n", namespace)


def test_what_the_cluster_lacks_is_told_before_anything_is_installed(
    control_plane: ControlPlane, installer: Helm, namespaces: Callable[..., str]
) -> None:
    namespace = namespaces("lacking")
    with pytest.raises(Refused) as caught:
        installer("install", "lacks", str(CHART), "-n", namespace, *values("existing-secrets"))
    said = str(caught.value)
    for line in (
        "postgresql.existingSecret: there is no Secret database in the namespace lacking: it has the keys uri",
        "postgresql.caSecret: there is no Secret database-ca",
        "planner.postgresql.existingSecret: there is no Secret database-planner",
        "migrations.postgresql.existingSecret: there is no Secret database-migrations",
        "redis.existingSecret: there is no Secret redis in",
        "s3.existingSecret: there is no Secret blobs in the namespace lacking: it has the keys url, AWS_ACCESS_KEY_ID",
        "auth.existingSecret: there is no Secret admin",
        "tls.secrets.gateway: there is no Secret lacks-gateway-tls",
    ):
        assert line in said
    control_plane.kubectl("-n", namespace, "create", "secret", "generic", "redis", "--from-literal=uri=redis://a")
    with pytest.raises(
        Refused, match=r"redis\.existingSecret: the Secret redis in the namespace lacking has no key url"
    ):
        installer("install", "lacks", str(CHART), "-n", namespace, *values("existing-secrets"))
    assert ours(control_plane, "lacks") == []
    assert "lacks" not in installer("list", "-A")


def test_a_worker_namespace_that_is_not_as_it_should_be_is_refused(
    control_plane: ControlPlane, installer: Helm, namespaces: Callable[..., str]
) -> None:
    namespace = namespaces("strict")
    words = ("install", "strict", str(CHART), "-n", namespace, *values("minimal"))
    absent = ("--set", "worker.createNamespace=false,worker.namespace=nowhere")
    with pytest.raises(Refused, match=r"worker\.namespace: there is no namespace nowhere"):
        installer(*words, *absent)
    loose = namespaces("loose")
    with pytest.raises(Refused, match=r"not made by this chart: set worker\.createNamespace to false"):
        installer(*words, "--set", f"worker.namespace={loose}")
    with pytest.raises(Refused, match=r"has not the label pod-security\.kubernetes\.io/enforce=restricted"):
        installer(*words, "--set", f"worker.createNamespace=false,worker.namespace={loose}")
    assert ours(control_plane, "strict") == []


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
        "containers": [container],
        "volumes": [
            {"name": "tls", "secret": {"secretName": f"{release}-worker-tls"}},
            {"name": "s3", "secret": {"secretName": f"{release}-worker-s3"}},
            {"name": "data", "emptyDir": {}},
        ],
        **spec,
    }
    metadata = {"name": "one", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}


def with_volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "more", **source}]}


FOREIGN = {
    "class": ({"labels": {"penstock/worker-class": "other"}}, "the classes are default"),
    "account": ({"serviceAccountName": "default"}, "a worker's service account is walls-worker"),
    "token": ({"automountServiceAccountToken": True}, "a worker has no token"),
    "projected token": (
        with_volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]}),
        "volumes of a worker of class 'default' are emptyDirs and the Secrets",
    ),
    "image": ({"container": {"image": "elsewhere.example/miner:1"}}, "a worker's image is one of penstock:0.1.0"),
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
}


def pod_security(control_plane: ControlPlane, level: str) -> None:
    label = f"pod-security.kubernetes.io/enforce={level}"
    control_plane.kubectl("label", "--overwrite", "namespace", "walls-workers", label)


@pytest.fixture(scope="module")
def walls(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> ControlPlane:
    """A release named walls, installed; the namespace of its workers has what they need."""
    control_plane.namespace("walls")
    environment = {"KUBECONFIG": str(control_plane.kubeconfig), "HOME": str(tmp_path_factory.mktemp("home"))}
    helm("install", "walls", str(CHART), "-n", "walls", *values("minimal"), environment=environment)
    # PodSecurity refuses much of the same, and first: here the policy has to do it by itself.
    pod_security(control_plane, "privileged")
    control_plane.kubectl("-n", "walls-workers", "create", "secret", "generic", "another", "--from-literal=a=b")
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


def test_more_than_the_sum_of_all_classes_is_no_pod(walls: ControlPlane) -> None:
    huge = worker_pod(
        "walls", container={"resources": {"requests": {"cpu": "3", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}}
    )
    with walls.client() as api:
        refused = api.post("/api/v1/namespaces/walls-workers/pods?dryRun=All", json=huge)
    assert refused.status_code == 403
    assert "exceeded quota: walls-workers" in refused.text or "must specify" in refused.text


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
    # `get` on one ConfigMap by name is no `get` on ConfigMaps, so it does not show here; it is used above.
    assert allowed == {("walls-workers", "", resource, verb) for resource, verb in SCHEDULER}
    assert len(resources) > 50
