"""What the scheduler, and everybody else, may do: exactly what is named here, in every render."""

from __future__ import annotations

import json
import re

import pytest

from penstock.runtime.rights import rules
from tests.cluster.chart.rendering import RELEASE, VALUES, Refused, of_kind, pod_specs, render

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
    assert sorted(role["rules"], key=str) == sorted(rules(f"{RELEASE}-workers"), key=str)
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


def test_seconds_of_a_toleration_that_are_null_are_left_out() -> None:
    """As the API server leaves them out of the pod that the policy sees."""
    tolerations: list[dict[str, object]] = [
        {"key": "far", "operator": "Exists", "tolerationSeconds": None},
        {"key": "far", "operator": "Exists"},
        {"key": "near", "effect": "NoExecute", "tolerationSeconds": 0},
    ]
    own = f"worker.classes.default.tolerations={json.dumps(tolerations)}"
    (policy,) = of_kind(render("minimal", sets=(own,)), "ValidatingAdmissionPolicy")
    (tolerated,) = [one["expression"] for one in policy["spec"]["variables"] if one["name"] == "tolerated"]
    assert json.loads(tolerated) == {"default": ["far|Exists|||", "far|Exists|||", "near|Equal||NoExecute|0"]}


ROLE, AUDIENCE = "eks.amazonaws.com/role-arn", "eks.amazonaws.com/audience"


@pytest.mark.parametrize(
    ("annotations", "audience"),
    [
        ({}, ""),
        ({ROLE: "arn:aws:iam::1:role/workers"}, "sts.amazonaws.com"),
        ({ROLE: "arn:aws-cn:iam::1:role/workers", AUDIENCE: "sts.amazonaws.com.cn"}, "sts.amazonaws.com.cn"),
        ({AUDIENCE: "pods.eks.amazonaws.com"}, "pods.eks.amazonaws.com"),
    ],
    ids=["none", "a role", "a role elsewhere", "Pod Identity"],
)
def test_a_token_that_the_cloud_mounts_is_let_in_for_one_audience(annotations: dict[str, str], audience: str) -> None:
    own = f"worker.serviceAccount.annotations={json.dumps(annotations)}"
    (policy,) = of_kind(render("minimal", sets=(own,)), "ValidatingAdmissionPolicy")
    told = json.dumps(policy["spec"]["validations"])
    audiences = re.findall(r"serviceAccountToken\.\?audience\.orValue\(''\) == '([^']*)'", told)
    assert audiences == ([audience] if audience else [])
    assert ("projected" in told) == bool(audience)


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


def test_a_device_that_a_class_names_as_a_limit_alone_is_asked_for_all_the_same() -> None:
    """Kubernetes makes the request of the limit, and the quota knows devices by requests alone."""
    requests, limits = {"cpu": 1, "memory": "1Gi"}, {"memory": "1Gi", "nvidia.com/gpu": 2, "hugepages-2Mi": "4Mi"}
    own = json.dumps({"max": 3, "resources": {"requests": requests, "limits": limits}})
    sets = (
        f"worker.classes.gpu={own}",
        'worker.classes.default.resources.limits={"memory": "2Gi", "ephemeral-storage": "8Gi"}',
    )
    (quota,) = of_kind(render("minimal", sets=sets), "ResourceQuota")
    hard = quota["spec"]["hard"]
    assert hard["requests.nvidia.com/gpu"] == "6"
    assert hard["requests.hugepages-2Mi"] == str(3 * 4 * 1024**2)
    assert not [key for key in hard if key.startswith("limits.") and key != "limits.memory"]
    with pytest.raises(Refused, match=r"worker\.quota\.requests\.nvidia\.com/gpu is 5, less than .*: 6 is right"):
        render("minimal", sets=(*sets, 'worker.quota={"requests.nvidia.com/gpu": "5"}'))


ROLE = '{"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/%s"}'


def test_each_account_has_the_annotations_of_its_program_and_pods_are_made_anew_with_them() -> None:
    names = ("planner", "scheduler", "analyzer", "gateway", "worker")
    objects = render("minimal", sets=tuple(f"{name}.serviceAccount.annotations={ROLE % name}" for name in names))
    accounts = {one["metadata"]["name"]: one["metadata"]["annotations"] for one in of_kind(objects, "ServiceAccount")}
    assert accounts == {f"demo-{name}": {"eks.amazonaws.com/role-arn": f"arn:aws:iam::1:role/{name}"} for name in names}
    hashes = {
        one["spec"]["template"]["metadata"]["annotations"]["penstock/service-account"]
        for one in of_kind(objects, "Deployment")
    }
    assert len(hashes) == 4
    for one in of_kind(render("minimal"), "ServiceAccount"):
        assert "annotations" not in one["metadata"]


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
