"""The pod that a worker of a class runs in: JSON as it is sent to the API server.

Restricted pod security throughout; no token; nothing of the node. The hash over all that does not differ between the
pods of a class is a label: workers of another hash are of an old template.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from scheduler.backends.kubernetes.classes import PodClass, short_name
from scheduler.domain.pod_status import CLASS, GENERATION, INSTANCE, SLOT, TEMPLATE

__all__ = ["Owner", "Surroundings", "name_of", "pod_json", "template_hash"]

Json = dict[str, Any]

USER = 65_532
INIT, PROGRAM = "/opt/penstock/venv/bin/penstock-init", "penstock-worker"
DATA, TLS, SECRETS = "/var/lib/penstock", "/etc/penstock/tls", "/etc/penstock/secrets"
PROCESSORS = "/etc/penstock/processors"
EXECUTABLE = 0o555
"""Of the processors' files: a program that a declaration starts lies beside it."""
REPORT_SECONDS = 5
"""Of the grace, kept for the last reports and the end of the session."""
QUEUE = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class Owner:
    """The ConfigMap with which all pods go."""

    name: str
    uid: str


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all classes share. image: where a class names none; pull_policy: when a node asks for that one, "": as
    Kubernetes does; tls_secret: "": there is none; processors: the ConfigMap with declared ones, "": there is none;
    environment: what every worker is told besides."""

    release: str
    image: str
    tls_secret: str
    pull_policy: str = ""
    processors: str = ""
    environment: Mapping[str, str]


def name_of(release: str, worker_class: str, slot: int) -> str:
    """One name a slot: the API server refuses a second pod of it."""
    return f"{release}-{short_name(worker_class)}-{slot}"


def template_hash(name: str, of_class: PodClass, around: Surroundings) -> str:
    text = orjson.dumps(_spec(name, of_class, around), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text + of_class.queue_name.encode()).hexdigest()[:12]


def pod_json(
    name: str, of_class: PodClass, around: Surroundings, *, slot: int, generation: int, owner: Owner
) -> tuple[str, Json]:
    """A pod's name, and the pod."""
    pod_name = name_of(around.release, name, slot)
    spec = _spec(name, of_class, around)
    spec["containers"][0]["env"].append({"name": "PENSTOCK_WORKER_SESSION", "value": f"{pod_name}-{generation}"})
    labels = {
        "app.kubernetes.io/name": "penstock",
        INSTANCE: around.release,
        "app.kubernetes.io/component": "worker",
        CLASS: name,
        SLOT: str(slot),
        GENERATION: str(generation),
        TEMPLATE: template_hash(name, of_class, around),
    }
    if of_class.queue_name:
        labels[QUEUE] = of_class.queue_name
    metadata = {
        "name": pod_name,
        "labels": labels,
        # Whoever drains nodes or removes idle ones may take them: they have somebody who makes them anew.
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }
    return pod_name, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _spec(name: str, of_class: PodClass, around: Surroundings) -> Json:
    environment = {
        **around.environment,
        **of_class.env,
        "PENSTOCK_DATA": DATA,
        "PENSTOCK_WORKER__WORKER_CLASS": name,
        "PENSTOCK_WORKER__SLOTS": str(of_class.slots),
        "PENSTOCK_WORKER__DRAIN_SECONDS": str(max(of_class.grace_seconds - REPORT_SECONDS, 1)),
    }
    volumes: list[Json] = [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    mounts: list[Json] = [{"name": "data", "mountPath": DATA}, {"name": "tmp", "mountPath": "/tmp"}]
    if around.tls_secret:
        environment["PENSTOCK_TLS__FOLDER"] = TLS
        volumes.append({"name": "tls", "secret": {"secretName": around.tls_secret}})
        mounts.append({"name": "tls", "mountPath": TLS, "readOnly": True})
    if around.processors:
        environment["PENSTOCK_PROCESSORS"] = PROCESSORS
        volumes.append({"name": "processors", "configMap": {"name": around.processors, "defaultMode": EXECUTABLE}})
        mounts.append({"name": "processors", "mountPath": PROCESSORS, "readOnly": True})
    if of_class.secrets:
        environment["PENSTOCK_WORKER__SECRETS_FOLDER"] = SECRETS
    for index, secret in enumerate(of_class.secrets):
        volumes.append({"name": f"secret-{index}", "secret": {"secretName": secret}})
        mounts.append({"name": f"secret-{index}", "mountPath": f"{SECRETS}/{secret}", "readOnly": True})
    container: Json = {
        "name": "worker",
        "image": of_class.image or around.image,
        "command": [INIT, PROGRAM],
        "env": [{"name": key, "value": value} for key, value in sorted(environment.items())],
        "resources": of_class.resources,
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if around.pull_policy and container["image"] == around.image:
        container["imagePullPolicy"] = around.pull_policy
    spec: Json = {
        "restartPolicy": "Never",
        "serviceAccountName": f"{around.release}-worker",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": of_class.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    optional = {
        "nodeSelector": of_class.node_selector,
        "tolerations": of_class.tolerations,
        "affinity": of_class.affinity,
        "runtimeClassName": of_class.runtime_class,
        "priorityClassName": of_class.priority_class,
    }
    spec |= {key: value for key, value in optional.items() if value}
    return spec
