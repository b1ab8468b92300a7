"""Judges what the API server says of a release: its programs, Jobs, Secrets, the worker namespace, its walls. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.client.diagnosis_views import RightView
from penstock.doctor.certificates import judge_end
from penstock.doctor.facts import ClusterFacts, Json, SecretSeen, Seen, Unseen
from penstock.doctor.findings import Finding, ok, skipped, wrong
from penstock.doctor.place import COMPONENT, Place, Release
from penstock.doctor.pods import judge_pods
from penstock.doctor.quotas import judge_quotas

__all__ = ["PROGRAMS", "judge_cluster"]

PROGRAMS = ("planner", "scheduler", "analyzer", "gateway")
PSS = "pod-security.kubernetes.io/enforce"


def judge_cluster(facts: ClusterFacts, *, now_ms: int) -> list[Finding]:
    parts = {
        "deployments": _deployments(facts.deployments, facts.release),
        "jobs": _jobs(facts.jobs, facts.release),
        "pods": judge_pods(facts),
        "secrets": _secrets(facts, now_ms=now_ms),
        "worker namespace": _worker_namespace(facts),
        "quota": judge_quotas(facts),
        "walls": _walls(facts),
        "service account": _rights(facts),
    }
    return [finding for what, part in parts.items() for finding in _as_far_as_it_goes(what, part)]


def _as_far_as_it_goes(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """An object without what every such object has ends its own part, not the others."""
    try:
        yield from findings
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        yield skipped(what, f"what the API server has of it can't be read ({type(error).__name__}: {error})")


def _deployments(seen: Seen, release: Release) -> Iterator[Finding]:
    if isinstance(seen, Unseen):
        yield skipped("deployments", seen.why)
        return
    found = {one["metadata"]["labels"].get(COMPONENT): one for one in seen}
    images: dict[str, list[str]] = {}
    for program in PROGRAMS:
        what, deployment = f"deployment {program}", found.get(program)
        if deployment is None:
            yield wrong(what, "there is none", release.restore())
            continue
        containers = deployment["spec"]["template"]["spec"]["containers"]
        images.setdefault(str(containers[0]["image"]), []).append(program)
        wanted = int(deployment["spec"].get("replicas", 1))
        status = deployment.get("status") or {}
        ready = int(status.get("readyReplicas", 0))
        if wanted == 0:
            scale = release.kubectl(f"scale deployment/{release.name}-{program} --replicas=1")
            yield wrong(what, "it is scaled to none", scale)
        elif ready == 0:
            yield wrong(what, f"none of {wanted} pods is ready", release.logs(program))
        elif ready < wanted:
            rollout = release.kubectl(f"rollout status deployment/{release.name}-{program}")
            yield wrong(what, f"{ready} of {wanted} pods are ready", rollout, only_warns=True)
        elif (fresh := int(status.get("updatedReplicas", wanted))) < wanted:
            rollout = release.kubectl(f"rollout status deployment/{release.name}-{program}")
            yield wrong(what, f"{fresh} of {wanted} pods are as they should be by now", rollout, only_warns=True)
        else:
            yield ok(what, f"{ready} of {wanted} ready")
    if len(images) > 1:
        shown = "; ".join(f"{image}: {', '.join(names)}" for image, names in sorted(images.items()))
        yield wrong("images", f"programs have several: {shown}", release.restore(), only_warns=True)
    elif images:
        yield ok("images", next(iter(images)))


def _jobs(seen: Seen, release: Release) -> Iterator[Finding]:
    if isinstance(seen, Unseen):
        yield skipped("jobs", seen.why)
        return
    for job in seen:
        name = job["metadata"]["name"]
        conditions = {
            one["type"] for one in (job.get("status") or {}).get("conditions") or () if one["status"] == "True"
        }
        if "Complete" in conditions:
            yield ok(f"job {name}", "done")
        elif "Failed" in conditions:
            logs = release.kubectl(f"logs job/{name} --tail=50")
            again = release.kubectl(f"delete job {name}")
            yield wrong(f"job {name}", "it failed", f"{logs}; {again} && {release.restore()}")
        else:
            wait = release.kubectl(f"wait --for=condition=complete job/{name} --timeout=5m")
            yield wrong(f"job {name}", "it has not ended yet", wait, only_warns=True)


def _secrets(facts: ClusterFacts, *, now_ms: int) -> Iterator[Finding]:
    if isinstance(facts.secrets, Unseen):
        yield skipped("secrets", facts.secrets.why)
        return
    lacking = [one for one in facts.secrets if not one.there or one.lacking]
    for one in lacking:
        missing = f"it has no key {', '.join(one.lacking)}" if one.there else "there is none"
        yield wrong(f"secret {one.name}", f"{missing} in the namespace {one.namespace}", _make(one, facts.release))
    if not lacking:
        yield ok("secrets", f"all {len(facts.secrets)} that are named are there")
    place = Place(facts.release)
    for one in facts.secrets:
        for whose, end in (("certificate in", one.end_time), ("authority in", one.authority_end_time)):
            if end:
                finding = judge_end(f"{whose} {one.name}", end, place, now_ms=now_ms, generation=one.generation)
                if finding.mend or whose.startswith("certificate"):
                    yield finding


def _make(one: SecretSeen, release: Release) -> str:
    """The chart's own come back with it, others somebody has to make."""
    if one.name.startswith(f"{release.name}-"):
        return release.upgrade()
    keys = " ".join(f"--from-file={key}=FILE" for key in one.lacking or ("KEY",))
    if one.there:
        return f"kubectl -n {one.namespace} edit secret {one.name}   # add {', '.join(one.lacking)}"
    return f"kubectl -n {one.namespace} create secret generic {one.name} {keys}"


def _worker_namespace(facts: ClusterFacts) -> Iterator[Finding]:
    release, what = facts.release, "worker namespace"
    if isinstance(facts.worker_namespace, Unseen):
        yield skipped(what, facts.worker_namespace.why)
    elif not facts.worker_namespace:
        text = f"there is no namespace {release.workers}: no worker can start"
        yield wrong(what, text, release.restore())
        return
    else:
        labels = facts.worker_namespace[0]["metadata"].get("labels") or {}
        if labels.get(PSS) == "restricted":
            yield ok(what, f"{release.workers}, restricted")
        else:
            label = f"kubectl label --overwrite namespace {release.workers} {PSS}=restricted"
            yield wrong(what, f"{release.workers} is not restricted: pods of any privilege may start there", label)
    owner = f"owner {facts.owner_name}"
    if isinstance(facts.owner, Unseen):
        yield skipped(owner, facts.owner.why)
    elif not facts.owner:
        text = f"there is no such ConfigMap in {release.workers}: it owns the pods, and none can start without"
        yield wrong(owner, text, release.restore())
    else:
        yield ok(owner, "there")


def _walls(facts: ClusterFacts) -> Iterator[Finding]:
    release = facts.release
    if isinstance(facts.policies, Unseen):
        yield skipped("admission policy", facts.policies.why)
    else:
        yield _admission({one["kind"]: one for one in facts.policies}, release)
    if isinstance(facts.network_policies, Unseen):
        yield skipped("network policies", facts.network_policies.why)
        return
    denied = {
        one["metadata"]["namespace"]
        for one in facts.network_policies
        if one["metadata"]["name"] == f"{release.name}-deny"
    }
    for namespace in (release.namespace, release.workers):
        if namespace not in denied:
            text = f"nothing cuts traffic in {namespace}: {release.name}-deny is not there"
            yield wrong("network policies", text, release.restore("--set networkPolicy.enabled=true"), only_warns=True)
    if denied >= {release.namespace, release.workers}:
        yield ok("network policies", f"{len(facts.network_policies)}, all else is cut")


def _admission(policies: dict[str, Json], release: Release) -> Finding:
    what = "admission policy"
    binding = policies.get("ValidatingAdmissionPolicyBinding")
    if "ValidatingAdmissionPolicy" not in policies or binding is None:
        text = f"there is none for {release.workers}: the scheduler's account may start pods of any image"
        return wrong(what, text, release.restore("--set worker.admissionPolicy=true"), only_warns=True)
    if "Deny" not in (binding["spec"].get("validationActions") or ()):
        return wrong(what, "its binding denies nothing", release.restore())
    return ok(what, "denies what is no worker")


def _rights(facts: ClusterFacts) -> Iterator[Finding]:
    what, release = "service account", facts.release
    if isinstance(facts.rights, Unseen):
        yield skipped(what, facts.rights.why)
        return
    lacking = [_told(one) for one in facts.rights if one["wanted"] and not one["allowed"]]
    beyond = [_told(one) for one in facts.rights if one["allowed"] and not one["wanted"]]
    if lacking:
        yield wrong(what, f"{release.name}-scheduler may not: {', '.join(lacking)}", release.restore())
    if beyond:
        look = f"kubectl get rolebindings,clusterrolebindings -A -o wide | grep {release.name}-scheduler"
        text = f"{release.name}-scheduler may more than its Role: {', '.join(beyond)}"
        yield wrong(what, text, f"{look}   # then delete what is not the chart's")
    if not lacking and not beyond:
        yield ok(what, f"{release.name}-scheduler may what its Role says, and nothing of what was tried besides")


def _told(right: RightView) -> str:
    name = f"/{right['name']}" if right["name"] else ""
    return f"{right['verb']} {right['resource']}{name} in {right['namespace'] or 'the whole cluster'}"
