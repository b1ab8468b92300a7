"""One real node beside a control plane: scheduler, containerd, kubelet, pod network, services and names.

Pods of it run as they do anywhere; their images are loaded (`load`), never pulled: `imagePullPolicy: Never`. A host
program reaches pods and services by their addresses, pods reach host programs at `HOST`. A part that does not come up
raises NotReady with the end of its log.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.cluster import tools
from tests.cluster.box.place import HOST
from tests.cluster.programs import node_files
from tests.cluster.programs.control_plane import API_ADDRESS, ControlPlane, is_ready
from tests.cluster.programs.daemon import Daemon, wait_until
from tests.cluster.programs.images import archive
from tests.cluster.programs.scheduler import pod_scheduler

__all__ = ["IMAGE", "NODE", "Node"]

NODE = "node1"
IMAGE = node_files.PAUSE_IMAGE
"""The probe (`tests/cluster/tools/probe`): waits, serves HTTP, asks, connects."""
READY_SECONDS = 60.0
IMAGES_NAMESPACE = "k8s.io"


class Node:
    """`control_plane` has been started. Its programs are daemons that a test may kill and freeze."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self.place = control_plane.place
        self.folder = self.place.state / "node"
        self.folder.mkdir()
        self.socket = Path("/run/penstock-containerd.sock")
        self.scheduler = pod_scheduler(control_plane)
        self.containerd = self._daemon("containerd", "containerd", "--config", self._write_containerd())
        self.kubelet = self._daemon("kubelet", tools.program("kubelet"), *self._kubelet())
        self.kube_proxy = self._daemon("kube-proxy", tools.program("kube-proxy"), f"--config={self._write_proxy()}")
        corefile = self._write("Corefile", node_files.corefile(self._client("coredns")))
        self.coredns = self._daemon("coredns", tools.program("coredns"), "-conf", corefile)

    def start(self) -> None:
        self.containerd.start()
        self.containerd.wait_until(self._has_runtime, "its socket answers", seconds=READY_SECONDS)
        probe = tools.program("probe")
        self.load(archive(self.folder / "probe.tar", program=probe, name=IMAGE))
        self.control_plane.apply(*node_files.dns_reader())
        for daemon in (self.scheduler, self.kubelet, self.coredns):
            daemon.start()
        # It asks for its node once a second: better there than waited for.
        self.kubelet.wait_until(self._is_known, f"{NODE} is known", seconds=READY_SECONDS)
        self.kube_proxy.start()
        self.wait_ready()

    def stop(self) -> None:
        for daemon in (self.coredns, self.kube_proxy, self.kubelet, self.scheduler, self.containerd):
            daemon.stop()

    def wait_ready(self) -> None:
        """Until the API server counts the node as Ready, and names and services work."""
        self.kubelet.wait_until(self._is_ready, f"{NODE} is Ready", seconds=READY_SECONDS)
        self.kube_proxy.wait_until(_services_answer, f"{API_ADDRESS} leads to the API", seconds=READY_SECONDS)
        self.coredns.wait_until(_names_are_known, "it knows the cluster's names", seconds=READY_SECONDS)

    def load(self, image: Path) -> None:
        """Takes an image from a docker archive. Raises AssertionError with what containerd said."""
        done = self._ctr("images", "import", "--digests", str(image))
        assert done.returncode == 0, f"{image.name} can't be loaded: {done.stderr.strip()}"

    def tag(self, name: str, *names: str) -> None:
        """Gives a loaded image other names. Raises AssertionError with what containerd said."""
        done = self._ctr("images", "tag", "--force", name, *names)
        assert done.returncode == 0, f"{name} can't be named {names}: {done.stderr.strip()}"

    def images(self) -> list[str]:
        """References of what is loaded."""
        return self._ctr("images", "list", "--quiet").stdout.split()

    def pod_ready(self, namespace: str, name: str) -> Callable[[], bool]:
        """A question for `wait_until`: whether a pod is Ready."""

        def ready() -> bool:
            pod = self.control_plane.try_kubectl("get", "pod", name, "-n", namespace, "-o", "json")
            return pod.returncode == 0 and is_ready(json.loads(pod.stdout))

        return ready

    def wait_pod(self, namespace: str, name: str, *, seconds: float = READY_SECONDS) -> None:
        """Until a pod is Ready. Raises AssertionError that shows the pod's events."""
        try:
            wait_until(self.pod_ready(namespace, name), f"pod {name} is Ready", seconds=seconds)
        except TimeoutError as error:
            told = self.control_plane.try_kubectl("describe", "pod", name, "-n", namespace).stdout
            raise AssertionError(f"{error}\n{told[-3000:]}") from None

    def _node(self) -> str | None:
        """The node as the API has it."""
        with self.control_plane.client() as api:
            try:
                answer = api.get(f"/api/v1/nodes/{NODE}")
            except httpx.HTTPError:
                return None
            return answer.text if answer.status_code == httpx.codes.OK else None

    def _is_known(self) -> bool:
        return self._node() is not None

    def _is_ready(self) -> bool:
        node = self._node()
        return node is not None and is_ready(json.loads(node))

    def _has_runtime(self) -> bool:
        return self._ctr("version").returncode == 0

    def _ctr(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", str(self.socket), "--namespace", IMAGES_NAMESPACE, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _daemon(self, name: str, program: Path | str, *words: str) -> Daemon:
        return Daemon(name, [str(program), *words], logs=self.place.logs)

    def _client(self, user: str, *groups: str) -> Path:
        return self.control_plane.client_kubeconfig(user, groups=groups)

    def _write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def _write_containerd(self) -> str:
        networks = self.folder / "networks"
        networks.mkdir()
        self._write("networks/10-pods.conflist", node_files.pod_network(self.folder))
        return self._write(
            "containerd.toml",
            node_files.containerd(self.place, folder=self.folder, socket=self.socket, networks=networks),
        )

    def _write_proxy(self) -> str:
        return self._write(
            "kube-proxy.json", json.dumps(node_files.kube_proxy(self._client("system:kube-proxy"), node=NODE))
        )

    def _kubelet(self) -> list[str]:
        authority = self.control_plane.authority
        config = node_files.kubelet(
            self.place,
            folder=self.folder,
            socket=self.socket,
            certificate_authority=authority.certificate,
            serving=authority.server(NODE, names=[NODE], addresses=[HOST]),
        )
        return [
            f"--config={self._write('kubelet.json', json.dumps(config))}",
            f"--kubeconfig={self._client(f'system:node:{NODE}', 'system:nodes')}",
            *(f"--root-dir={self.folder / 'kubelet'}", f"--cert-dir={self.folder / 'kubelet-certificates'}"),
            *(f"--hostname-override={NODE}", f"--node-ip={HOST}"),
        ]


def _services_answer() -> bool:
    try:
        socket.create_connection((API_ADDRESS, 443), timeout=1).close()
    except OSError:
        return False
    return True


def _names_are_known() -> bool:
    connection = http.client.HTTPConnection(node_files.DNS_READY, timeout=1)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == httpx.codes.OK
    except OSError:
        return False
    finally:
        connection.close()
