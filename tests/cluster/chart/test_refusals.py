"""Wrong values are refused before anything is installed: each with its path, and what would be right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import yaml

from tests.cluster.chart.rendering import CHART, Refused, of_kind, render

SCHEMA = json.loads((CHART / "values.schema.json").read_text())

SECRET = "hunter2"

SMALL = '{"resources": {"requests": {"cpu": 1, "memory": 1}, "limits": {"memory": 1}}}'


class Wrong(NamedTuple):
    """`sets` on top of the values file `on`: the refusal has all of `told`; the first is the path."""

    sets: tuple[str, ...]
    told: tuple[str, ...]
    on: str = "minimal"
    release: str = "demo"


WRONG = {
    "no database": Wrong(('postgresql.url=""',), ("postgresql.url is not set", "postgresql://USER:PASSWORD@HOST")),
    "no Redis": Wrong(('redis.url=""',), ("redis.url is not set", "redis://:PASSWORD@HOST:6379/0")),
    "no blobs": Wrong(('s3.url=""',), ("s3.url is not set", "s3://BUCKET/PREFIX", "s3.existingSecret")),
    "another database": Wrong((f'postgresql.url="mysql://a:{SECRET}@b/c"',), ("postgresql.url", "postgresql://USER")),
    "a database without a name": Wrong(
        (f'postgresql.url="postgresql://a:{SECRET}@b"',), ("postgresql.url", "DATABASE")
    ),
    "another Redis": Wrong((f'redis.url="http://:{SECRET}@b"',), ("redis.url", "rediss://… with TLS")),
    "a bucket without a scheme": Wrong(('s3.url="penstock"',), ("s3.url", "s3://BUCKET")),
    "two ways to one database": Wrong(
        ('postgresql.existingSecret="db"',), ("postgresql.url", "leave one out", "=null")
    ),
    "two keys of one store": Wrong(
        ('s3.existingSecret="blobs"', 's3.workerSecret="blobs"', 's3.url=""'),
        ("s3.accessKeyId and s3.existingSecret", "--set s3.accessKeyId=null --set s3.secretAccessKey=null"),
    ),
    "a service's database": Wrong(('planner.postgresql.url="x"',), ("planner.postgresql.url", "postgresql://USER")),
    "the migrations' database": Wrong(
        ('migrations.postgresql.url="x"',), ("migrations.postgresql.url", "postgresql://")
    ),
    "a port of no number": Wrong(
        (f'postgresql.url="postgresql://a:{SECRET}@b:no/c"',), ("postgresql.url has a port that is none", "65535")
    ),
    "a password where the host is": Wrong((f'redis.url="redis://:{SECRET}"',), ("redis.url has a port that is none",)),
    "a port of Sentinel": Wrong(
        (f'redis.url="redis+sentinel://:{SECRET}@a:26379,b:99999/s"',), ("redis.url has a port that is none",)
    ),
    "an endpoint's port": Wrong(('s3.endpoint="http://store:99999"',), ("s3.endpoint has a port that is none",)),
    "a password that is not encoded": Wrong(
        (f'postgresql.url="postgresql://a:x@{SECRET}@b/c"',), ("postgresql.url has more than one @", "%40")
    ),
    "half a key": Wrong(('s3.secretAccessKey=""',), ("s3.accessKeyId", "s3.secretAccessKey", "belong together")),
    "no key for workers": Wrong(('s3.workerSecret=""',), ("s3.workerSecret", "demo-workers"), on="existing-secrets"),
    "an unknown value": Wrong(("workers.max=3",), ("additional properties 'workers' not allowed",)),
    "an unknown value within": Wrong(("planner.replica=3",), ("/planner", "'replica' not allowed")),
    "an unknown value of a class": Wrong(("worker.classes.default.slot=3",), ("/worker/classes/default", "'slot'")),
    "a class without resources": Wrong(("worker.classes.gpu.max=1",), ("/worker/classes/gpu", "'resources'")),
    "a class without a limit of memory": Wrong(
        ('worker.classes.gpu={"resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {}}}',),
        ("/worker/classes/gpu/resources/limits", "'memory'"),
    ),
    "no slots": Wrong(("worker.classes.default.slots=0",), ("/worker/classes/default/slots", "want 1")),
    "a quantity": Wrong(
        ('worker.classes.default.resources.requests.memory="1 GB"',),
        ("/worker/classes/default/resources/requests/memory", "pattern"),
    ),
    "a resource that is none": Wrong(
        ('planner.resources.limits.mem="2Gi"',), ("/planner/resources/limits", "'mem' not allowed")
    ),
    "a resource of a class that is none": Wrong(
        ('worker.classes.default.resources.limits.mem="2Gi"',),
        ("/worker/classes/default/resources/limits", "'mem' not allowed"),
    ),
    "a class's name": Wrong(('worker.classes.Big={"max": 1}',), ("/worker/classes'", "'Big' not allowed")),
    "names of classes that collide": Wrong(
        tuple(f"worker.classes.documents-of-customers-{end}={SMALL}" for end in "ab"),
        ("worker.classes.documents-of-customers-b", "worker.classes.documents-of-customers-a", "first 20 characters"),
    ),
    "a limit below its request": Wrong(
        ('worker.classes.default.resources.limits.memory="512Mi"',),
        ("worker.classes.default.resources.limits.memory is 512Mi", "request of 1Gi"),
    ),
    "a service's limit below its request": Wrong(
        ('planner.resources.limits.memory="1Mi"',), ("planner.resources.limits.memory is 1Mi", "request of 512Mi")
    ),
    "no time to end in": Wrong(
        ("gateway.terminationGracePeriodSeconds=5",), ("/gateway/terminationGracePeriodSeconds", "want 10")
    ),
    "a variable of the chart's own": Wrong(
        ('gateway.env=[{"name": "MORE"}, {"name": "PENSTOCK_GATEWAY__AUTH", "value": "none"}]',),
        ("gateway.env[1] is PENSTOCK_GATEWAY__AUTH", "which the chart sets itself"),
    ),
    "a volume of the chart's own": Wrong(
        ('gateway.extraVolumes=[{"name": "tmp", "emptyDir": {}}]',), ("gateway.extraVolumes[0] is named tmp", "another")
    ),
    "a mount of no volume": Wrong(
        ('gateway.extraVolumeMounts=[{"name": "x", "mountPath": "/x"}]',),
        ("gateway.extraVolumeMounts[0] names the volume x", "gateway.extraVolumes"),
    ),
    "a mount over the chart's own": Wrong(
        (
            'scheduler.extraVolumes=[{"name": "x", "emptyDir": {}}]',
            'scheduler.extraVolumeMounts=[{"name": "x", "mountPath": "/etc/penstock/classes"}]',
        ),
        ("scheduler.extraVolumeMounts[0] is at /etc/penstock/classes", "another path"),
    ),
    "a label of the chart's own": Wrong(
        ('labels={"app.kubernetes.io/name": "x"}',), ("labels has app.kubernetes.io/name", "leave it out")
    ),
    "a label that selects pods": Wrong(
        ('planner.podLabels={"app.kubernetes.io/component": "x"}',),
        ("planner.podLabels has app.kubernetes.io/component",),
    ),
    "a quota of fewer pods": Wrong(('worker.quota.pods="3"',), ("worker.quota.pods is 3", "4 is right")),
    "a quota of less CPU": Wrong(
        ('worker.quota={"requests.cpu": "1900m"}',), ("worker.quota.requests.cpu is 1900m", "2000m is right")
    ),
    "a quota of less memory": Wrong(
        ('worker.quota={"limits.memory": "7.5Gi"}',), ("worker.quota.limits.memory is 7.5Gi", "8192Mi is right")
    ),
    "a quota of less CPU by its short name": Wrong(
        ('worker.quota={"cpu": "1"}',), ("worker.quota.cpu is 1", "2000m is right")
    ),
    "a quota of what is none": Wrong(('worker.quota={"podz": "9"}',), ("/worker/quota", "'podz' not allowed")),
    "workers in the release's namespace": Wrong(('worker.namespace="penstock"',), ("worker.namespace is penstock",)),
    "workers in the system's namespace": Wrong(
        ('worker.namespace="kube-system"',), ("worker.namespace", "demo-workers")
    ),
    **{
        f"a worker's token for the API server: {audience}": Wrong(
            (f'worker.serviceAccount.annotations={{"eks.amazonaws.com/audience": "{audience}"}}',),
            ("worker.serviceAccount.annotations has eks.amazonaws.com/audience", "sts.amazonaws.com"),
        )
        for audience in ("https://kubernetes.default.svc", "kubernetes.default.svc", "k3s", "api.")
    },
    "an annotation of no key": Wrong(
        ('worker.annotationsOfOthers=["k8s.v1.cni.cncf.io/networks", "x y"]',),
        ("/worker/annotationsOfOthers/1", "pattern"),
    ),
    "an account's name": Wrong(('planner.serviceAccount.name="a"',), ("/planner/serviceAccount", "'name' not allowed")),
    "a namespace's name": Wrong(('worker.namespace="Work"',), ("/worker/namespace", "pattern")),
    "TLS of no mode": Wrong(('tls.mode="none"',), ("/tls/mode", "'chart', 'certManager', 'secrets'")),
    "no issuer": Wrong(('tls.mode="certManager"',), ("tls.certManager.issuerRef.name is not set", "ClusterIssuer")),
    "an issuer of one namespace": Wrong(
        ('tls.mode="certManager"', 'tls.certManager.issuerRef={"name": "a", "kind": "Issuer"}'),
        ("tls.certManager.issuerRef.kind", "ClusterIssuer is right"),
    ),
    "OIDC without an audience": Wrong(
        ('auth.oidc={"issuer": "https://a.example", "roles": {"a": "viewer"}}',), ("auth.oidc.audience is not set",)
    ),
    "OIDC without roles": Wrong(
        ('auth.oidc={"issuer": "https://a.example", "audience": "a"}',), ("auth.oidc.roles is empty", "admin}")
    ),
    "OIDC without an issuer": Wrong(
        ('auth.oidc={"audience": "a", "roles": {"a": "viewer"}}',), ("auth.oidc.issuer is not set", "https://")
    ),
    "OIDC in plain text": Wrong(('auth.oidc.issuer="http://a.example"',), ("/auth/oidc/issuer", "https://")),
    "a role that is none": Wrong(('auth.oidc.roles={"a": "owner"}',), ("/auth/oidc/roles/a", "'viewer', 'operator'")),
    "no way without auth": Wrong(("auth.enabled=false",), ("/auth", "'enabled' not allowed")),
    "an Ingress without a host": Wrong(("ingress.enabled=true",), ("ingress.host is not set",)),
    "a route without a Gateway": Wrong(("httpRoute.enabled=true",), ("httpRoute.parentRefs is empty", "{name: public")),
    "fewer pods at most than at least": Wrong(
        ('gateway.autoscaling={"enabled": true, "minReplicas": 5, "maxReplicas": 4}',),
        ("gateway.autoscaling.minReplicas is 5", "maxReplicas, 4"),
    ),
    "replicas as a text": Wrong(('gateway.replicas="2"',), ("/gateway/replicas", "want integer")),
    "an image with its tag": Wrong(('image.repository="penstock:1"',), ("/image/repository", "pattern")),
    "a digest of no kind": Wrong(('image.digest="abc"',), ("/image/digest", "sha256:")),
    "a range that is none": Wrong(
        ('networkPolicy.egress.redis.cidrs=["10.0.0.1"]',), ("/networkPolicy/egress/redis/cidrs/0", "pattern")
    ),
    "a range of too many bits": Wrong(
        ('networkPolicy.egress.redis.cidrs=["10.0.0.0/33"]',), ("/networkPolicy/egress/redis/cidrs/0", "pattern")
    ),
    "a range of no address": Wrong(
        ('gateway.egress=[{"cidr": "300.0.0.0/8"}]',), ("/gateway/egress/0/cidr", "pattern")
    ),
    "a port that is none": Wrong(
        ("networkPolicy.egress.s3.ports=[70000]",), ("/networkPolicy/egress/s3/ports/0", "maximum")
    ),
    "a limit that says nothing": Wrong(('limits={"provider:x": {}}',), ("/limits/provider:x", "minProperties")),
    "a limit's key": Wrong(('limits={"anthropic": {"concurrency": 1}}',), ("/limits'", "'anthropic' not allowed")),
    "a release's name that is long": Wrong((), ("name has 41 characters", "at most 40"), release="r" * 41),
    "a release's name with a dot": Wrong((), ("the release's name, de.mo, has a dot", "letters"), release="de.mo"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_with_its_path(wrong: Wrong) -> None:
    with pytest.raises(Refused) as caught:
        render(wrong.on, sets=wrong.sets, release=wrong.release)
    said = str(caught.value)
    for told in wrong.told:
        assert told in said
    assert SECRET not in said, "a password is shown"
    assert "nil pointer" not in said


def test_all_that_is_wrong_is_told_at_once() -> None:
    sets = ('postgresql.url=""', 'redis.url=""', 's3.url=""', 'tls.mode="certManager"', "ingress.enabled=true")
    with pytest.raises(Refused) as caught:
        render("minimal", sets=sets)
    for path in ("postgresql.url", "redis.url", "s3.url", "tls.certManager.issuerRef.name", "ingress.host"):
        assert re.search(rf"^  - {re.escape(path)} ", str(caught.value), re.M), path


def test_four_databases_of_their_own_need_no_fifth() -> None:
    own = tuple(
        f'{service}.postgresql.url="postgresql://{service}@db.example/penstock"'
        for service in ("planner", "scheduler", "analyzer", "gateway")
    )
    assert render("minimal", sets=(*own, 'postgresql.url=""'))
    with pytest.raises(Refused, match=r"postgresql\.url is not set"):
        render("minimal", sets=(*own[:3], 'postgresql.url=""'))


def _needed(values: Mapping[str, Any], schema: Mapping[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """Paths of all that has parts with names of their own, and of each switch."""
    for name, given in schema["properties"].items():
        value, path = values.get(name), (*above, name)
        inner = SCHEMA["$defs"][given["$ref"].removeprefix("#/$defs/")] if "$ref" in given else given
        if isinstance(value, bool):
            yield path
        elif isinstance(value, dict) and "properties" in inner and name != "resources":
            yield path
            yield from _needed(value, inner, *path)


def test_a_section_with_nothing_in_it_is_refused_with_its_path() -> None:
    """As one that was commented out but for its first line: Helm takes the defaults away then."""
    paths = list(_needed(yaml.safe_load((CHART / "values.yaml").read_text()), SCHEMA))
    assert {("planner",), ("networkPolicy", "enabled"), ("networkPolicy", "egress", "s3")} <= set(paths)
    for length in sorted({len(path) for path in paths}):
        chosen = [path for path in paths if len(path) == length]
        with pytest.raises(Refused) as caught:
            render("minimal", sets=tuple(f"{'.'.join(path)}=null" for path in chosen))
        said = str(caught.value)
        for *above, name in chosen:
            where = "".join(f"/{one}" for one in above)
            assert re.search(rf"at '{where}': missing propert(y|ies) .*'{name}'", said), (where, name)


def test_a_url_of_nothing_beside_its_secret_is_none() -> None:
    assert render("existing-secrets", sets=("redis.url=null", "postgresql.url=null", "s3.url=null"))


def test_any_address_of_ipv6_is_a_range() -> None:
    ranges = '["0.0.0.0/0", "::/0", "fd00:1::/32"]'
    policies = of_kind(
        render("minimal", sets=(f"networkPolicy.egress.redis.cidrs={ranges}", f"networkPolicy.dns.cidrs={ranges}")),
        "NetworkPolicy",
    )
    assert "::/0" in json.dumps(policies)
