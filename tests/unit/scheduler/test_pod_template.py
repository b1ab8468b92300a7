"""The pod of a class: restricted, without a token, owned, and its hash changes with all that makes it another one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from penstock.runtime.errors import InvalidInput
from scheduler.backends.kubernetes.classes import ClassFile, PodClass
from scheduler.backends.kubernetes.template import Owner, Surroundings, pod_json, template_hash

AROUND = Surroundings(
    release="r", image="penstock:1", tls_secret="r-worker-tls", environment={"PENSTOCK_LOG_LEVEL": "info"}
)
OWNER = Owner("r-workers", "uid-1")


def test_it_is_restricted_and_owned_and_told_who_it_is() -> None:
    of_class = PodClass(slots=4, secrets=["keys"], grace_seconds=90, queue_name="q")
    name, pod = pod_json("gpu", of_class, AROUND, slot=2, generation=5, owner=OWNER)
    assert name == "r-gpu-2"
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "ConfigMap", "uid-1", True, False,
    )  # fmt: skip
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"
    spec = pod["spec"]
    assert (spec["restartPolicy"], spec["automountServiceAccountToken"]) == ("Never", False)
    assert spec["serviceAccountName"] == "r-worker"
    assert spec["terminationGracePeriodSeconds"] == 90
    (container,) = spec["containers"]
    assert container["image"] == "penstock:1"
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["PENSTOCK_WORKER_SESSION"] == "r-gpu-2-5"
    assert environment["PENSTOCK_WORKER__WORKER_CLASS"] == "gpu"
    assert environment["PENSTOCK_WORKER__SLOTS"] == "4"
    assert environment["PENSTOCK_WORKER__DRAIN_SECONDS"] == "85", "what is left of the grace is for the last reports"
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {
        "/var/lib/penstock", "/tmp", "/etc/penstock/tls", "/etc/penstock/secrets/keys",
    }  # fmt: skip
    secrets = [one["secret"]["secretName"] for one in spec["volumes"] if "secret" in one]
    assert secrets == ["r-worker-tls", "keys"]


def test_a_node_asks_for_our_image_as_the_settings_say_and_for_others_as_kubernetes_does() -> None:
    around = dataclasses.replace(AROUND, pull_policy="Never")
    policies = {
        image: pod_json("gpu", PodClass(image=image), around, slot=0, generation=1, owner=OWNER)[1]["spec"][
            "containers"
        ][0].get("imagePullPolicy")
        for image in ("", "penstock:1", "registry.example/agents:3")
    }
    assert policies == {"": "Never", "penstock:1": "Never", "registry.example/agents:3": None}
    plain = pod_json("gpu", PodClass(), AROUND, slot=0, generation=1, owner=OWNER)[1]["spec"]
    assert "imagePullPolicy" not in plain["containers"][0]


def test_processors_and_keys_lie_where_the_worker_looks_for_them() -> None:
    around = dataclasses.replace(AROUND, processors="r-processors")
    plain = pod_json("gpu", PodClass(), AROUND, slot=0, generation=1, owner=OWNER)[1]["spec"]
    spec = pod_json("gpu", PodClass(secrets=["keys"]), around, slot=0, generation=1, owner=OWNER)[1]["spec"]
    added = {one["name"]: one["value"] for one in spec["containers"][0]["env"]}
    assert added["PENSTOCK_PROCESSORS"] == "/etc/penstock/processors"
    assert added["PENSTOCK_WORKER__SECRETS_FOLDER"] == "/etc/penstock/secrets"
    mounts = {one["name"]: one["mountPath"] for one in spec["containers"][0]["volumeMounts"]}
    volumes = {one["name"]: one.get("configMap", {}).get("name") for one in spec["volumes"]}
    assert (mounts["processors"], volumes["processors"]) == ("/etc/penstock/processors", "r-processors")
    assert not {"PENSTOCK_PROCESSORS", "PENSTOCK_WORKER__SECRETS_FOLDER"} & {
        one["name"] for one in plain["containers"][0]["env"]
    }


def test_the_hash_is_that_of_the_class_and_not_of_the_pod() -> None:
    one = PodClass(slots=4)
    first = pod_json("gpu", one, AROUND, slot=0, generation=1, owner=OWNER)[1]["metadata"]["labels"]
    second = pod_json("gpu", one, AROUND, slot=1, generation=9, owner=OWNER)[1]["metadata"]["labels"]
    assert first["penstock/template"] == second["penstock/template"] == template_hash("gpu", one, AROUND)
    others = [
        PodClass(slots=5),
        PodClass(slots=4, image="x"),
        PodClass(slots=4, env={"A": "b"}),
        PodClass(slots=4, queue_name="q"),
    ]
    hashes = {template_hash("gpu", other, AROUND) for other in [one, *others]}
    assert len(hashes) == 5
    assert template_hash("gpu", PodClass(slots=4, max=9), AROUND) == template_hash("gpu", one, AROUND)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("default: {slots: 0, mx: 3}", "default.slots"),
        ("default: [", "no YAML"),
        ("Default: {}", "Default"),
        ("aaaaaaaaaaaaaaaaaaaab: {}\naaaaaaaaaaaaaaaaaaaac: {}", "alike in their first 20 characters"),
        # What the scheduler could not tell the API server would end it.
        ("default: {resources: {limits: {1: a}}}", "default: it can't be told in JSON"),
        ("default: {resources: {limits: {a: !!binary AAAA}}}", "default: it can't be told in JSON"),
        ("[" * 5000, "no YAML"),
    ],
)
def test_a_file_that_cant_be_used_says_where_and_what_was_read_before_stays(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text("default: {slots: 2, max: 7}")
    file = ClassFile(path)
    file.read()
    path.write_text(text)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="classes of workers") as error:
            file.read()
        assert said in str(error.value)
    assert file.classes["default"].max == 7
