"""`penstock cluster doctor` on a release of a real API server: what is taken away is found, and the command that it
names brings it back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.doctor.cluster import judge_cluster
from penstock.doctor.findings import Finding, Level
from penstock.doctor.kube import Kube
from penstock.doctor.reading import find_release, read_cluster
from tests.cluster import tools
from tests.cluster.chart.rendering import CHART, HERE, helm
from tests.cluster.programs.control_plane import ControlPlane
from tests.cluster.programs.daemon import wait_until

ROOT = CHART.parent.parent
DOCTOR = [sys.executable, "-P", "-m", "penstock", "cluster", "doctor"]
SICK, WORKERS = "sick", "sick-workers"
MERGE = {"Content-Type": "application/merge-patch+json"}
pytestmark = pytest.mark.timeout(300)


class Patient:
    """A release named sick. No node runs its pods: the test says of them that they are well."""

    def __init__(self, control_plane: ControlPlane, home: Path) -> None:
        self.control_plane = control_plane
        programs = {str(Path(tools.program(name)).parent) for name in ("kubectl", "helm")}
        bare = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self.environment = {
            **bare,
            "KUBECONFIG": str(control_plane.kubeconfig),
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home),
            "PENSTOCK_URL": "http://127.0.0.1:9",
            "PATH": ":".join([*sorted(programs), "/usr/bin", "/bin"]),
        }

    def look(self, *words: str, kubeconfig: Path | None = None) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, checks, and what was said on standard error."""
        environment = dict(self.environment)
        if kubeconfig is not None:
            environment["KUBECONFIG"] = str(kubeconfig)
        done = subprocess.run(
            [*DOCTOR, "--json", *words], env=environment, capture_output=True, text=True, timeout=110, check=False
        )
        return done.returncode, json.loads(done.stdout or "[]"), done.stderr

    def wrongs(self) -> dict[str, Finding]:
        """What the cluster's part warns of or fails, by name: as the command looks, but in this process."""
        kube = Kube(kubeconfig=self.control_plane.kubeconfig)
        release = find_release(kube, name=SICK, namespace=SICK)
        assert release is not None
        found = judge_cluster(read_cluster(kube, release), now_ms=time.time_ns() // 1_000_000)
        return {one.what: one for one in found if one.level is not Level.OK}

    def mend(self, finding: Finding) -> None:
        """As its command says, from the checkout."""
        done = subprocess.run(
            ["sh", "-c", finding.mend], env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{finding.mend}: {done.stdout}{done.stderr}"

    def kubectl(self, *words: str) -> str:
        return self.control_plane.kubectl(*words)

    def make_well(self) -> None:
        """Every pod is ready, and the Jobs' have ended."""

        def well() -> bool:
            with self.control_plane.client() as api:
                pods = api.get(f"/api/v1/namespaces/{SICK}/pods").json()["items"]
                for pod in pods:
                    once = "job-name" in pod["metadata"]["labels"]
                    ready = {"type": "Ready", "status": "True"}
                    status = {"phase": "Succeeded"} if once else {"phase": "Running", "conditions": [ready]}
                    path = f"/api/v1/namespaces/{SICK}/pods/{pod['metadata']['name']}/status"
                    api.patch(path, json={"status": status}, headers=MERGE)
                deployments = api.get(f"/apis/apps/v1/namespaces/{SICK}/deployments").json()["items"]
                jobs = api.get(f"/apis/batch/v1/namespaces/{SICK}/jobs").json()["items"]
            serving = all(one["status"].get("readyReplicas") == one["spec"]["replicas"] for one in deployments)
            return serving and all(one["status"].get("succeeded") for one in jobs)

        wait_until(well, "all pods of the release are well", seconds=60)


@pytest.fixture(scope="module")
def patient(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Patient:
    control_plane.namespace(SICK)
    home = tmp_path_factory.mktemp("home")
    one = Patient(control_plane, home)
    values = ("--values", str(HERE / "values" / "minimal.yaml"))
    helm("install", SICK, str(CHART), "-n", SICK, *values, environment=one.environment)
    one.make_well()
    return one


def test_a_release_that_is_well_has_no_finding(patient: Patient) -> None:
    assert patient.wrongs() == {}
    code, told, _ = patient.look()
    assert code == 1, "the gateway runs nowhere here"
    assert {one["level"] for one in told[1:]} == {"ok"}
    checks = {one["check"]: one["text"] for one in told}
    assert told[0]["mend"].startswith("kubectl -n sick port-forward service/sick-gateway 8420:http")
    assert checks["quota sick-workers"] == "has room for 4 workers"
    assert checks["service account"].startswith("sick-scheduler may what its Role says")
    assert checks["deployment planner"] == "1 of 1 ready"
    assert "days left" in checks["certificate in sick-planner-tls"]
    assert checks["admission policy"] == "denies what is no worker"


def take_quota(patient: Patient) -> None:
    patch = '{"spec": {"hard": {"pods": "1"}}}'
    patient.kubectl("-n", WORKERS, "patch", "resourcequota", WORKERS, "--type=merge", "-p", patch)


def take_room(patient: Patient) -> None:
    """Somebody else's quota."""
    patient.kubectl("-n", WORKERS, "create", "quota", "theirs", "--hard=pods=2")


def take_verb(patient: Patient) -> None:
    patch = '[{"op": "replace", "path": "/rules/0/verbs", "value": ["create", "get", "list", "watch"]}]'
    patient.kubectl("-n", WORKERS, "patch", "role", "sick-scheduler", "--type=json", "-p", patch)


def take_policy(patient: Patient) -> None:
    patient.kubectl("delete", "validatingadmissionpolicybinding", "sick.sick.workers")


def take_network_policy(patient: Patient) -> None:
    patient.kubectl("-n", WORKERS, "delete", "networkpolicy", "sick-deny")


def take_owner(patient: Patient) -> None:
    patient.kubectl("-n", WORKERS, "delete", "configmap", WORKERS)


def take_label(patient: Patient) -> None:
    label = "pod-security.kubernetes.io/enforce=privileged"
    patient.kubectl("label", "--overwrite", "namespace", WORKERS, label)


def take_secret(patient: Patient) -> None:
    patient.kubectl("-n", SICK, "delete", "secret", "sick-planner-tls")


def take_key(patient: Patient) -> None:
    patient.kubectl("-n", WORKERS, "delete", "secret", "sick-worker-tls")


def take_deployment(patient: Patient) -> None:
    patient.kubectl("-n", SICK, "delete", "deployment", "sick-analyzer")


TAKEN: dict[str, tuple[Callable[[Patient], None], str, str]] = {
    "quota": (take_quota, "quota sick-workers", "pods: the classes may ask for 4, it has 1"),
    "another quota": (take_room, "quota theirs", "pods: the classes may ask for 4, it has 2"),
    "verb": (take_verb, "service account", "sick-scheduler may not: delete pods in sick-workers"),
    "admission policy": (take_policy, "admission policy", "pods of any image"),
    "network policy": (take_network_policy, "network policies", "nothing cuts traffic in sick-workers"),
    "owner": (take_owner, "owner sick-workers", "none can start without"),
    "label": (take_label, "worker namespace", "is not restricted"),
    "secret": (take_secret, "secret sick-planner-tls", "there is none in the namespace sick"),
    "secret of workers": (take_key, "secret sick-worker-tls", "there is none in the namespace sick-workers"),
    "deployment": (take_deployment, "deployment analyzer", "there is none"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_away_is_found_and_its_command_brings_it_back(patient: Patient, name: str) -> None:
    take, what, text = TAKEN[name]
    take(patient)
    found = patient.wrongs()
    assert found.keys() == {what}
    assert text in found[what].text
    patient.mend(found[what])
    patient.make_well()
    assert patient.wrongs() == {}


def test_a_worker_namespace_that_is_gone_is_found_and_comes_back_with_all_in_it(patient: Patient) -> None:
    patient.kubectl("delete", "namespace", WORKERS, "--timeout=60s")
    found = patient.wrongs()
    assert "there is no namespace sick-workers: no worker can start" in found["worker namespace"].text
    patient.mend(found["worker namespace"])
    assert patient.wrongs() == {}


def test_more_rights_than_the_roles_are_found(patient: Patient) -> None:
    binding = ("rolebinding", "too-much")
    words = ("--clusterrole=view", "--serviceaccount=sick:sick-scheduler")
    patient.kubectl("-n", SICK, "create", *binding, *words)
    try:
        (found,) = patient.wrongs().values()
        assert "sick-scheduler may more than its Role" in found.text
        assert "list configmaps in sick" in found.text
        assert "kubectl get rolebindings,clusterrolebindings -A -o wide | grep sick-scheduler" in found.mend
    finally:
        patient.kubectl("-n", SICK, "delete", *binding)


def test_an_image_that_cannot_be_had_is_found_with_the_value_that_names_it(patient: Patient) -> None:
    with patient.control_plane.client() as api:
        path = f"/api/v1/namespaces/{SICK}/pods"
        pod = next(one for one in api.get(path).json()["items"] if "sick-gateway" in one["metadata"]["name"])
        name = pod["metadata"]["name"]
        waits = {"name": "gateway", "image": "penstock:none", "imageID": "", "ready": False, "restartCount": 0}
        state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
        status = {"phase": "Pending", "conditions": [], "containerStatuses": [{**waits, "state": state}]}
        answer = api.patch(f"{path}/{name}/status", json={"status": status}, headers=MERGE)
        assert answer.status_code == 200, answer.text
    found = patient.wrongs()
    assert "the image penstock:none can't be had (ImagePullBackOff)" in found[f"pod {name}"].text
    assert "--set image.repository=REPOSITORY,image.tag=TAG" in found[f"pod {name}"].mend
    patient.kubectl("-n", SICK, "delete", "pod", name, "--grace-period=0", "--force")
    patient.make_well()


def test_a_program_that_is_not_ready_takes_nothing_else_along(patient: Patient) -> None:
    """Its log can't be read: no node runs it."""
    with patient.control_plane.client() as api:
        path = f"/api/v1/namespaces/{SICK}/pods"
        pod = next(one for one in api.get(path).json()["items"] if "sick-planner" in one["metadata"]["name"])
        name = pod["metadata"]["name"]
        status = {"conditions": [{"type": "Ready", "status": "False"}]}
        assert api.patch(f"{path}/{name}/status", json={"status": status}, headers=MERGE).status_code == 200
    wait_until(lambda: "deployment planner" in patient.wrongs(), "the Deployment has seen it", seconds=30)
    found = patient.wrongs()
    levels = {check: one.level for check, one in found.items()}
    assert levels == {f"pod {name}": Level.WARN, "deployment planner": Level.FAIL}
    assert found["deployment planner"].mend == "kubectl -n sick logs deployment/sick-planner --tail=50"
    patient.make_well()
    assert patient.wrongs() == {}


def test_who_may_see_little_is_told_what_was_not_looked_at(patient: Patient) -> None:
    plane = patient.control_plane
    plane.kubectl("-n", SICK, "create", "rolebinding", "looks", "--clusterrole=view", "--user=looker")
    code, told, _ = patient.look("--namespace", SICK, kubeconfig=plane.client_kubeconfig("looker"))
    assert code == 1
    levels = {one["check"]: (one["level"], one["text"]) for one in told}
    assert levels["deployment planner"][0] == "ok"
    for check in ("secrets", "quota", "service account", "admission policy", "worker namespace"):
        assert levels[check][0] == "skipped", check
        assert 'User "looker" cannot' in levels[check][1]


def test_a_release_that_is_not_there_and_one_that_is_not_named_are_bad_usage(patient: Patient) -> None:
    code, _, said = patient.look("--release", "well", "--namespace", SICK)
    assert code == 2
    assert (
        "there is no release well in sick; there are: --release sick --namespace sick"
        in json.loads(said)["error"]["message"]
    )
    second = patient.control_plane.namespace("second")
    values = ("--values", str(HERE / "values" / "minimal.yaml"))
    helm("install", "other", str(CHART), "-n", second, *values, environment=patient.environment)
    try:
        code, _, said = patient.look()
        assert code == 2
        assert "there are several releases; name one:" in json.loads(said)["error"]["message"]
    finally:
        helm("uninstall", "other", "-n", second, environment=patient.environment)


def test_a_kubeconfig_that_leads_nowhere_is_one_line(patient: Patient, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.write_text(patient.control_plane.kubeconfig.read_text().replace(":6443", ":6444"))
    code, told, _ = patient.look(kubeconfig=away)
    assert code == 1, "the gateway is away, too"
    assert [one["level"] for one in told] == ["fail", "skipped"]
    assert "the API server https://127.0.0.1:6444 does not answer" in told[1]["text"]
