"""What the API server says of a release becomes findings, each with the command that mends it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

import pytest

from penstock.client.diagnosis_views import RightView
from penstock.doctor.cluster import PROGRAMS, judge_cluster
from penstock.doctor.facts import ClusterFacts, Json, SecretSeen, Unseen
from penstock.doctor.findings import Finding, Level
from penstock.doctor.place import Release
from penstock.doctor.quantities import amount, written

NOW_MS = 1_800_000_000_000
RELEASE = Release(name="pen", namespace="batch", workers="pen-workers")
RESOURCES = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
HARD = {"pods": "4", "requests.cpu": "2", "requests.memory": "4Gi", "limits.memory": "8Gi", "count/configmaps": "1"}


def deployment(program: str, *, ready: int = 1, image: str = "penstock:1") -> Json:
    return {
        "metadata": {"name": f"pen-{program}", "labels": {"app.kubernetes.io/component": program}},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"image": image}]}}},
        "status": {"readyReplicas": ready},
    }


def pod(name: str = "pen-default-0-1", namespace: str = "pen-workers", **status: object) -> Json:
    labels = {"penstock/worker-class": "default", "app.kubernetes.io/component": "worker"}
    told = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], **status}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "status": told}


def waiting(reason: str) -> Json:
    state = {"waiting": {"reason": reason, "message": "no such thing"}}
    return pod(conditions=[], phase="Pending", containerStatuses=[{"image": "miner:9", "state": state}])


def named(kind: str, name: str, namespace: str = "", **spec: object) -> Json:
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def right(verb: str, *, wanted: bool, allowed: bool) -> RightView:
    return {
        "namespace": "pen-workers",
        "verb": verb,
        "resource": "pods",
        "name": None,
        "wanted": wanted,
        "allowed": allowed,
    }


def secret(days: float | None = None, **more: object) -> SecretSeen:
    end = "" if days is None else dt.datetime.fromtimestamp(NOW_MS / 1000 + days * 86_400, dt.UTC).isoformat()
    seen = SecretSeen(namespace="batch", name="pen-planner-tls", there=True, end_time=end, generation=3)
    return dataclasses.replace(seen, **more)  # type: ignore[arg-type]


WELL = ClusterFacts(
    release=RELEASE,
    deployments=tuple(deployment(program) for program in PROGRAMS),
    autoscalers=(),
    jobs=({"metadata": {"name": "pen-migrate-1"}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}},),
    pods=(pod(),),
    worker_namespace=(
        {"metadata": {"name": "pen-workers", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    ),
    owner=({"metadata": {"name": "pen-workers"}},),
    owner_name="pen-workers",
    classes={"default": {"max": 4, "slots": 8, "resources": RESOURCES}},
    quotas=(named("ResourceQuota", "pen-workers", "pen-workers", hard=HARD),),
    policies=(
        named("ValidatingAdmissionPolicy", "batch.pen.workers"),
        named("ValidatingAdmissionPolicyBinding", "batch.pen.workers", validationActions=["Deny"]),
    ),
    network_policies=(named("NetworkPolicy", "pen-deny", "batch"), named("NetworkPolicy", "pen-deny", "pen-workers")),
    rights=(right("create", wanted=True, allowed=True), right("patch", wanted=False, allowed=False)),
    secrets=(secret(100),),
    said={},
)


def judged(**changes: object) -> list[Finding]:
    return judge_cluster(dataclasses.replace(WELL, **changes), now_ms=NOW_MS)  # type: ignore[arg-type]


def wrongs(**changes: object) -> list[Finding]:
    return [one for one in judged(**changes) if one.level is not Level.OK]


def quota(**hard: str) -> tuple[Json, ...]:
    changed = {**HARD, **{key.replace("_", "."): value for key, value in hard.items()}}
    return (named("ResourceQuota", "pen-workers", "pen-workers", hard=changed),)


def test_what_is_well_has_no_finding() -> None:
    assert {one.level for one in judged()} == {Level.OK}


FAILED_JOB = {"metadata": {"name": "pen-migrate-2"}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
STARTING = pod("pen-planner-x", "batch", conditions=[{"type": "Ready", "status": "False"}])
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}

WRONG: dict[str, tuple[dict[str, object], Level, str, str, str]] = {
    "no deployment": (
        {"deployments": WELL.deployments[1:]},  # type: ignore[index]
        *(Level.FAIL, "deployment planner", "there is none", " --reset-then-reuse-values --force-conflicts"),
    ),
    "not ready": (
        {"deployments": (deployment("planner", ready=0), *WELL.deployments[1:])},  # type: ignore[index]
        *(Level.FAIL, "deployment planner", "none of 1 pods is ready", "kubectl -n batch logs deployment/pen-planner"),
    ),
    "two images": (
        {"deployments": (deployment("planner", image="penstock:2"), *WELL.deployments[1:])},  # type: ignore[index]
        *(Level.WARN, "images", "penstock:2: planner", "--force-conflicts"),
    ),
    "job failed": ({"jobs": (FAILED_JOB,)}, Level.FAIL, "job pen-migrate-2", "it failed", "delete job pen-migrate-2"),
    "job runs": (
        {"jobs": ({"metadata": {"name": "pen-migrate-3"}, "status": {}},)},
        *(Level.WARN, "job pen-migrate-3", "not ended", "wait --for=condition=complete"),
    ),
    "image": (
        {"pods": (waiting("ImagePullBackOff"),)},
        *(Level.FAIL, "pod pen-default-0-1", "the image miner:9 can't be had", "worker.classes.default.image="),
    ),
    "image unseen": (
        {"pods": (waiting("ImageInspectError"),)},
        *(Level.FAIL, "pod pen-default-0-1", "the image miner:9 can't be had", "worker.classes.default.image="),
    ),
    "config": (
        {"pods": (waiting("CreateContainerConfigError"),)},
        *(Level.FAIL, "pod pen-default-0-1", "can't be made", "kubectl -n pen-workers describe pod"),
    ),
    "crash": (
        {"pods": (waiting("CrashLoopBackOff"),)},
        *(
            Level.FAIL,
            "pod pen-default-0-1",
            "again and again",
            "--all-containers --tail=50 --previous",
        ),
    ),
    "failed": (
        {"pods": (pod(phase="Failed", reason="Evicted", conditions=[]),)},
        *(
            Level.WARN,
            "pod pen-default-0-1",
            "lies there: Evicted",
            "kubectl -n pen-workers delete pod pen-default-0-1",
        ),
    ),
    "no node": (
        {"pods": (pod(phase="Pending", conditions=[UNSCHEDULABLE]),)},
        *(Level.WARN, "pod pen-default-0-1", "0/3 nodes", "worker.classes.default.resources.requests.cpu="),
    ),
    "schema": (
        {
            "pods": (STARTING,),
            "said": {"pen-planner-x": "the planner's database has schema 0006: run `penstock migrate`"},
        },
        *(Level.FAIL, "pod pen-planner-x", "has schema 0006", "component=migrations && helm upgrade"),
    ),
    "no secret": (
        {"secrets": (secret(name="database", there=False, lacking=("url",)),)},
        *(Level.FAIL, "secret database", "there is none", "create secret generic database --from-file=url=FILE"),
    ),
    "no key": (
        {"secrets": (secret(name="database", lacking=("url",)),)},
        *(Level.FAIL, "secret database", "no key url", "edit secret database"),
    ),
    "5 days": (
        {"secrets": (secret(5.4),)},
        *(Level.FAIL, "certificate in pen-planner-tls", "5 days left", "--set tls.chart.generation=4"),
    ),
    "5 days, and not of the chart": (
        {"secrets": (secret(5.4, generation=0),)},
        *(Level.FAIL, "certificate in pen-planner-tls", "5 days left", "certManager: cmctl renew; secrets: new ones"),
    ),
    "no namespace": (
        {"worker_namespace": ()},
        *(Level.FAIL, "worker namespace", "no namespace pen-workers", "--force-conflicts"),
    ),
    "loose": (
        {"worker_namespace": ({"metadata": {"labels": {}}},)},
        *(Level.FAIL, "worker namespace", "not restricted", "kubectl label --overwrite namespace pen-workers"),
    ),
    "no owner": ({"owner": ()}, Level.FAIL, "owner pen-workers", "none can start without", "--force-conflicts"),
    "no quota": ({"quotas": ()}, Level.WARN, "quota", "nothing bounds", "--force-conflicts"),
    "few pods": (
        {"quotas": quota(pods="3")},
        *(Level.FAIL, "quota pen-workers", "pods: the classes may ask for 4, it has 3", "--force-conflicts"),
    ),
    "little memory": (
        {"quotas": quota(limits_memory="8191Mi")},
        *(
            Level.FAIL,
            "quota pen-workers",
            "the classes may ask for 8192Mi",
            "--force-conflicts",
        ),
    ),
    "unnamed": (
        {"quotas": quota(limits_cpu="100")},
        *(Level.FAIL, "quota pen-workers", "which the class default does not name", "resources.limits.cpu=AMOUNT"),
    ),
    "no policy": ({"policies": ()}, Level.WARN, "admission policy", "pods of any image", "worker.admissionPolicy=true"),
    "audits": (
        {"policies": (WELL.policies[0], named("ValidatingAdmissionPolicyBinding", "a", validationActions=["Audit"]))},  # type: ignore[index]
        *(Level.FAIL, "admission policy", "denies nothing", "--force-conflicts"),
    ),
    "no cut": (
        {"network_policies": (named("NetworkPolicy", "pen-deny", "batch"),)},
        *(Level.WARN, "network policies", "nothing cuts traffic in pen-workers", "networkPolicy.enabled=true"),
    ),
    "lacks": (
        {"rights": (right("create", wanted=True, allowed=False),)},
        *(Level.FAIL, "service account", "pen-scheduler may not: create pods in pen-workers", "--force-conflicts"),
    ),
    "beyond": (
        {"rights": (right("patch", wanted=False, allowed=True),)},
        *(Level.FAIL, "service account", "may more than its Role: patch pods", "kubectl get rolebindings"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_finding_with_its_command(name: str) -> None:
    changes, level, what, text, mend = WRONG[name]
    found = wrongs(**changes)
    assert [(one.level, one.what) for one in found] == [(level, what)]
    assert text in found[0].text
    assert mend in found[0].mend


def test_a_pod_that_its_job_has_made_up_for_is_well() -> None:
    tried = pod("pen-migrate-1-x", "batch", phase="Failed", conditions=[])
    tried["metadata"]["labels"]["job-name"] = "pen-migrate-1"
    assert wrongs(pods=(tried,)) == []


def test_a_rollout_that_is_under_way_warns() -> None:
    rolling = deployment("planner")
    rolling["status"]["updatedReplicas"] = 0
    (found,) = wrongs(deployments=(rolling, *WELL.deployments[1:]))  # type: ignore[index]
    assert (found.level, found.what) == (Level.WARN, "deployment planner")
    assert "rollout status deployment/pen-planner" in found.mend


@pytest.mark.parametrize(
    ("field", "whats"),
    [
        ("deployments", ["deployments"]),
        ("jobs", ["jobs"]),
        ("pods", ["pods"]),
        ("secrets", ["secrets"]),
        ("quotas", ["quota"]),
        ("classes", ["quota"]),
        ("policies", ["admission policy"]),
        ("network_policies", ["network policies"]),
        ("rights", ["service account"]),
        ("worker_namespace", ["worker namespace"]),
        ("owner", ["owner pen-workers"]),
    ],
)
def test_what_may_not_be_seen_is_told_with_the_reason(field: str, whats: list[str]) -> None:
    found = wrongs(**{field: Unseen("secrets is forbidden")})
    assert [(one.level, one.what) for one in found] == [(Level.SKIP, what) for what in whats]
    assert all("secrets is forbidden" in one.text for one in found)


def test_a_quota_that_is_not_the_charts_is_patched() -> None:
    theirs = named("ResourceQuota", "theirs", "pen-workers", hard={"pods": "3", "limits.memory": "1Gi"})
    (found,) = wrongs(quotas=(*WELL.quotas, theirs))  # type: ignore[misc]
    patch = '{"spec": {"hard": {"limits.memory": "8192Mi", "pods": "4"}}}'
    assert found.mend == f"kubectl -n pen-workers patch resourcequota theirs --type merge -p '{patch}'"


def test_a_class_that_is_drained_asks_for_nothing() -> None:
    resting = {"max": 0, "resources": {}}
    assert WELL.classes == {"default": {"max": 4, "slots": 8, "resources": RESOURCES}}
    assert wrongs(classes={"default": {"max": 4, "resources": RESOURCES}, "resting": resting}) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        ("1Gi", str(1024**3)),
        ("1.5Gi", str(1536 * 1024**2)),
        ("2k", "2000"),
        ("1e3", "1000"),
        ("1E", "1e18"),
        ("-.5", "-0.5"),
        ("100n", "1e-7"),
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, value: str) -> None:
    assert amount(text) == Decimal(value)


def test_what_the_official_client_reads_as_the_api_server_does_is_read_the_same() -> None:
    quantity = pytest.importorskip("kubernetes.utils.quantity")
    numbers = ("0", "1", "007", "12.5", ".5", "5.", "-3", "+2", "1e3", "2E-2", "1e+1")
    suffixes = ("", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
    for text in (*numbers, *(number + suffix for number in numbers[:8] for suffix in suffixes)):
        assert amount(text) == quantity.parse_quantity(text), text
    # A number of YAML, which it makes more of than there is.
    assert amount(0.1) == Decimal("0.1") != quantity.parse_quantity(0.1)


@pytest.mark.parametrize("text", ["", "1Q", "one", "1 Gi", "1.2.3", "1e3k", "Infinity", "1_000", "1K", "1mi", "٣"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        amount(text)


def test_what_is_written_is_never_less() -> None:
    assert written(Decimal("1.0001"), "requests.cpu") == "1001m"
    assert written(Decimal(1024**2 + 1), "limits.memory") == "2Mi"
    assert written(Decimal("3"), "pods") == "3"


@pytest.mark.parametrize("hard", ["many", {"pods": ""}, {"requests.cpu": "abc"}])
def test_an_object_that_is_not_as_it_should_be_takes_no_other_finding_along(hard: object) -> None:
    quotas = (named("ResourceQuota", "odd", "pen-workers", hard=hard),)
    found = judge_cluster(
        dataclasses.replace(WELL, quotas=quotas, pods=({"status": {"phase": "Failed"}},)), now_ms=NOW_MS
    )
    skipped = {one.what: one.text for one in found if one.level is Level.SKIP}
    assert set(skipped) == {"quota", "pods"}
    assert "can't be read" in skipped["quota"]
    assert {one.what for one in found} >= {"deployment planner", "network policies", "service account"}
