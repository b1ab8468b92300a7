"""What pods' JSON says: the ways to end are told apart, what does not start says why and what would help."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.doctor.pods import why_not_ready
from penstock.pod_reasons import CONTAINER_REASONS, IMAGE_REASONS
from scheduler.domain.outcomes import ALONE, FREE_LOSSES, Ended, Ending, decide, kind_of
from scheduler.domain.pod_status import pod_of, refusal_of
from scheduler.domain.pods import Phase
from scheduler.domain.rules import Kind, Retry
from scheduler.domain.states import ItemState, Mode

LABELS = {"penstock/worker-class": "gpu", "penstock/slot": "3", "penstock/generation": "7", "penstock/template": "t"}


def raw(phase: str = "Running", **status: Any) -> dict[str, Any]:
    metadata = {"name": "r-gpu-3", "uid": "u", "labels": LABELS, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": phase, **status}}


def container(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "worker", "image": "i:1", "state": state}]


def condition(type_: str, status: str, reason: str = "", message: str = "") -> list[dict[str, str]]:
    one = {"type": type_, "status": status, "reason": reason, "message": message}
    return [one | {"lastTransitionTime": "2026-01-01T00:01:00Z"}]


def test_a_pod_is_known_by_its_labels() -> None:
    pod = pod_of(raw(conditions=condition("Ready", "True")))
    assert pod is not None
    assert (pod.worker_class, pod.slot, pod.session, pod.template) == ("gpu", 3, "r-gpu-3-7", "t")
    assert (pod.ready, pod.live, pod.node, pod.create_ms) == (True, True, "n1", 1_767_225_600_000)
    other = raw()
    other["metadata"]["labels"] = {"app": "else"}
    assert pod_of(other) is None


@pytest.mark.parametrize("number", ["-1", "x", str(2**31), "9" * 63])
def test_a_pod_whose_labels_say_what_no_column_holds_is_nobodys(number: str) -> None:
    """Whoever may start pods there may label them: one of them must not stop the turns of all classes."""
    for label in ("penstock/slot", "penstock/generation"):
        other = raw()
        other["metadata"]["labels"] = {**LABELS, label: number}
        assert pod_of(other) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ({"containerStatuses": container(terminated={"exitCode": 137, "reason": "OOMKilled"})}, Kind.OUT_OF_MEMORY),
        ({"reason": "Evicted", "message": "low on memory"}, Kind.EVICTED),
        ({"conditions": condition("DisruptionTarget", "True", "EvictionByEvictionAPI")}, Kind.EVICTED),
        ({"conditions": condition("DisruptionTarget", "True", "PreemptionByScheduler")}, Kind.PREEMPTED),
        ({"conditions": condition("DisruptionTarget", "True", "DeletionByTaintManager")}, Kind.NODE_LOST),
        ({"conditions": condition("DisruptionTarget", "True", "DeletionByPodGC")}, Kind.NODE_LOST),
        ({"reason": "NodeShutdown"}, Kind.NODE_LOST),
        ({"containerStatuses": container(terminated={"exitCode": 139})}, Kind.WORKER_LOST),
        ({"reason": "UnexpectedAdmissionError"}, Kind.WORKER_LOST),
    ],
)
def test_the_ways_to_end_are_told_apart(status: dict[str, Any], kind: Kind) -> None:
    pod = pod_of(raw("Failed", **status))
    assert pod is not None
    assert pod.death is not None
    assert (pod.death.kind, pod.death.clean) == (kind, False)


@pytest.mark.parametrize("reason", ["Completed", "OOMKilled"], ids=["", "having-lost-a-child-to-memory"])
def test_one_that_ends_by_itself_ends_as_it_should_and_one_that_vanishes_was_removed(reason: str) -> None:
    ended = pod_of(raw("Succeeded", containerStatuses=container(terminated={"exitCode": 0, "reason": reason})))
    assert ended is not None
    assert ended.death is not None
    assert ended.death.clean
    running = pod_of(raw())
    assert running is not None
    assert running.death is None
    gone = pod_of(raw(), gone=True)
    assert gone is not None
    assert gone.death is not None
    assert gone.death.text == "its pod was removed"


@pytest.mark.parametrize(
    ("status", "code", "waits"),
    [
        ({"containerStatuses": container(waiting={"reason": "ErrImagePull"})}, "image", False),
        ({"containerStatuses": container(waiting={"reason": "CreateContainerConfigError"})}, "container", False),
        ({"conditions": condition("PodScheduled", "False", "Unschedulable", "0/3 nodes")}, "unschedulable", True),
        ({"conditions": condition("PodScheduled", "False", "SchedulingGated")}, "gated", True),
    ],
)
def test_what_does_not_start_says_why_and_what_would_help(status: dict[str, Any], code: str, waits: bool) -> None:
    pod = pod_of(raw("Pending", **status))
    assert pod is not None
    assert pod.stuck is not None
    assert pod.stuck.code == code
    assert pod.stuck.advice
    assert pod.waits is waits
    assert pod.phase is Phase.PENDING


def test_the_doctor_says_the_same_of_what_keeps_a_pod_from_its_start() -> None:
    """Of each reason that either of them knows."""
    for reason in (*IMAGE_REASONS, *CONTAINER_REASONS):
        pod = raw("Pending", containerStatuses=container(waiting={"reason": reason}))
        told, seen = why_not_ready(pod, {}), pod_of(pod)
        assert told is not None
        assert seen is not None
        assert seen.stuck is not None
        assert told[0] == seen.stuck.code, reason


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (403, 'pods "x" is forbidden: exceeded quota: cap, requested: pods=1', "quota"),
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', "admission"),
        (422, "ValidatingAdmissionPolicy 'x' denied request: images", "admission"),
        (403, 'pods is forbidden: User "x" cannot create resource "pods"', "rights"),
        (404, 'namespaces "x" not found', "namespace"),
        (422, "spec.containers[0].resources: Invalid value", "template"),
        (0, "timed out", "api"),
    ],
)
def test_a_refused_create_is_told_with_advice(status: int, message: str, code: str) -> None:
    trouble = refusal_of(status, message)
    assert trouble.code == code
    assert message[:40] in trouble.text
    assert trouble.advice


def test_what_the_policy_refuses_of_others_is_told_with_what_lets_it_in() -> None:
    message = "ValidatingAdmissionPolicy 'x' denied request: a worker's annotations are the scheduler's own"
    assert "worker.annotationsOfOthers" in refusal_of(422, message).advice


@pytest.mark.parametrize("kind", [Kind.EVICTED, Kind.PREEMPTED, Kind.NODE_LOST])
def test_what_was_taken_away_costs_no_try_and_is_no_suspect(kind: Kind) -> None:
    told = kind_of(Ended.WORKER_LOST, kind, mode=Mode.WORK, no_try=False, repeatable=True)
    assert told == kind
    ending = Ending(ended=Ended.WORKER_LOST, tries=1, max_tries=2, attempt=3, kind=told, blameless=True)
    decision = decide(ending)
    assert (decision.state, decision.tries, decision.suspect) == (ItemState.QUEUED, 1, 0)
    often = decide(
        Ending(
            ended=Ended.WORKER_LOST, tries=1, max_tries=2, attempt=FREE_LOSSES + 2, kind=told, blameless=True
        )
    )  # fmt: skip
    assert often.state is ItemState.FAILED, "not for ever"


def test_memory_is_the_items_own_doing_and_it_is_next_leased_alone() -> None:
    told = kind_of(Ended.WORKER_LOST, Kind.OUT_OF_MEMORY, mode=Mode.WORK, no_try=False, repeatable=True)
    decision = decide(Ending(ended=Ended.WORKER_LOST, tries=0, max_tries=2, kind=told))
    assert (decision.tries, decision.suspect, decision.kind) == (1, ALONE, Kind.OUT_OF_MEMORY)


def test_a_rule_that_names_lost_workers_takes_every_way_to_lose_one() -> None:
    rule = Retry(kinds=frozenset({"worker_lost"}))
    assert all(rule.takes(kind, "") for kind in ("worker_lost", "out_of_memory", "evicted", "node_lost"))
    assert not Retry(kinds=frozenset({"evicted"})).takes("worker_lost", "")
    assert not rule.takes("timeout", "")


def test_work_that_must_not_be_repeated_stays_unknown_however_its_worker_was_lost() -> None:
    assert kind_of(Ended.WORKER_LOST, Kind.EVICTED, mode=Mode.WORK, no_try=False, repeatable=False) == Kind.UNKNOWN
