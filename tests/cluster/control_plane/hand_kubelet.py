"""A kubelet played by hand: pods of a namespace run as local processes, or only say so.

There is no container and no network of pods: what the API server sees is what a kubelet would tell it, and a test says
what happens to a pod. One node, which beats as long as the kubelet is not held.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.programs.control_plane import ControlPlane

__all__ = ["HandKubelet"]

NODE = "hand"
MERGE = {"Content-Type": "application/merge-patch+json"}
Json = dict[str, Any]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _own() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}


@dataclass
class _Running:
    process: subprocess.Popen[bytes] | None
    told: float | None = None


@dataclass
class HandKubelet:
    """environment: of its processes, over the pod's own; None: pods run nothing. fates: by pod name, the status that it
    gets instead of running."""

    control_plane: ControlPlane
    namespace: str
    folder: Path
    environment: Mapping[str, str] | None = None
    fates: dict[str, Json] = field(default_factory=dict)
    held: threading.Event = field(default_factory=threading.Event)
    _running: dict[str, _Running] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _beat: float = 0.0

    def start(self) -> None:
        self._client = self.control_plane.client()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(10)
        for one in self._running.values():
            if one.process is not None and one.process.poll() is None:
                one.process.kill()
                one.process.wait()
        self._client.close()

    def process(self, uid: str) -> subprocess.Popen[bytes]:
        found = self._running[uid].process
        assert found is not None
        return found

    def pods(self) -> list[Json]:
        answer = self._client.get(f"/api/v1/namespaces/{self.namespace}/pods")
        answer.raise_for_status()
        items: list[Json] = answer.json()["items"]
        return items

    def _run(self) -> None:
        while not self._over.wait(0.05):
            if self.held.is_set():
                continue
            with contextlib.suppress(httpx.HTTPError):  # the API server is away: kubelets wait
                self._heartbeat()
                for pod in self.pods():
                    self._see_to(pod)

    def _heartbeat(self) -> None:
        if time.monotonic() - self._beat < 5:
            return
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        self._client.post("/api/v1/nodes", json=node)
        condition = {"type": "Ready", "status": "True", "reason": "Hand", "lastHeartbeatTime": _now()}
        status = {"conditions": [condition], "capacity": {"pods": "500"}, "allocatable": {"pods": "500"}}
        self._client.patch(f"/api/v1/nodes/{NODE}/status", json={"status": status}, headers=MERGE)
        self._beat = time.monotonic()

    def _see_to(self, pod: Json) -> None:
        metadata = pod["metadata"]
        name, uid = metadata["name"], metadata["uid"]
        phase = pod["status"].get("phase")
        if not pod["spec"].get("nodeName"):
            if not metadata.get("deletionTimestamp"):
                self._bind(name, uid)
            return
        running = self._running.get(uid)
        if running is None and phase == "Pending" and not metadata.get("deletionTimestamp"):
            self._begin(name, uid, pod)
            return
        if running is not None and running.process is not None and running.process.poll() is not None:
            if phase == "Running":
                self._ended(name, running.process.returncode)
            if metadata.get("deletionTimestamp"):
                self._remove(name, uid)
        elif metadata.get("deletionTimestamp"):
            if running is None or running.process is None:
                self._remove(name, uid)
            elif running.told is None:
                running.process.send_signal(signal.SIGTERM)
                running.told = time.monotonic()
            elif time.monotonic() - running.told > metadata.get("deletionGracePeriodSeconds", 30):
                running.process.kill()

    def _bind(self, name: str, uid: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        self._client.post(f"/api/v1/namespaces/{self.namespace}/pods/{name}/binding", json=binding)

    def _begin(self, name: str, uid: str, pod: Json) -> None:
        if name in self.fates:
            self._patch(name, self.fates[name])
            return
        process = None
        if self.environment is not None:
            told = {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}
            told = {key: value for key, value in told.items() if key not in ("PENSTOCK_DATA", "PENSTOCK_TLS__FOLDER")}
            with (self.folder / f"{name}.{uid[:8]}.log").open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "worker"],
                    env={**_own(), **told, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        self._running[uid] = _Running(process)
        self._patch(name, self._status("Running", "True", {"running": {"startedAt": _now()}}))

    def _ended(self, name: str, code: int) -> None:
        code = code if code >= 0 else 128 - code
        reason = "Completed" if code == 0 else "Error"
        state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": _now()}}
        self._patch(name, self._status("Succeeded" if code == 0 else "Failed", "False", state))

    def _status(self, phase: str, ready: str, state: Json) -> Json:
        one = {
            "name": "worker",
            "state": state,
            "ready": ready == "True",
            "restartCount": 0,
            "image": "none",
            "imageID": "none",
        }
        return {
            "phase": phase,
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": ready, "lastTransitionTime": _now()},
            ],
            "containerStatuses": [one],
        }

    def _patch(self, name: str, status: Json) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/status"
        self._client.patch(path, json={"status": status}, headers=MERGE)

    def _remove(self, name: str, uid: str) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        self._client.request("DELETE", path, json=options)
