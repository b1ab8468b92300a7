"""An upgrade, and the way back, ask for nothing that the API server refuses; a Job is made anew when it is another."""

from __future__ import annotations

import itertools

import pytest
import yaml

import gateway.__main__ as gateway
from penstock.runtime import program
from tests.cluster.chart.rendering import VALUES, Object, of_kind, pod_specs, render

PROGRAMS = ("planner", "scheduler", "analyzer", "gateway")
NEWER = ('image.tag="9.9.9"', "worker.classes.default.max=9", "planner.replicas=3", "scheduler.quietSeconds=7")
IMMUTABLE: dict[str, list[tuple[str, ...]]] = {
    "Deployment": [("spec", "selector")],
    "RoleBinding": [("roleRef",)],
    "Secret": [("type",)],
    "Job": [("spec",)],
    "Service": [("spec", "clusterIP")],
}
"""What the API server refuses to change."""


def by_identity(objects: list[Object]) -> dict[tuple[str, str, str], Object]:
    return {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in objects}


def at(one: Object, path: tuple[str, ...]) -> object:
    value: object = one
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


@pytest.mark.parametrize(("older", "newer"), list(itertools.pairwise([*VALUES, VALUES[0]])))
def test_whatever_changes_in_the_values_nothing_immutable_does(older: str, newer: str) -> None:
    before, after = by_identity(render(older)), by_identity(render(newer, sets=NEWER))
    for there, here in ((before, after), (after, before)):
        common = there.keys() & here.keys()
        assert len(common) > 15
        for key in common:
            for path in IMMUTABLE.get(key[0], []):
                assert at(there[key], path) == at(here[key], path), f"{key}: {'.'.join(path)}"


def job_names(*names: str, sets: tuple[str, ...] = ()) -> list[str]:
    return [one["metadata"]["name"] for one in of_kind(render(*names, sets=sets), "Job")]


def test_a_job_is_another_with_another_image_or_setting_and_the_same_otherwise() -> None:
    (plain,) = job_names("minimal")
    assert plain.startswith("demo-migrate-")
    assert job_names("minimal", sets=("planner.replicas=3",)) == [plain]
    others = [
        job_names("minimal", sets=sets)[0]
        for sets in (
            ('image.tag="2"',),
            ('postgresql.url="postgresql://penstock@other.example/penstock"',),
            ('migrations.postgresql.url="postgresql://owner@db.example/penstock"',),
            ("migrations.backoffLimit=2",),
        )
    ]
    assert len({plain, *others}) == 5


def test_the_job_of_limits_is_another_when_they_are() -> None:
    migrate, limits = sorted(job_names("classes"), reverse=True)
    changed = sorted(job_names("classes", sets=('limits={"domain:*": {"concurrency": 3}}',)), reverse=True)
    assert changed[0] == migrate
    assert changed[1] != limits


def test_limits_are_set_one_after_another_by_our_own_command() -> None:
    (spec,) = [spec for what, spec in pod_specs(render("classes")) if what.startswith("Job/demo-limits")]
    commands = [one["command"][2:] for one in (*spec["initContainers"], *spec["containers"])]
    assert commands == [
        ["limits", "set", "domain:*", "--concurrency=2", "--reason=helm demo"],
        [
            *("limits", "set", "provider:anthropic", "--concurrency=8", "--rate=requests=50"),
            *("--rate=tokens=40000,estimate=900", "--adaptive", "--cooldown=30s", "--reason=helm demo"),
        ],
    ]


def test_as_a_hook_the_job_brings_what_it_reads() -> None:
    objects = render("gitops")
    (job,) = of_kind(objects, "Job")
    hooks = {one["metadata"]["name"]: one for one in objects if "helm.sh/hook" in str(one["metadata"])}
    assert job["metadata"]["name"] in hooks
    read = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for variable in job["spec"]["template"]["spec"]["containers"][0]["env"]
        if "valueFrom" in variable
    }
    assert read == {"demo-migrations"}
    secret = hooks["demo-migrations"]["metadata"]["annotations"]
    assert int(secret["helm.sh/hook-weight"]) < int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
    # Its name is another with each version: none but itself would ever take it away.
    for one in hooks.values():
        if one["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade":
            assert "hook-succeeded" in one["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert "serviceAccountName" not in job["spec"]["template"]["spec"], "accounts of the release are not there yet"


def test_pods_start_anew_when_what_they_read_at_the_start_has_changed() -> None:
    def marks(*sets: str) -> dict[str, dict[str, str]]:
        return {
            one["metadata"]["name"]: one["spec"]["template"]["metadata"]["annotations"]
            for one in of_kind(render("minimal", sets=sets), "Deployment")
        }

    plain = marks()
    moved = marks('redis.url="redis://other.example"')
    assert all(moved[name] != plain[name] for name in plain)
    # The scheduler reads its classes again when they change: nothing is restarted for another number of pods.
    assert marks("worker.classes.default.max=5") == plain


def test_a_pod_has_the_time_that_its_program_takes_to_end() -> None:
    least = render("minimal", sets=tuple(f"{name}.terminationGracePeriodSeconds=10" for name in PROGRAMS))
    for one in of_kind(least, "Deployment"):
        spec = one["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        # The one that others come to from outside listens until they have learned that it goes.
        assert bool(sleep) == (container["name"] == "gateway")
        takes = sleep + gateway.GRACE_SECONDS if sleep else program.GRACE_SECONDS
        assert takes < spec["terminationGracePeriodSeconds"]


def test_budgets_stand_where_there_is_more_than_one_pod_and_never_on_workers() -> None:
    plain = {one["metadata"]["name"] for one in of_kind(render("minimal"), "PodDisruptionBudget")}
    assert plain == {"demo-scheduler", "demo-gateway"}
    assert not of_kind(render("small"), "PodDisruptionBudget")
    scaled = render("exposed")
    assert {one["metadata"]["name"] for one in of_kind(scaled, "PodDisruptionBudget")} == {
        "demo-planner",
        "demo-scheduler",
        "demo-analyzer",
        "demo-gateway",
    }
    for one in of_kind(scaled, "Deployment"):
        assert ("replicas" in one["spec"]) == (one["metadata"]["name"] in ("demo-planner", "demo-scheduler"))


def test_classes_reach_the_scheduler_as_it_reads_them() -> None:
    (kept,) = [one for one in of_kind(render("classes"), "ConfigMap") if one["metadata"]["name"] == "demo-classes"]
    classes = yaml.safe_load(kept["data"]["classes.yaml"])
    assert classes.keys() == {"default", "agents", "gpu", "resting"}
    assert classes["agents"]["grace_seconds"] == 600
    assert classes["agents"]["secrets"] == ["anthropic", "github"]
    assert classes["resting"]["max"] == 0
    assert classes["default"]["image"] == "penstock:0.1.0"
    (plain,) = [one for one in of_kind(render("minimal"), "ConfigMap") if one["metadata"]["name"] == "demo-classes"]
    default = yaml.safe_load(plain["data"]["classes.yaml"])["default"]
    # The workers' key to the blobs comes as the file that AWS's own tools read.
    assert default["secrets"] == ["demo-worker-s3"]
    assert default["env"] == {"AWS_SHARED_CREDENTIALS_FILE": "/etc/penstock/secrets/demo-worker-s3/credentials"}


def test_a_program_without_any_pod_is_down_too() -> None:
    (rules,) = of_kind(render("exposed"), "PrometheusRule")
    (down,) = [one for one in rules["spec"]["groups"][0]["rules"] if one["alert"] == "PenstockDown"]
    for name in PROGRAMS:
        assert f'or absent(up{{namespace="penstock",service="demo-{name}"}})' in down["expr"]
    assert "ABSENT" not in str(rules)


def test_probes_ask_no_dependency_whether_a_program_lives() -> None:
    for one in of_kind(render("minimal"), "Deployment"):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["grpc"] == {"port": 7070, "service": "live"}
        assert container["readinessProbe"]["grpc"] == {"port": 7070}
