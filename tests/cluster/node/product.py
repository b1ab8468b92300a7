"""The whole product as pods: `helm install` on the stores of examples/cluster, as docs/cluster.md tells a user.

`Product` is what a test has of it: Helm, the gateway's address on the service with the first admin token, the command
line in an operator's pod, runs and their items, worker pods. What does not come up raises AssertionError with what a
user would look at: pods, events, the end of logs. It changes nothing that a test has not asked for.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx

from tests.cluster import tools
from tests.cluster.control_plane.sampling import ENDED, Sampler
from tests.cluster.images import NAME, ROOT
from tests.cluster.node.fragile import FRAGILE, fragile_class
from tests.cluster.node.runs import Runs
from tests.cluster.node.stores import FOLDER, Stores
from tests.cluster.node.watching import watched
from tests.cluster.programs.daemon import wait_until
from tests.cluster.programs.node import Node

__all__ = [
    "CHART",
    "CLASS",
    "DEPLOYMENTS",
    "IMAGE",
    "MOST_PODS",
    "READY_SECONDS",
    "SINGLE",
    "SLOTS",
    "TAGS",
    "Product",
    "values",
]

CHART = ROOT / "charts" / "penstock"
IMAGE = "docker.io/library/penstock"
"""What the chart's `penstock:VERSION` is called by a container runtime."""
TAGS = ("0.1.0", "0.1.1")
"""The chart's own, and another one of the same image: an upgrade."""
DEPLOYMENTS = ("planner", "scheduler", "analyzer", "gateway")
CLASS = "default"
SINGLE = "single"
"""A class of at most one pod; as many slots."""
CLASS_LABEL = "penstock/worker-class"
MOST_PODS = 3
SLOTS = 16
READY_SECONDS = 300.0
QUIET_SECONDS = 2
PATIENT = 6
"""Connections that are tried again, for 16 s: on a busy machine a gateway may miss two probes, and the service leads to
none of its pods then."""
TERM_SECONDS = 15
"""Of a lease; as on one machine, so that no test waits half a minute for one to run out."""


def values(stores: Stores) -> dict[str, Any]:
    """What these tests say besides examples/cluster/values.yaml: a role of the database for each, worker classes."""
    whole: dict[str, Any] = {name: {"postgresql": {"url": stores.url(name)}} for name in (*DEPLOYMENTS, "migrations")}
    whole["scheduler"]["quietSeconds"] = QUIET_SECONDS
    whole["scheduler"]["env"] = [{"name": "PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS", "value": str(TERM_SECONDS)}]
    requests = {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "64Mi"}
    limits = {"memory": "1Gi", "ephemeral-storage": "1Gi"}
    worker = {"slots": SLOTS, "graceSeconds": 30, "resources": {"requests": requests, "limits": limits}}
    whole["worker"] = {
        "classes": {CLASS: {**worker, "max": MOST_PODS}, SINGLE: {**worker, "max": 1}, FRAGILE: fragile_class()}
    }
    return whole


class Product(Runs):
    """One release. `values` is what the last install or upgrade was given beside examples/cluster/values.yaml."""

    def __init__(self, stores: Stores, *, release: str = "penstock") -> None:
        self.stores, self.release = stores, release
        self.node, self.control_plane, self.namespace = stores.node, stores.control_plane, stores.namespace
        self.workers = f"{release}-workers"
        self.values: dict[str, Any] = {}
        super().__init__(httpx.Client(trust_env=False))

    @staticmethod
    def load(node: Node, image: Path) -> None:
        """image: the archive of this checkout's image; it gets the names of TAGS."""
        node.load(image)
        node.tag(NAME, *(f"{IMAGE}:{tag}" for tag in TAGS))

    # Helm

    def install(self, given: Mapping[str, Any]) -> str:
        """What Helm printed. It does not wait: see `wait_ready`."""
        return self._deployed("install", given)

    def upgrade(self, given: Mapping[str, Any]) -> str:
        return self._deployed("upgrade", given)

    def _deployed(self, verb: str, given: Mapping[str, Any]) -> str:
        self.values = dict(given)
        return self.helm(verb, self.release, str(CHART), *self.values_words(given))

    def values_words(self, given: Mapping[str, Any]) -> list[str]:
        """Words for Helm: the values of the try-out, and what is given over them."""
        path = self.node.folder / f"{self.release}-values.json"
        path.write_text(json.dumps(given))
        return ["-f", str(FOLDER / "values.yaml"), "-f", str(path)]

    def helm(self, *words: str) -> str:
        """What it prints; in the product's namespace. Raises AssertionError with what it complained of."""
        done = self.try_helm(*words)
        assert done.returncode == 0, f"helm {words[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_helm(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(tools.program("helm")), "-n", self.namespace, *words]
        folder = str(self.node.folder)
        environment = {"HOME": folder, "PATH": "/usr/bin:/bin", "KUBECONFIG": str(self.control_plane.kubeconfig)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    # What there is

    def kubectl(self, *words: str, text: str | None = None) -> str:
        return self.control_plane.kubectl("-n", self.namespace, *words, text=text)

    def wait_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Until all four programs are rolled out as the chart says now, and the gateway answers."""
        try:
            for name in DEPLOYMENTS:
                self.kubectl("rollout", "status", f"deployment/{self.release}-{name}", f"--timeout={seconds:g}s")
            self._meet_gateway()
            wait_until(self._answers, "the gateway answers", seconds=seconds)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{error}\n{self.told()}") from None

    def told(self) -> str:
        """What a user would look at when something does not come up."""
        parts = [self.control_plane.try_kubectl("-n", one, "get", "pods", "-o", "wide").stdout for one in self._both()]
        words = ("get", "events", "--sort-by=.lastTimestamp", "-o")
        line = "custom-columns=WHO:.involvedObject.name,WHY:.reason,WHAT:.message"
        for one in self._both():
            parts.append(self.control_plane.try_kubectl("-n", one, *words, line).stdout[-3000:])
        for name in DEPLOYMENTS:
            logs = ("-n", self.namespace, "logs", f"deployment/{self.release}-{name}", "--tail=8")
            parts.append(f"{name}:\n{self.control_plane.try_kubectl(*logs).stdout[-2000:]}")
        return "\n".join(parts)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Those of a program in the product's namespace, also while they end."""
        labels = f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component={component}"
        return self._pods(self.namespace, labels)

    def worker_pods(self, worker_class: str = CLASS) -> list[dict[str, Any]]:
        """Those of a class that have not ended, in order of their names."""
        found = self._pods(self.workers, f"{CLASS_LABEL}={worker_class}")
        return [one for one in found if one["status"].get("phase") not in ENDED]

    def watching(self, name: str) -> AbstractContextManager[Sampler]:
        """Counts pods of CLASS each 100 ms meanwhile, for a picture. More than the limit fail."""
        labels = f"{CLASS_LABEL}={CLASS}"
        return watched(self.control_plane, self.workers, name=name, labels=labels, limit=MOST_PODS)

    # The command line, as an operator has it in the cluster

    def cli(self, *words: str) -> str:
        """What `penstock WORDS` prints in the operator's pod. Raises AssertionError with what it complained of."""
        program = ("exec", "operator", "--", "/opt/penstock/venv/bin/penstock", *words)
        return self.kubectl(*program)

    def make_operator(self) -> None:
        """A pod as the chart's own test pod is, which waits: docs/cluster.md, TLS."""
        rendered = self.helm("get", "hooks", self.release)
        (text,) = [one for one in rendered.split("\n---\n") if "\nkind: Pod\n" in f"\n{one}"]
        pod = json.loads(self.kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", text=text))
        pod["metadata"] = {
            "name": "operator",
            "namespace": self.namespace,
            "labels": pod["metadata"]["labels"],
        }
        del pod["spec"]["activeDeadlineSeconds"]
        (container,) = pod["spec"]["containers"]
        # The documents of `helm test` come with it and go with it.
        for part, kind in ((pod["spec"], "volumes"), (container, "volumeMounts")):
            part[kind] = [one for one in part[kind] if one["name"] != "texts"]
        container["command"] = ["/opt/penstock/venv/bin/penstock-init", "sleep", "infinity"]
        container["resources"] = {}
        self.control_plane.apply(pod)
        self.node.wait_pod(self.namespace, "operator")

    # Inside

    def _meet_gateway(self) -> None:
        name = f"{self.release}-gateway"
        address = self.kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
        secret = f"{self.release}-admin-token"
        template = '{{index .data "admin-token" | base64decode}}'
        token = self.kubectl("get", "secret", secret, "-o", f"go-template={template}")
        self.http.close()
        # One connection a call: a service leads each new one to a pod that is ready now.
        self.http = httpx.Client(
            base_url=f"http://{address}:8420",
            headers={"Authorization": f"Bearer {token}", "Connection": "close"},
            timeout=60,
            trust_env=False,
            transport=httpx.HTTPTransport(retries=PATIENT),
        )

    def _answers(self) -> bool:
        try:
            return self.http.get("/api/v1/classes").is_success
        except httpx.HTTPError:
            return False

    def _both(self) -> tuple[str, str]:
        return self.namespace, self.workers

    def _pods(self, namespace: str, labels: str) -> list[dict[str, Any]]:
        with self.control_plane.client() as api:
            answer = api.get(f"/api/v1/namespaces/{namespace}/pods", params={"labelSelector": labels})
            answer.raise_for_status()
        return sorted(answer.json()["items"], key=lambda pod: str(pod["metadata"]["name"]))
