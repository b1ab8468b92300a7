"""What a pod's JSON says, as the API server gives it: whether it starts, why not, and how it ended. Pure.

Texts of Kubernetes are told as they are; what would mend it is ours. What is not there is taken for not known: a pod
without a label of ours is nobody's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.pod_reasons import CONTAINER_REASONS, IMAGE_REASONS
from scheduler.domain.pods import API, Death, Phase, Pod, Trouble
from scheduler.domain.rules import Kind

__all__ = ["CLASS", "GENERATION", "INSTANCE", "SLOT", "TEMPLATE", "pod_of", "refusal_of"]

INSTANCE = "app.kubernetes.io/instance"
CLASS, SLOT = "penstock/worker-class", "penstock/slot"
GENERATION, TEMPLATE = "penstock/generation", "penstock/template"
TEXT_CHARACTERS = 600
MOST_NUMBER = 2**31 - 1
"""Of a slot or a generation: a column holds no more, and no pod of ours has it."""

Json = Mapping[str, Any]

# Why the control plane, or the node, took a pod away (condition DisruptionTarget).
_DISRUPTIONS = {
    "PreemptionByScheduler": (Kind.PREEMPTED, "a pod of higher priority took its place"),
    "EvictionByEvictionAPI": (Kind.EVICTED, "it was evicted, as when its node is drained"),
    "TerminationByKubelet": (Kind.EVICTED, "its node ended it"),
    "DeletionByTaintManager": (Kind.NODE_LOST, "its node was not ready, and no longer takes it"),
    "DeletionByPodGC": (Kind.NODE_LOST, "its node is gone"),
}
_REASONS = {
    "Evicted": (Kind.EVICTED, "its node evicted it"),
    "Preempting": (Kind.PREEMPTED, "a critical pod took its place on the node"),
    "NodeShutdown": (Kind.NODE_LOST, "its node was shut down"),
    "Shutdown": (Kind.NODE_LOST, "its node was shut down"),
    "Terminated": (Kind.NODE_LOST, "its node was shut down"),
    "NodeLost": (Kind.NODE_LOST, "its node is lost"),
}


def pod_of(raw: Json, *, gone: bool = False) -> Pod | None:
    """A pod of ours; None for one that has not our labels. gone: there is no such pod any more; this was its last
    word."""
    metadata = raw.get("metadata") or {}
    labels = metadata.get("labels") or {}
    try:
        slot, generation = int(labels[SLOT]), int(labels[GENERATION])
        worker_class = str(labels[CLASS])
    except (KeyError, ValueError):
        return None
    if not (0 <= slot <= MOST_NUMBER and 0 < generation <= MOST_NUMBER):
        return None
    status, spec = raw.get("status") or {}, raw.get("spec") or {}
    phase = Phase(status["phase"]) if status.get("phase") in Phase.__members__.values() else Phase.PENDING
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    is_ready = ready.get("status") == "True"
    name = str(metadata.get("name", ""))
    stuck, waits = _stuck(status, conditions, spec)
    return Pod(
        name=name,
        uid=str(metadata.get("uid", "")),
        session=f"{name}-{generation}",
        worker_class=worker_class,
        slot=slot,
        generation=generation,
        template=str(labels.get(TEMPLATE, "")),
        phase=phase,
        create_ms=_ms(metadata.get("creationTimestamp")) or 0,
        ready=is_ready,
        unready_ms=_ms(ready.get("lastTransitionTime")) if phase is Phase.RUNNING and not is_ready else None,
        removal_ms=_ms(metadata.get("deletionTimestamp")),
        stuck=stuck,
        waits=waits,
        death=_death(status, conditions) if gone or phase in (Phase.SUCCEEDED, Phase.FAILED) else None,
        node=str(spec.get("nodeName", "")),
    )


def _containers(status: Json) -> Sequence[Json]:
    found: Sequence[Json] = status.get("containerStatuses") or ()
    return found


def _ms(text: str | None) -> int | None:
    if not text:
        return None
    return round(dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def _stuck(status: Json, conditions: Mapping[str, Json], spec: Json) -> tuple[Trouble | None, bool]:
    """Why it does not start, and whether it waits for what another pod would wait for too."""
    for one in _containers(status):
        waiting = (one.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason", "")), _short(waiting.get("message"))
        if reason in IMAGE_REASONS:
            text = f"the image {one.get('image', '')} can't be had ({reason}): {message}"
            advice = "check the class's image and tag, and that the nodes may pull it (imagePullSecrets, registry)"
            return Trouble("image", text, advice), False
        if reason in CONTAINER_REASONS:
            text = f"its container can't be made ({reason}): {message}"
            return Trouble("container", text, "check the secrets that the class names: are they there?"), False
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        message = _short(scheduled.get("message"))
        if scheduled.get("reason") == "SchedulingGated":
            text = f"its start waits for a permit: {message}"
            return Trouble("gated", text, "look at the queue that the class names (kubectl get workloads)"), True
        advice = "add nodes, lower the class's resources, or widen its node selector and tolerations"
        return Trouble("unschedulable", f"no node takes it: {message}", advice), True
    # Nobody has looked at it yet: a scheduler that is away takes no other pod either.
    return None, not spec.get("nodeName")


def _death(status: Json, conditions: Mapping[str, Json]) -> Death:
    message = _short(status.get("message"))
    disruption = conditions.get("DisruptionTarget", {})
    if disruption.get("status") == "True":
        found = _DISRUPTIONS.get(str(disruption.get("reason", "")))
        if found is not None:
            told = _short(disruption.get("message")) or message
            return Death(found[0], f"{found[1]}: {told}" if told else found[1])
    found = _REASONS.get(str(status.get("reason", "")))
    if found is not None:
        return Death(found[0], f"{found[1]}: {message}" if message else found[1])
    for one in _containers(status):
        ended = (one.get("state") or {}).get("terminated") or {}
        code = int(ended.get("exitCode", 0) or 0)
        # Said also of one that lost a child so, long before it ended as it should.
        if code and ended.get("reason") == "OOMKilled":
            return Death(Kind.OUT_OF_MEMORY, "it used more memory than its class gives (OOMKilled)")
        if code:
            signal = f" (signal {code - 128})" if code > 128 else ""
            return Death(Kind.WORKER_LOST, f"it ended with exit code {code}{signal}")
    if status.get("phase") == Phase.FAILED:
        reason = str(status.get("reason", "")) or "no reason was given"
        return Death(Kind.WORKER_LOST, f"it failed: {reason}" + (f": {message}" if message else ""))
    if status.get("phase") != Phase.SUCCEEDED:
        return Death(Kind.WORKER_LOST, "its pod was removed")
    return Death(Kind.WORKER_LOST, "it ended by itself", clean=True)


def refusal_of(status: int, message: str) -> Trouble:
    """What an answer to a create means: an HTTP status (0: none came), and the message in it."""
    text = _short(message)
    if status == 403 and "exceeded quota" in message:
        advice = "raise the quota of the worker namespace, or lower the class's limit: penstock cluster doctor"
        return Trouble("quota", f"the quota of the worker namespace is used up: {text}", advice)
    if status == 403 and "PodSecurity" in message:
        return Trouble("admission", f"pod security refuses it: {text}", "take out of the class what it names")
    if "ValidatingAdmissionPolicy" in message or "denied the request" in message or "denied request" in message:
        advice = "what it names is mended in worker.classes, or let in by worker.annotationsOfOthers"
        return Trouble("admission", f"an admission rule refuses it: {text}", advice)
    if status == 404:
        advice = "make the worker namespace (worker.createNamespace), or name the right one (worker.namespace)"
        return Trouble("namespace", f"there is no such place: {text}", advice)
    if status in (401, 403):
        advice = "give the scheduler's service account the Role of the chart: penstock cluster doctor"
        return Trouble("rights", f"the scheduler may not make pods: {text}", advice)
    if status in (400, 422):
        return Trouble("template", f"the pod is refused as it is: {text}", "mend what it names in worker.classes")
    advice = "it is tried again; see to the API server if it lasts"
    return Trouble(API, f"the API server did not take it ({status or 'no answer'}): {text}", advice)


def _short(text: object) -> str:
    return " ".join(str(text or "").split())[:TEXT_CHARACTERS]
