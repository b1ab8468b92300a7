"""What the scheduler, and everybody else, may do: exactly what is named here, in every render."""

from __future__ import annotations

import pytest

from tests.cluster.chart.rendering import RELEASE, VALUES, of_kind, pod_specs, render

SCHEDULER = {
    ("", "pods"): {"create", "get", "list", "watch", "delete"},
    ("", "pods/log"): {"get"},
    ("", "configmaps"): {"get"},
}
GRANTING = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
PER_CLUSTER = ("Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


@pytest.mark.parametrize("name", VALUES)
def test_the_scheduler_may_do_its_job_and_nothing_else(name: str) -> None:
    objects = render(name)
    workers = "batch" if name == "gitops" else f"{RELEASE}-workers"
    granting = of_kind(objects, *GRANTING)
    assert [(one["kind"], one["metadata"]["namespace"]) for one in granting] == [
        ("Role", workers),
        ("RoleBinding", workers),
    ]
    role, binding = granting
    rights: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                rights.setdefault((group, resource), set()).update(rule["verbs"])
        if rule["resources"] == ["configmaps"]:
            assert rule["resourceNames"] == [f"{RELEASE}-workers"]
    assert rights == SCHEDULER
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "demo-scheduler", "namespace": "penstock"}]


@pytest.mark.parametrize("name", VALUES)
def test_the_scheduler_alone_has_a_token(name: str) -> None:
    objects = render(name)
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, account["metadata"]["name"]
    holders = []
    for what, spec in pod_specs(objects):
        assert spec["automountServiceAccountToken"] is False, what
        for volume in spec.get("volumes", []):
            if "projected" in volume:
                holders += [what for source in volume["projected"]["sources"] if "serviceAccountToken" in source]
    assert holders == ["Deployment/demo-scheduler"]


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_is_restricted(name: str) -> None:
    specs = list(pod_specs(render(name)))
    assert len(specs) >= 4
    for what, spec in specs:
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), what
        assert spec["securityContext"]["runAsNonRoot"] is True, what
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, what
        assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume], what
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, what
            assert context["readOnlyRootFilesystem"] is True, what
            assert context["runAsUser"] == 65532, what
            assert context["capabilities"] == {"drop": ["ALL"]}, what
            assert {"memory", "ephemeral-storage"} <= container["resources"]["limits"].keys(), what
            # PID 1 reaps and forwards; no shell stands between.
            assert container["command"][0] == "/opt/penstock/venv/bin/penstock-init", what


@pytest.mark.parametrize("name", VALUES)
def test_a_program_mounts_its_own_certificate_alone_and_the_key_of_the_authority_nowhere(name: str) -> None:
    objects = render(name)
    made = {one["metadata"]["name"] for one in of_kind(objects, "Secret", "Certificate")}
    for deployment in of_kind(objects, "Deployment"):
        service = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        secrets = [
            volume["secret"]["secretName"]
            for volume in deployment["spec"]["template"]["spec"]["volumes"]
            if "secret" in volume
        ]
        assert f"demo-{service}-tls" in secrets
        assert not [one for one in secrets if one.endswith("-tls") and one != f"demo-{service}-tls"]
        assert "demo-ca" not in secrets
    assert ("demo-ca" in made) == (name not in ("gitops", "existing-secrets"))


@pytest.mark.parametrize("name", VALUES)
def test_worker_pods_are_walled_in_thrice(name: str) -> None:
    objects = render(name)
    if name != "gitops":
        (namespace,) = of_kind(objects, "Namespace")
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    (quota,) = of_kind(objects, "ResourceQuota")
    assert {"pods", "requests.cpu", "requests.memory", "limits.memory"} <= quota["spec"]["hard"].keys()
    policies = of_kind(objects, "ValidatingAdmissionPolicy")
    if name == "small":
        assert not policies
        return
    (policy,) = policies
    (binding,) = of_kind(objects, "ValidatingAdmissionPolicyBinding")
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"]["validationActions"] == ["Deny"]
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    selected = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
    assert selected == {"kubernetes.io/metadata.name": quota["metadata"]["namespace"]}


def test_the_quota_is_the_sum_of_all_classes() -> None:
    (minimal,) = of_kind(render("minimal"), "ResourceQuota")
    assert minimal["spec"]["hard"] == {
        "pods": "4",
        "requests.cpu": "2000m",
        "requests.memory": "4096Mi",
        "requests.ephemeral-storage": "4096Mi",
        "limits.memory": "8192Mi",
        "limits.ephemeral-storage": "32768Mi",
    }
    (several,) = of_kind(render("classes"), "ResourceQuota")
    hard = several["spec"]["hard"]
    # 6 default, 24 agents, 2 gpu, 0 resting.
    assert hard["requests.memory"] == f"{(6 * 1 + 24 * 4 + 2 * 16) * 1024}Mi"
    assert hard["requests.nvidia.com/gpu"] == "2"
    # A limit that one class has not is no sum; what the values name themselves stays as they say.
    assert "limits.cpu" not in hard
    assert (hard["pods"], hard["requests.cpu"], hard["count/configmaps"]) == ("300", "200", "4")


def test_what_the_cluster_shares_carries_release_and_namespace() -> None:
    first, second = render("minimal", namespace="one"), render("minimal", namespace="two")
    for objects, namespace in ((first, "one"), (second, "two")):
        for one in of_kind(objects, *PER_CLUSTER):
            if one["kind"] != "Namespace":
                assert one["metadata"]["name"] == f"{namespace}.demo.workers"
            assert "namespace" not in one["metadata"]


def test_two_releases_in_one_namespace_share_no_object_and_no_selector() -> None:
    def identity(one: dict[str, object]) -> tuple[object, ...]:
        metadata = one["metadata"]
        assert isinstance(metadata, dict)
        return one["kind"], metadata.get("namespace"), metadata["name"]

    first, second = render("classes", release="first"), render("classes", release="second")
    assert not {identity(one) for one in first} & {identity(one) for one in second}
    selectors = [
        str(sorted(one["spec"]["selector"].get("matchLabels", one["spec"]["selector"]).items()))
        for objects in (first, second)
        for one in of_kind(objects, "Deployment", "Service")
    ]
    assert len(set(selectors)) == 8
    urls = [
        variable["value"]
        for objects in (first, second)
        for what, spec in pod_specs(objects)
        if what.endswith("-scheduler")
        for variable in spec["containers"][0]["env"]
        if variable["name"] == "PENSTOCK_REDIS_PREFIX"
    ]
    assert len(set(urls)) == 2


def test_names_of_the_longest_release_fit() -> None:
    release = "r" * 40
    for one in render("exposed", "classes", release=release):
        bound = 63 if one["kind"] in ("Service", "Job", "Pod", "Namespace") else 253
        assert len(one["metadata"]["name"]) <= bound, one["metadata"]["name"]
        for value in (one["metadata"].get("labels") or {}).values():
            assert len(value) <= 63
