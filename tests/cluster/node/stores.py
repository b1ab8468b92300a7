"""PostgreSQL, Redis and an S3 store as pods: the manifests of examples/cluster as they stand.

What a cluster of somebody's brings and this one has not is made here: the volumes that the claims wait for (folders of
the box, which outlive a pod), and the images under the names that the manifests give. The roles of
`charts/penstock/files/roles.sql` are made in the database by its owner, as docs/cluster.md says.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from tests.cluster import tools
from tests.cluster.images import ROOT
from tests.cluster.programs.images import archive
from tests.cluster.programs.node import Node

__all__ = ["FOLDER", "KINDS", "SERVICES", "Stores", "readme"]

FOLDER = ROOT / "examples" / "cluster"
KINDS = {"redis": "deployment", "postgresql": "statefulset", "blobs": "deployment"}
VERSITYGW = "docker.io/versity/versitygw:v1.8.0"
SERVICES = ("planner", "scheduler", "analyzer", "gateway", "migrations")
"""Each has a role of its own, penstock_SERVICE."""
_OWNERS = {"postgresql": 999, "blobs": 65532}
"""Whose the folder of each claim is: no driver sets the group of a folder of the host."""
READY = "300s"


def readme() -> list[list[str]]:
    """The commands of examples/cluster/README.md, as they stand there."""
    block = (FOLDER / "README.md").read_text().split("```")[1]
    return [shlex.split(line) for line in block.strip().splitlines()]


class Stores:
    """In a namespace of the cluster. Pods: `app=postgresql`, `app=redis`, `app=blobs`, one each."""

    def __init__(self, node: Node, namespace: str) -> None:
        self.node, self.namespace = node, namespace
        self.control_plane = node.control_plane

    def load(self, images: Path) -> None:
        """images: the archive of Redis and PostgreSQL."""
        self.node.load(images)
        program = tools.program("versitygw")
        self.node.load(archive(self.node.folder / "versitygw.tar", program=program, name=VERSITYGW))

    def start(self) -> None:
        """All that the README says before Helm; ready."""
        self.control_plane.apply(*(self._volume(claim, owner) for claim, owner in _OWNERS.items()))
        for program, *words in readme():
            if program == "kubectl":
                self.control_plane.kubectl(*words)

    def wait_ready(self) -> None:
        for name in KINDS:
            self.rolled_out(name)

    def rolled_out(self, name: str) -> None:
        """Waits until a store's pod is ready."""
        self.kubectl("rollout", "status", f"{KINDS[name]}/{name}", f"--timeout={READY}")

    def make_roles(self) -> None:
        """The least-privilege roles, each with the password that `url` says."""
        self.sql((ROOT / "charts" / "penstock" / "files" / "roles.sql").read_text())
        self.sql("".join(f"ALTER ROLE penstock_{name} PASSWORD '{_password(name)}';" for name in SERVICES))

    def url(self, service: str) -> str:
        """Of the database, for a service's own role."""
        return f"postgresql://penstock_{service}:{_password(service)}@postgresql:5432/penstock"

    def sql(self, text: str, *, database: str = "penstock") -> str:
        """What psql prints, tuples alone, as the owner of the database. Raises AssertionError."""
        program = ("psql", "-v", "ON_ERROR_STOP=1", "-qAt", "-U", "penstock", database)
        return self.kubectl("exec", "-i", f"{KINDS['postgresql']}/postgresql", "--", *program, text=text)

    def kubectl(self, *words: str, text: str | None = None) -> str:
        return self.control_plane.kubectl("-n", self.namespace, *words, text=text)

    def _volume(self, claim: str, owner: int) -> dict[str, Any]:
        folder = self.node.folder / "volumes" / f"{self.namespace}-{claim}"
        folder.mkdir(parents=True, mode=0o755, exist_ok=True)
        os.chown(folder, owner, owner)
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{self.namespace}-{claim}"},
            "spec": {
                "capacity": {"storage": "20Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder)},
                "claimRef": {"namespace": self.namespace, "name": claim},
            },
        }


def _password(service: str) -> str:
    return f"try-out-{service}"
