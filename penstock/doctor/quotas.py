"""Judges whether the quota of the worker namespace has room for what the classes may ask for. Pure.

A class may have `max` pods; each asks for its `resources`. What a quota bounds and a class does not name is no room for
that class at all: Kubernetes refuses such a pod.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal

from penstock.doctor.facts import ClusterFacts, Json, Unseen
from penstock.doctor.findings import Finding, ok, skipped, wrong
from penstock.doctor.place import Release
from penstock.doctor.quantities import amount, written

__all__ = ["asked_for", "judge_quotas"]

_COMPUTE = ("cpu", "memory", "ephemeral-storage")


def judge_quotas(facts: ClusterFacts) -> Iterator[Finding]:
    what, release = "quota", facts.release
    if isinstance(facts.quotas, Unseen) or isinstance(facts.classes, Unseen):
        unseen = facts.quotas if isinstance(facts.quotas, Unseen) else facts.classes
        assert isinstance(unseen, Unseen)
        yield skipped(what, unseen.why)
        return
    if not facts.quotas:
        text = f"the namespace {release.workers} has none: nothing bounds whoever starts pods there"
        yield wrong(what, text, release.restore(), only_warns=True)
        return
    for quota in facts.quotas:
        yield from _of(quota, facts.classes, facts)


def _of(quota: Json, classes: Mapping[str, Json], facts: ClusterFacts) -> Iterator[Finding]:
    name, hard = quota["metadata"]["name"], quota["spec"].get("hard") or {}
    what = f"quota {name}"
    short: dict[str, str] = {}
    told: list[str] = []
    for key, most in sorted(hard.items()):
        if key.startswith("count/") and key != "count/pods":
            continue
        unnamed = [one for one, spec in sorted(classes.items()) if spec.get("max") and _lacks(key, spec)]
        if unnamed:
            kind, resource = _kind(key)
            values = ",".join(f"worker.classes.{one}.resources.{kind}.{resource}=AMOUNT" for one in unnamed)
            text = f"it bounds {key}, which the class {', '.join(unnamed)} does not name: its pods are refused"
            yield wrong(what, text, facts.release.upgrade(f"--set {values}"))
            continue
        need = sum((asked_for(key, spec) for spec in classes.values()), Decimal(0))
        if need > amount(most):
            short[key] = written(need, key)
            told.append(f"{key}: the classes may ask for {short[key]}, it has {most}")
    if short:
        text = f"smaller than the sum of the classes' limits: {'; '.join(told)}"
        yield wrong(what, text, _mend(name, short, facts.release))
    else:
        yield ok(what, f"has room for {sum(int(spec.get('max', 0)) for spec in classes.values())} workers")


def _mend(name: str, short: Mapping[str, str], release: Release) -> str:
    """The chart refuses a quota of its own that is too small: that one was changed by somebody."""
    if name == f"{release.name}-workers":
        return release.restore()
    patch = json.dumps({"spec": {"hard": short}})
    return f"kubectl -n {release.workers} patch resourcequota {name} --type merge -p '{patch}'"


def asked_for(key: str, spec: Json) -> Decimal:
    """By all pods of a class, of what a quota calls `key`."""
    most = Decimal(int(spec.get("max", 0)))
    if key in ("pods", "count/pods"):
        return most
    kind, resource = _kind(key)
    return most * amount(_named(spec, kind, resource) or 0)


def _lacks(key: str, spec: Json) -> bool:
    kind, resource = _kind(key)
    return resource in _COMPUTE and _named(spec, kind, resource) is None


def _kind(key: str) -> tuple[str, str]:
    if key.startswith("limits."):
        return "limits", key.removeprefix("limits.")
    return "requests", key.removeprefix("requests.")


def _named(spec: Json, kind: str, resource: str) -> object:
    """What is asked for is, where only the limit is named, the limit."""
    resources = spec.get("resources") or {}
    found = (resources.get(kind) or {}).get(resource)
    if found is None and kind == "requests":
        found = (resources.get("limits") or {}).get(resource)
    return found
