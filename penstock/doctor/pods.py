"""Judges pods that do not come up: why, and what mends it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from penstock.doctor.facts import ClusterFacts, Json, Unseen
from penstock.doctor.findings import Finding, ok, skipped, wrong
from penstock.doctor.place import COMPONENT
from penstock.pod_reasons import CONTAINER_REASONS, CRASHES, IMAGE_REASONS

__all__ = ["judge_pods", "why_not_ready"]

CLASS = "penstock/worker-class"
JOB = "job-name"


def judge_pods(facts: ClusterFacts) -> Iterator[Finding]:
    if isinstance(facts.pods, Unseen):
        yield skipped("pods", facts.pods.why)
        return
    well = 0
    for pod in facts.pods:
        why = why_not_ready(pod, facts.said)
        if why is None:
            well += 1
            continue
        what = f"pod {pod['metadata']['name']}"
        code, text = why
        yield wrong(what, text, _mend(pod, code, facts), only_warns=code in ("unschedulable", "starts", "failed"))
    yield ok("pods", f"{well} of {len(facts.pods)} are well")


def why_not_ready(pod: Json, said: Mapping[str, str]) -> tuple[str, str] | None:
    """A code and a sentence; None: it is ready, or has ended as it should. said: what pods say of themselves."""
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded" or "deletionTimestamp" in pod["metadata"]:
        return None
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    for one in status.get("containerStatuses") or ():
        state = one.get("state") or {}
        waiting = state.get("waiting") or {}
        reason, message = str(waiting.get("reason", "")), " ".join(str(waiting.get("message", "")).split())
        if reason in IMAGE_REASONS:
            return "image", f"the image {one.get('image', '')} can't be had ({reason}): {message}"[:400]
        if reason in CONTAINER_REASONS:
            return "container", f"its container can't be made ({reason}): {message}"[:400]
        if reason == CRASHES:
            ended = ((one.get("lastState") or {}).get("terminated")) or {}
            code = ended.get("exitCode", "an unknown code")
            return "crash", f"it ends again and again, with {code} ({ended.get('reason', 'no reason')})"
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return "unschedulable", f"no node takes it: {scheduled.get('message', '')}"
    if status.get("phase") == "Failed":
        if JOB in (pod["metadata"].get("labels") or {}):
            return None  # the Job has tried again, or says itself that it failed
        return (
            "failed",
            f"it failed and lies there: {status.get('reason') or status.get('message') or 'no reason given'}",
        )
    if (conditions.get("Ready") or {}).get("status") == "True":
        return None
    told = said.get(pod["metadata"]["name"])
    return ("waits", f"it is not ready: {told}") if told else ("starts", "it is not ready yet")


def _mend(pod: Json, code: str, facts: ClusterFacts) -> str:
    release, name, namespace = facts.release, pod["metadata"]["name"], pod["metadata"]["namespace"]
    labels = pod["metadata"].get("labels") or {}
    of_class = labels.get(CLASS) if namespace == release.workers else None
    part = f"worker.classes.{of_class}" if of_class else str(labels.get(COMPONENT, "planner"))
    match code:
        case "image":
            where = f"{part}.image=REPOSITORY:TAG" if of_class else "image.repository=REPOSITORY,image.tag=TAG"
            return release.upgrade(f"--set {where}   # or image.pullSecrets")
        case "unschedulable":
            return release.upgrade(f"--set {part}.resources.requests.cpu=LESS   # or add nodes")
        case "container":
            return f"kubectl -n {namespace} describe pod {name}   # names the Secret that is to be made"
        case "failed":
            return f"kubectl -n {namespace} delete pod {name}"
        case "waits" if "penstock migrate" in facts.said.get(name, ""):
            return release.migrate()
    return f"kubectl -n {namespace} logs {name} --all-containers --tail=50{' --previous' * (code == 'crash')}"
