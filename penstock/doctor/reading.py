"""Sees what there is of a release in a cluster. What may not be seen is told as such, with the API server's own reason;
one that does not answer any more raises Away.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from penstock.client.diagnosis_views import RightView
from penstock.doctor.facts import ClusterFacts, Json, SecretSeen, Unseen
from penstock.doctor.kube import Away, Kube, Refused
from penstock.doctor.place import COMPONENT, INSTANCE, Release
from penstock.doctor.pods import why_not_ready
from penstock.doctor.quantities import amount
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.runtime.rights import Question, questions

__all__ = ["find_release", "read_cluster"]

T = TypeVar("T")

PART = "app.kubernetes.io/part-of=penstock"
AT_ONCE = 8
MOST_LOGS = 8


def find_release(kube: Kube, *, name: str, namespace: str) -> Release | None:
    """The one that is named; of one alone, that one; None where there is none at all. Raises NotFound for a name that
    there is not, InvalidInput where several could be meant, Away."""
    selector = f"{PART},{COMPONENT}=scheduler"
    query = {"labelSelector": selector}
    try:
        where = f"/apis/apps/v1/namespaces/{namespace}/deployments" if namespace else "/apis/apps/v1/deployments"
        found = kube.listed(where, **query)
    except Refused:
        if namespace:
            raise
        found = kube.listed(f"/apis/apps/v1/namespaces/{kube.namespace}/deployments", **query)
    every = [_release(one) for one in found]
    chosen = [one for one in every if name in ("", one.name)]
    if len(chosen) == 1:
        return chosen[0]
    shown = ", ".join(f"--release {one.name} --namespace {one.namespace}" for one in chosen or every)
    if chosen:
        raise InvalidInput(f"there are several releases; name one: {shown}", code="several_releases")
    if name or namespace:
        told = f"; there are: {shown}" if every else ""
        what = f"release {name}" if name else "release"
        raise NotFound(f"there is no {what} in {namespace or 'this cluster'}{told}", code="release_not_found")
    return None


def _release(deployment: Json) -> Release:
    metadata = deployment["metadata"]
    name = str(metadata["labels"][INSTANCE])
    workers = _environment(deployment).get("PENSTOCK_SCHEDULER__WORKER_NAMESPACE", f"{name}-workers")
    return Release(name=name, namespace=str(metadata["namespace"]), workers=workers)


def read_cluster(kube: Kube, release: Release) -> ClusterFacts:
    """Raises Away."""
    own, workers = f"namespaces/{release.namespace}", f"namespaces/{release.workers}"
    mine = {"labelSelector": f"{INSTANCE}={release.name},{PART}"}
    jobs: dict[str, Callable[[], tuple[Json, ...]]] = {
        "deployments": lambda: kube.listed(f"/apis/apps/v1/{own}/deployments", **mine),
        "autoscalers": lambda: kube.listed(f"/apis/autoscaling/v2/{own}/horizontalpodautoscalers", **mine),
        "jobs": lambda: kube.listed(f"/apis/batch/v1/{own}/jobs", **mine),
        "pods": lambda: kube.listed(f"/api/v1/{own}/pods", labelSelector=f"{INSTANCE}={release.name}"),
        "workers": lambda: kube.listed(f"/api/v1/{workers}/pods", labelSelector=f"{INSTANCE}={release.name}"),
        "namespace": lambda: kube.there(f"/api/v1/{workers}"),
        "quotas": lambda: kube.listed(f"/api/v1/{workers}/resourcequotas"),
        "policies": lambda: _policies(kube, release),
        "own_network": lambda: kube.listed(f"/apis/networking.k8s.io/v1/{own}/networkpolicies"),
        "network": lambda: kube.listed(f"/apis/networking.k8s.io/v1/{workers}/networkpolicies"),
        "classes": lambda: kube.there(f"/api/v1/{own}/configmaps/{release.name}-classes"),
    }
    with ThreadPoolExecutor(AT_ONCE) as threads:
        under_way = {name: threads.submit(_seen, job) for name, job in jobs.items()}
        rights = threads.submit(_seen, lambda: _rights(kube, release))
        seen = {name: one.result() for name, one in under_way.items()}
        deployments = seen["deployments"]
        scheduler = next((one for one in _of(deployments) if _component(one) == "scheduler"), None)
        environment = _environment(scheduler) if scheduler else {}
        owner = environment.get("PENSTOCK_SCHEDULER__PODS_OWNER", f"{release.name}-workers")
        classes = _classes(seen["classes"])
        owned = threads.submit(_seen, lambda: kube.there(f"/api/v1/{workers}/configmaps/{owner}"))
        named = _named_secrets(_of(deployments), release, environment, {} if isinstance(classes, Unseen) else classes)
        secrets = threads.submit(_seen, lambda: tuple(_secret(kube, *place, keys) for place, keys in named.items()))
        pods = _both(seen["pods"], seen["workers"])
        said = _said(kube, _of(pods), release)
        return ClusterFacts(
            release=replace(release, admin_token=_admin_token(_of(deployments))),
            deployments=deployments,
            autoscalers=seen["autoscalers"],
            jobs=seen["jobs"],
            pods=pods,
            worker_namespace=seen["namespace"],
            owner=owned.result(),
            owner_name=owner,
            classes=classes,
            quotas=seen["quotas"],
            policies=seen["policies"],
            network_policies=_both(seen["own_network"], seen["network"]),
            rights=rights.result(),
            secrets=secrets.result(),
            said=said,
        )


def _seen(job: Callable[[], T]) -> T | Unseen:
    try:
        return job()
    except Refused as error:
        return Unseen(str(error))


def _of(seen: tuple[Json, ...] | Unseen) -> tuple[Json, ...]:
    return () if isinstance(seen, Unseen) else seen


def _both(one: tuple[Json, ...] | Unseen, other: tuple[Json, ...] | Unseen) -> tuple[Json, ...] | Unseen:
    if isinstance(one, Unseen):
        return one
    return other if isinstance(other, Unseen) else one + other


def _component(deployment: Json) -> str:
    return str(deployment["metadata"]["labels"].get(COMPONENT, ""))


def _environment(deployment: Json) -> dict[str, str]:
    (container, *_) = deployment["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container.get("env") or () if "value" in one}


def _admin_token(deployments: tuple[Json, ...]) -> tuple[str, str]:
    """The Secret that the gateway has it from, and the key there; "" where there is no gateway to be seen."""
    for deployment in deployments:
        for volume in deployment["spec"]["template"]["spec"].get("volumes") or ():
            if volume["name"] == "admin-token" and (secret := volume.get("secret")):
                return str(secret["secretName"]), str(secret["items"][0]["key"])
    return "", ""


def _policies(kube: Kube, release: Release) -> tuple[Json, ...]:
    """The policy and its binding, each with its kind."""
    name = f"{release.namespace}.{release.name}.workers"
    group = "/apis/admissionregistration.k8s.io/v1"
    return (
        *kube.there(f"{group}/validatingadmissionpolicies/{name}"),
        *kube.there(f"{group}/validatingadmissionpolicybindings/{name}"),
    )


def _classes(seen: tuple[Json, ...] | Unseen) -> Mapping[str, Json] | Unseen:
    if isinstance(seen, Unseen):
        return seen
    if not seen:
        return Unseen("there is no ConfigMap with the classes")
    import yaml  # the client of the API server brings it along

    try:
        told = yaml.safe_load(seen[0]["data"]["classes.yaml"])
        classes = {str(name): dict(spec) for name, spec in (told or {}).items()}
        for spec in classes.values():
            # As the scheduler reads them; what it does not take is not judged either.
            int(spec.get("max", 0)), list(spec.get("secrets") or ())
            for kind in (spec.get("resources") or {}).values():
                _ = {name: amount(quantity) for name, quantity in dict(kind).items()}
        return classes
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        return Unseen(f"the ConfigMap with the classes can't be read: {error}")


def _rights(kube: Kube, release: Release) -> tuple[RightView, ...]:
    user = f"system:serviceaccount:{release.namespace}:{release.name}-scheduler"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{release.namespace}", "system:authenticated"]

    def ask(one: Question) -> RightView:
        return {
            "namespace": one.namespace or None,
            "verb": one.right.verb,
            "resource": one.right.resource,
            "name": one.name or None,
            "wanted": one.wanted,
            "allowed": kube.may(user, groups, one.attributes()),
        }

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return tuple(threads.map(ask, questions(release.workers, f"{release.name}-workers", release.namespace)))


def _named_secrets(
    deployments: tuple[Json, ...], release: Release, environment: Mapping[str, str], classes: Mapping[str, Json]
) -> dict[tuple[str, str], set[str]]:
    """(namespace, name) -> keys that it should have."""
    named: dict[tuple[str, str], set[str]] = {}
    for deployment in deployments:
        spec = deployment["spec"]["template"]["spec"]
        for volume in spec.get("volumes") or ():
            if secret := volume.get("secret"):
                keys = {item["key"] for item in secret.get("items") or ()}
                named.setdefault((release.namespace, secret["secretName"]), set()).update(keys)
        for container in spec["containers"]:
            for variable in container.get("env") or ():
                if reference := (variable.get("valueFrom") or {}).get("secretKeyRef"):
                    named.setdefault((release.namespace, reference["name"]), set()).add(reference["key"])
    tls = environment.get("PENSTOCK_SCHEDULER__WORKER_TLS_SECRET", f"{release.name}-worker-tls")
    if tls != "none":
        named[release.workers, tls] = {"ca.crt", "tls.crt", "tls.key"}
    for spec in classes.values():
        for name in spec.get("secrets") or ():
            named.setdefault((release.workers, name), set())
    return named


def _secret(kube: Kube, namespace: str, name: str, keys: set[str]) -> SecretSeen:
    found = kube.there(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    if not found:
        return SecretSeen(namespace=namespace, name=name, there=False, lacking=tuple(sorted(keys)))
    data = found[0].get("data") or {}
    annotations = found[0]["metadata"].get("annotations") or {}
    generation = str(annotations.get("penstock/generation", ""))
    return SecretSeen(
        namespace=namespace,
        name=name,
        there=True,
        lacking=tuple(sorted(keys - set(data))),
        end_time=_end(data.get("tls.crt")),
        authority_end_time=_end(data.get("ca.crt")),
        generation=int(generation) if generation.isdecimal() else 0,
    )


def _end(encoded: str | None) -> str:
    """Until when the first certificate in there holds; "" for what is none."""
    if not encoded:
        return ""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(base64.b64decode(encoded))[0].not_valid_after_utc.isoformat()
    except ValueError:
        return ""


def _said(kube: Kube, pods: tuple[Json, ...], release: Release) -> dict[str, str]:
    """What programs that are not ready wrote last about why; of none whose log may not, or can't, be read."""
    waiting = [
        pod["metadata"]["name"]
        for pod in pods
        if pod["metadata"]["namespace"] == release.namespace and (why_not_ready(pod, {}) or ("",))[0] == "starts"
    ]
    said = {}
    for name in waiting[:MOST_LOGS]:
        with contextlib.suppress(Refused, Away):  # a node that does not answer is no reason to look at nothing
            told = kube.text(f"/api/v1/namespaces/{release.namespace}/pods/{name}/log", tailLines="100")
            if sentence := _last_error(told):
                said[name] = sentence
    return said


def _last_error(log: str) -> str:
    for line in reversed(log.splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("warning", "error") and entry.get("error"):
            return str(entry["error"])
    return ""
