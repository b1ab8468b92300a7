"""What the chart tells programs is what programs take: settings, classes, and the pods that the scheduler makes."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path

import pytest

from penstock.runtime import certificates
from penstock.runtime.settings import Settings, load
from scheduler.backends.kubernetes.classes import ClassFile, short_name
from scheduler.backends.kubernetes.surroundings import surroundings_of
from scheduler.backends.kubernetes.template import Owner, pod_json
from tests.cluster.chart.rendering import CHART, HERE, RELEASE, VALUES, helm, of_kind, pod_specs, render
from tests.cluster.programs.control_plane import ControlPlane

SECRETS = {
    "DATABASE_URL": "postgresql://penstock@db.example/penstock",
    "PENSTOCK_REDIS_URL": "redis://redis.example:6379/0",
    "PENSTOCK_BLOBS_URL": "s3://penstock",
    "PENSTOCK_PLANNER__DATABASES": "{}",
    "PENSTOCK_TOKEN": "pst_" + "a" * 43,
    "AWS_": "key",
}
"""What stands in Secrets, by a part of the variable's name."""


def environments(name: str) -> dict[str, dict[str, str]]:
    """Container -> its whole environment."""
    found = {}
    for what, spec in pod_specs(render(name)):
        for container in (*spec["containers"], *spec.get("initContainers", [])):
            found[f"{what}/{container['name']}"] = {
                one["name"]: one["value"]
                if "value" in one
                else next(value for part, value in SECRETS.items() if part in one["name"])
                for one in container["env"]
            }
    return found


def settings_of(name: str, service: str) -> Settings:
    return load(environments(name)[f"Deployment/{RELEASE}-{service}/{service}"])


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_that_a_container_is_given_is_one(name: str) -> None:
    seen = environments(name)
    assert len(seen) >= 4
    for environment in seen.values():
        load(environment)


@pytest.mark.parametrize("name", VALUES)
def test_the_scheduler_reads_every_class(name: str, tmp_path: Path) -> None:
    objects = render(name)
    (kept,) = [one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"] == f"{RELEASE}-classes"]
    file = tmp_path / "classes.yaml"
    file.write_text(kept["data"]["classes.yaml"])
    classes = ClassFile(file)
    classes.read()
    assert classes.problem == ""
    (quota,) = of_kind(objects, "ResourceQuota")
    assert sum(one.max for one in classes.classes.values()) <= int(quota["spec"]["hard"]["pods"])


def test_programs_take_the_certificates_that_the_chart_makes(tmp_path: Path) -> None:
    made = {one["metadata"]["name"]: one["data"] for one in of_kind(render("minimal"), "Secret") if "data" in one}
    services = ("planner", "scheduler", "analyzer", "gateway", "worker", "client")
    authorities = set()
    for service in services:
        folder = tmp_path / service
        folder.mkdir()
        for file, text in made[f"{RELEASE}-{service}-tls"].items():
            (folder / file).write_bytes(base64.b64decode(text))
        authorities.add((folder / "ca.crt").read_bytes())
        held = certificates.read(folder)
        assert held.names == (f"penstock-{service}",)
        assert held.usages == {certificates.SERVER, certificates.CLIENT}
        assert held.authority_ends is not None, "the authority in ca.crt has signed it"
        assert held.ended(datetime.datetime.now(datetime.UTC)) == ""
    assert len(authorities) == 1


def test_names_are_shortened_alike_by_chart_and_scheduler() -> None:
    # The refusal of classes that collide rests on it: 20 characters, and no dash at the end.
    assert short_name("documents-of-customers-a") == short_name("documents-of-customers-b") == "documents-of-custome"
    assert short_name("documents-of-custom-ers") == "documents-of-custom"


def test_the_walls_let_in_every_pod_that_the_scheduler_makes(control_plane: ControlPlane, tmp_path: Path) -> None:
    namespace = control_plane.namespace("pods")
    environment = {"KUBECONFIG": str(control_plane.kubeconfig), "HOME": str(tmp_path)}
    values = ["--values", str(HERE / "values" / "classes.yaml")]
    helm("install", RELEASE, str(CHART), "-n", namespace, *values, environment=environment)
    # What classes.yaml names and a cluster has: a runtime and a priority.
    control_plane.apply(
        {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc"},
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "batch"}, "value": 1},
    )
    file = tmp_path / "classes.yaml"
    read = ("get", "configmap", f"{RELEASE}-classes", "-o", "json")
    file.write_text(json.loads(control_plane.kubectl("-n", namespace, *read))["data"]["classes.yaml"])
    classes = ClassFile(file)
    classes.read()
    around = surroundings_of(settings_of("classes", "scheduler"), {})
    account = control_plane.account_kubeconfig(namespace, f"{RELEASE}-scheduler")
    with control_plane.client(account) as api:
        there = api.get(f"/api/v1/namespaces/{RELEASE}-workers/configmaps/{RELEASE}-workers").json()
        owner = Owner(there["metadata"]["name"], there["metadata"]["uid"])
        for name, one in classes.classes.items():
            _, pod = pod_json(name, one, around, slot=0, generation=1, owner=owner)
            made = api.post(f"/api/v1/namespaces/{RELEASE}-workers/pods?dryRun=All", json=pod)
            assert made.status_code == 201, f"{name}: {made.text}"
    helm("uninstall", RELEASE, "-n", namespace, environment=environment)
