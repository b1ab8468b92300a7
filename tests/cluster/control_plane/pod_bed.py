"""The bed of backend tests over a real API server: namespace, rights, owner, classes, and a kubelet played by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

from penstock.runtime.rights import rules
from penstock.runtime.settings import Settings
from scheduler.backends import WorkerNow
from tests.cluster.control_plane.hand_kubelet import HandKubelet
from tests.cluster.programs.control_plane import ControlPlane
from tests.integration.backends.bed import MOST, SLOTS, Bed

__all__ = ["PodBed", "rights"]

_NUMBERS = itertools.count(1)
OWNER = "pen-workers"


def rights(control_plane: ControlPlane, namespace: str) -> Path:
    """A kubeconfig of a scheduler: the rights of the chart's Role and no others."""
    user = f"scheduler-{namespace}"
    control_plane.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "scheduler", "namespace": namespace},
            "rules": rules(OWNER),
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "scheduler", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "scheduler"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        },
    )
    return control_plane.client_kubeconfig(user)


class PodBed(Bed):
    """runs: whether pods run workers, or only say so; by_hand: whether the kubelet is ours; classes: changes of the
    class."""

    def __init__(
        self,
        folder: Path,
        control_plane: ControlPlane,
        *,
        runs: bool = True,
        by_hand: bool = True,
        classes: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(folder)
        self.control_plane = control_plane
        self.namespace = control_plane.namespace(
            f"workers-{next(_NUMBERS)}", labels={"pod-security.kubernetes.io/enforce": "restricted"}
        )
        there = [("ConfigMap", OWNER), ("ServiceAccount", "pen-worker")]
        control_plane.apply(
            *(
                {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": self.namespace}}
                for kind, name in there
            )
        )
        self.kubeconfig = rights(control_plane, self.namespace)
        self.classes_file = folder / "classes.yaml"
        self.write_classes(classes or {})
        (folder / "logs").mkdir()
        self.kubelet = HandKubelet(control_plane, self.namespace, folder / "logs")
        self._runs, self._by_hand = runs, by_hand

    def write_classes(self, changes: Mapping[str, object]) -> None:
        """Class `default`, as every bed has it, but for these."""
        default = {"slots": SLOTS, "max": MOST, "image": "localhost/penstock:1", "grace_seconds": 20, **changes}
        self.classes_file.write_text(json.dumps({"default": default}))

    def scheduler_settings(self) -> dict[str, object]:
        return {
            "backend": "kubernetes",
            "release": "pen",
            "worker_namespace": self.namespace,
            "pods_owner": OWNER,
            "classes_file": self.classes_file,
            "worker_tls_secret": "none",
            "kubeconfig": self.kubeconfig,
            "quiet_seconds": 0.2,
        }

    async def prepare(self, settings: Settings) -> None:
        if self._runs:
            self.kubelet.environment = self.worker_environment(settings)
        if self._by_hand:
            self.kubelet.start()

    async def stop(self) -> None:
        await super().stop()
        if self._by_hand:
            self.kubelet.stop()

    async def kill(self, worker: WorkerNow) -> None:
        pod = next(pod for pod in self.kubelet.pods() if worker.session.startswith(f"{pod['metadata']['name']}-"))
        self.kubelet.process(pod["metadata"]["uid"]).kill()

    def live(self) -> list[dict[str, object]]:
        """Pods that have not ended, as the API server has them."""
        return [pod for pod in self.kubelet.pods() if pod["status"].get("phase") not in ("Succeeded", "Failed")]

    async def living(self) -> int:
        return len(self.live())
