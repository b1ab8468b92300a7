"""etcd, API server and controller manager: all of a cluster that decides, and none that runs anything.

Inside of a box only, where their usual ports are free. Each of the three is a `Daemon`: a test kills or freezes the one
that it likes and waits with `wait_ready` until the API answers again. A part that does not come up raises NotReady with
the end of its log.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.cluster import tools
from tests.cluster.box.place import HOST, SERVICES, Place
from tests.cluster.programs.certificates import Authority, Pair
from tests.cluster.programs.daemon import Daemon, wait_until

__all__ = ["ControlPlane", "is_ready"]

READY_SECONDS = 60.0
NODE_GRACE_SECONDS = 50
"""Without word from a node for so long, it counts as not ready (Kubernetes' own value)."""
URL = "https://127.0.0.1:6443"
API_ADDRESS = "10.96.0.1"
_ETCD = "http://127.0.0.1:2379"
_ETCD_PEERS = "http://127.0.0.1:2380"
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
QPS = ("--kube-api-qps=300", "--kube-api-burst=600")
"""The usual rates of its programs are for clusters of many; with them 500 pods take minutes."""
_OURS = ("system:masters", "system:nodes", "system:serviceaccounts:kube-system")
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": list(_OURS)},
        {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]},
        {"level": "Metadata"},
    ],
}
"""Calls of whom a test made up, not those of the cluster's own programs nor of its administrator."""


class ControlPlane:
    """`kubeconfig` is an administrator's. Its folder ends with the box."""

    url = URL

    def __init__(self, place: Place, *, node_grace_seconds: int = NODE_GRACE_SECONDS) -> None:
        self.place = place
        self.node_grace_seconds = node_grace_seconds
        self.folder = place.state / "control-plane"
        self.folder.mkdir()
        self.authority = Authority(self.folder / "certificates")
        self.certificate_authority = self.authority.certificate
        self.kubeconfig = self.client_kubeconfig("admin", groups=["system:masters"])
        self.etcd = Daemon("etcd", self._etcd(), logs=place.logs)
        self.api_server = Daemon("kube-apiserver", self._api_server(), logs=place.logs)
        self.controller_manager = Daemon("kube-controller-manager", self._controller_manager(), logs=place.logs)
        self._admin = self.client()

    def start(self) -> None:
        self.etcd.start()
        self.api_server.start()
        self.wait_ready()
        self.controller_manager.start()
        self.etcd.wait_until(self._has_account, "the default namespace has its account", seconds=READY_SECONDS)

    def stop(self) -> None:
        for daemon in (self.controller_manager, self.api_server, self.etcd):
            daemon.stop()

    def ready(self) -> bool:
        """Whether the API server says so of itself."""
        try:
            return self._admin.get("/readyz", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def wait_ready(self) -> None:
        self.api_server.wait_until(self.ready, "/readyz", seconds=READY_SECONDS)

    def client(self, kubeconfig: Path | None = None) -> httpx.Client:
        """HTTP to the API as an administrator, or as whom the kubeconfig (one of ours) names. The caller closes it."""
        user = json.loads((kubeconfig or self.kubeconfig).read_text())["users"][0]["user"]
        context = ssl.create_default_context(cafile=str(self.certificate_authority))
        if "client-certificate" in user:
            context.load_cert_chain(user["client-certificate"], user["client-key"])
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        return httpx.Client(base_url=URL, verify=context, headers=headers, timeout=10, trust_env=False)

    def client_kubeconfig(self, user: str, *, groups: Sequence[str] = ()) -> Path:
        """For whom a client certificate names so; rights he has those that roles give him."""
        pair = self.authority.client(user, groups=groups)
        return self._kubeconfig(user, {"client-certificate": str(pair.certificate), "client-key": str(pair.key)})

    def account_kubeconfig(self, namespace: str, account: str) -> Path:
        """For a service account, by a token of an hour from the API."""
        token = self.kubectl("create", "token", account, "--namespace", namespace).strip()
        return self._kubeconfig(f"{namespace}.{account}", {"token": token})

    def kubectl(self, *words: str, text: str | None = None, kubeconfig: Path | None = None) -> str:
        """What kubectl prints. Raises AssertionError with what it complained of."""
        done = self.try_kubectl(*words, text=text, kubeconfig=kubeconfig)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}"
        return done.stdout

    def try_kubectl(
        self, *words: str, text: str | None = None, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """For what may be refused: returncode, stdout, stderr."""
        program = str(tools.program("kubectl"))
        return subprocess.run(
            [program, "--kubeconfig", str(kubeconfig or self.kubeconfig), *words],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin"},
        )

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Server-side, as an administrator. Raises AssertionError with what the API server refused."""
        whole = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=json.dumps(whole))

    def namespace(self, name: str, *, labels: Mapping[str, str] | None = None) -> str:
        """Makes a namespace that pods can start in; its name."""
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        wait_until(lambda: self._has_account(name), f"namespace {name} has its account", seconds=READY_SECONDS)
        return name

    def audited(self) -> list[dict[str, Any]]:
        """Calls so far of users and service accounts that tests have made up: verb, user, objectRef, responseStatus."""
        path = self.place.logs / "audit.log"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        # The last line may be half written.
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def _has_account(self, namespace: str = "default") -> bool:
        try:
            answer = self._admin.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    def _kubeconfig(self, user: str, credentials: Mapping[str, str]) -> Path:
        path = self.folder / f"{user.replace(':', '_')}.kubeconfig"
        cluster = {"server": URL, "certificate-authority": str(self.authority.certificate)}
        whole = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": dict(credentials)}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(whole, indent=1))
        path.chmod(0o600)
        return path

    def _etcd(self) -> list[str]:
        return [
            *("etcd", "--data-dir", str(self.folder / "etcd"), "--logger", "zap", "--log-level", "warn"),
            *("--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD),
            *("--listen-peer-urls", _ETCD_PEERS, "--initial-advertise-peer-urls", _ETCD_PEERS),
            *("--initial-cluster", f"default={_ETCD_PEERS}"),
        ]

    def _api_server(self) -> list[str]:
        serving = self.authority.server(
            "kube-apiserver", names=[*_NAMES, "localhost"], addresses=["127.0.0.1", HOST, API_ADDRESS]
        )
        to_kubelet = self.authority.client("apiserver-to-kubelet", groups=["system:masters"])
        accounts = self.authority.signing_key("accounts")
        audit = self.folder / "audit.json"
        audit.write_text(json.dumps(_AUDIT))
        return [
            *(str(tools.program("kube-apiserver")), f"--etcd-servers={_ETCD}"),
            *("--bind-address=0.0.0.0", "--secure-port=6443", f"--advertise-address={HOST}"),
            *(f"--service-cluster-ip-range={SERVICES}", "--service-node-port-range=30000-30100"),
            f"--client-ca-file={self.authority.certificate}",
            *(f"--tls-cert-file={serving.certificate}", f"--tls-private-key-file={serving.key}"),
            *_kubelets(self.authority.certificate, to_kubelet),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={accounts.certificate}",
            f"--service-account-signing-key-file={accounts.key}",
            *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
            *(f"--audit-policy-file={audit}", f"--audit-log-path={self.place.logs / 'audit.log'}"),
            *("--allow-privileged=true", "--profiling=false"),
        ]

    def _controller_manager(self) -> list[str]:
        user = "system:kube-controller-manager"
        authority = self.authority.pair
        return [
            *(str(tools.program("kube-controller-manager")), f"--kubeconfig={self.client_kubeconfig(user)}"),
            f"--service-account-private-key-file={self.authority.signing_key('accounts').key}",
            *(f"--root-ca-file={authority.certificate}", f"--client-ca-file={authority.certificate}"),
            f"--cluster-signing-cert-file={authority.certificate}",
            f"--cluster-signing-key-file={authority.key}",
            *("--use-service-account-credentials=true", "--leader-elect=false", "--bind-address=127.0.0.1"),
            f"--node-monitor-grace-period={self.node_grace_seconds}s",
            *QPS,
        ]


def _kubelets(certificate_authority: Path, client: Pair) -> list[str]:
    return [
        f"--kubelet-certificate-authority={certificate_authority}",
        f"--kubelet-client-certificate={client.certificate}",
        f"--kubelet-client-key={client.key}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def is_ready(thing: Mapping[str, Any]) -> bool:
    """Whether a pod or a node, as JSON, has the condition Ready."""
    conditions = thing.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
