"""Configuration of the node's programs: containerd, pod network, kubelet, kube-proxy, CoreDNS.

Each line that is not the usual one says what happens without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.box.place import HOST, HOST_NETWORK, PODS, Place
from tests.cluster.programs.certificates import Pair

PAUSE_IMAGE = "localhost/probe:1"
NODE_PODS = "10.244.0.0/24"
DOMAIN = "cluster.local"
CNI_PROGRAMS = "/usr/lib/cni"


def containerd(place: Place, *, folder: Path, socket: Path, networks: Path) -> str:
    return f"""
version = 2
root = "{folder}/containerd"
state = "/run/penstock-containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  # Without the right to lower it (CAP_SYS_RESOURCE) no pod starts at all.
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "{PAUSE_IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{networks}"
"""


def pod_network(folder: Path) -> str:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": NODE_PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(folder / "addresses"),
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]})


def kubelet(place: Place, *, folder: Path, socket: Path, certificate_authority: Path, serving: Pair) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        # Otherwise it ends at once on a machine with cgroup v1.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.cgroup}",
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "address": HOST,
        "clusterDNS": [HOST],
        "clusterDomain": DOMAIN,
        "resolvConf": "",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificate_authority)},
        },
        "authorization": {"mode": "Webhook"},
        # An image that was loaded can't be pulled again: none is ever collected.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "podLogsDir": str(place.logs / "pods"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{socket}",
        "registryPullQPS": 0,
        "eventRecordQPS": 50,
    }


def kube_proxy(kubeconfig: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "bindAddress": HOST,
        "nodePortAddresses": [HOST_NETWORK],
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        # Zeros: it leaves the machine's sysctls alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def corefile(kubeconfig: Path) -> str:
    """Names of the cluster; every other name does not exist, so that no test depends on one outside."""
    return f"""
{DOMAIN}:53 {{
    bind {HOST}
    kubernetes {DOMAIN} {{
        kubeconfig {kubeconfig}
        endpoint_pod_names
    }}
    cache 5
}}
.:53 {{
    bind {HOST}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def dns_reader() -> list[Mapping[str, Any]]:
    """What the user `coredns` may read."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch", "get"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "coredns"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "coredns"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "coredns"}],
    }
    return [role, binding]
