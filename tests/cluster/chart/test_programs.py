"""What the chart tells programs is what programs take: settings and classes."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path

import pytest

from penstock.runtime import certificates
from penstock.runtime.settings import Settings, load
from scheduler.backends.kubernetes.classes import ClassFile, short_name
from tests.cluster.chart.rendering import RELEASE, VALUES, Refused, of_kind, pod_specs, render

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


def test_workers_of_the_charts_image_are_pulled_as_its_programs_are() -> None:
    policies = {
        container["imagePullPolicy"] for _, spec in pod_specs(render("minimal")) for container in spec["containers"]
    }
    assert policies == {settings_of("minimal", "scheduler").scheduler.pod_pull_policy}


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


@pytest.mark.parametrize(
    ("name", "other", "short"),
    [
        ("documents-of-customers-a", "documents-of-customers-b", "documents-of-custome"),
        ("documents-of-custom-ers", "documents-of-custom", "documents-of-custom"),
        ("documents-of-folks--x", "documents-of-folks", "documents-of-folks"),
        ("documents-of-folk--ers", "documents-of-folk--ing", "documents-of-folk--e"),
    ],
)
def test_names_are_shortened_alike_by_chart_and_scheduler(name: str, other: str, short: str) -> None:
    # The refusal of classes that collide rests on it: what the chart lets pass ends the scheduler at its start.
    small = '{"resources": {"requests": {"cpu": 1, "memory": 1}, "limits": {"memory": 1}}}'
    assert short_name(name) == short
    if short_name(other) != short:
        render("minimal", sets=(f"worker.classes.{name}={small}", f"worker.classes.{other}={small}"))
        return
    with pytest.raises(Refused, match=f"are both {short} in the names of their pods"):
        render("minimal", sets=(f"worker.classes.{name}={small}", f"worker.classes.{other}={small}"))
