"""A real API server takes every render, and keeps a release through install, upgrade, rollback and uninstall."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.chart.rendering import CHART, VALUES, Refused, helm, render, values
from tests.cluster.programs.control_plane import ControlPlane

OF_OTHERS = ("cert-manager.io/", "monitoring.coreos.com/", "gateway.networking.k8s.io/")
"""Kinds that the API server learns of operators that are not here: rendered, and looked at as objects, alone."""
EXAMPLES = CHART.parent.parent / "examples" / "cluster"
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


def test_switches_go_off_while_values_are_kept_and_what_is_refused_goes_by_null(
    installer: Helm, namespaces: Callable[[str], str]
) -> None:
    namespace = namespaces("switched")
    oidc = '{"issuer": "https://login.example", "audience": "a", "roles": {"a": "viewer"}, "roleClaim": "groups"}'
    given = ("ingress.enabled=true", 'ingress.host="a.example"', 'networkPolicy.dns.cidrs=["10.0.0.1/32"]')
    words = [word for one in (*given, f"auth.oidc={oidc}") for word in ("--set-json", one)]
    installer("install", "switched", str(CHART), "-n", namespace, *values("minimal"), *words)

    keeps = ("upgrade", "switched", str(CHART), "-n", namespace, "--reset-then-reuse-values")
    off = ("ingress.enabled=false", "networkPolicy.enabled=false")
    told = installer(*keeps, *(word for one in off for word in ("--set", one)))
    assert "Has no effect while ingress.enabled is false: ingress.host\n" in told
    assert "Has no effect while networkPolicy.enabled is false: networkPolicy.dns.cidrs\n" in told

    with pytest.raises(Refused) as caught:
        installer(*keeps, "--set", "auth.oidc.issuer=")
    nulls = re.findall(r"--set \S+=null", str(caught.value))
    assert sorted(nulls) == [f"--set auth.oidc.{name}=null" for name in ("audience", "roleClaim", "roles")]
    installer(*keeps, "--set", "auth.oidc.issuer=", *(word for one in nulls for word in one.split()))


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
