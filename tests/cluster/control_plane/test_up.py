"""The control plane is a real one: it answers, it judges pods, and it comes back after it was killed or hung."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.cluster import tools
from tests.cluster.programs.control_plane import ControlPlane

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pod(name: str, **security: object) -> dict[str, Any]:
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        **security,
    }
    containers = [{"name": "main", "image": "localhost/none:1", "securityContext": context}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers}}


def test_it_is_ready_and_of_the_version_that_was_built(control_plane: ControlPlane) -> None:
    with control_plane.client() as api:
        assert api.get("/readyz").text == "ok"
        assert api.get("/version").json()["gitVersion"] == f"v{tools.KUBERNETES_VERSION}"


def test_a_privileged_pod_is_refused_and_a_restricted_one_is_not(control_plane: ControlPlane) -> None:
    namespace = control_plane.namespace("restricted", labels=RESTRICTED)
    with control_plane.client() as api:
        path = f"/api/v1/namespaces/{namespace}/pods"
        refused = api.post(path, json=pod("bad", privileged=True, allowPrivilegeEscalation=True))
        assert refused.status_code == httpx.codes.FORBIDDEN
        assert 'violates PodSecurity "restricted:latest": privileged' in refused.json()["message"]
        assert api.post(path, json=pod("good")).status_code == httpx.codes.CREATED


def test_who_has_no_role_may_do_nothing_and_his_calls_are_counted(control_plane: ControlPlane) -> None:
    namespace = control_plane.namespace("rights")
    for kubeconfig in (
        control_plane.client_kubeconfig("stranger"),
        control_plane.account_kubeconfig(namespace, "default"),
    ):
        with control_plane.client(kubeconfig) as api:
            assert api.get(f"/api/v1/namespaces/{namespace}/pods").status_code == httpx.codes.FORBIDDEN
    calls = [call for call in control_plane.audited() if call["verb"] == "list"]
    users = {call["user"]["username"] for call in calls if call["objectRef"].get("namespace") == namespace}
    assert users == {"stranger", f"system:serviceaccount:{namespace}:default"}


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_the_api_server_comes_back_with_all_that_it_had(control_plane: ControlPlane, how: str) -> None:
    namespace = control_plane.namespace(f"back-{how}")
    server = control_plane.api_server
    if how == "killed":
        server.kill()
        assert not control_plane.ready()
        server.start()
    else:
        server.freeze()
        assert not control_plane.ready()
        server.thaw()
    control_plane.wait_ready()
    assert namespace in control_plane.kubectl("get", "namespace", namespace, "--output", "name")
