"""What is left over where a switch was turned off stays, and is named; what would make somebody believe himself safe,
or let in, who is not, is refused with what gives it a use, and how it is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.cluster.chart.rendering import CHART, Refused, notes, of_kind, render

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
STILL_USED = {"migrations.resources"}
"""Beside a switch that is off: the pods of limits and of `helm test` have these resources, too."""

PEER: list[dict[str, Any]] = [{"podSelector": {}}]
ISSUER = {"issuer": "https://login.example", "audience": "a", "roles": {"a": "viewer"}}
BOUNDS = ("minReplicas", "maxReplicas", "targetCPUUtilizationPercentage")
OWN = tuple(f"{service}.postgresql" for service in ("planner", "scheduler", "analyzer", "gateway"))

LEFT: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] = {
    "migrations that somebody else does": (
        {"migrations.enabled": False},
        {
            "migrations.hook": True,
            "migrations.annotations": {"a": "b"},
            "migrations.backoffLimit": 0,
            "migrations.activeDeadlineSeconds": 10,
            "migrations.postgresql.url": "postgresql://owner:hunter2@db/p",
        },
        "migrations.enabled is false",
    ),
    "the Secret of migrations that somebody else does": (
        {"migrations.enabled": False},
        {"migrations.postgresql.existingSecret": "owner"},
        "migrations.enabled is false",
    ),
    "no metrics": (
        {"metrics.enabled": False},
        {**{f"metrics.{name}.enabled": True for name in ("serviceMonitor", "rules", "dashboards")},
         "networkPolicy.metricsFrom": PEER},
        "metrics.enabled is false",
    ),
    "no monitor": (
        {},
        {"metrics.serviceMonitor.labels": {"release": "prometheus"}, "metrics.serviceMonitor.interval": "5s"},
        "metrics.serviceMonitor.enabled is false",
    ),
    "no alerts": (
        {},
        {"metrics.rules.labels": {"release": "prometheus"}, "metrics.rules.pages": "https://a.example/"},
        "metrics.rules.enabled is false",
    ),
    "no dashboard": ({}, {"metrics.dashboards.labels": {"a": "b"}}, "metrics.dashboards.enabled is false"),
    "no Ingress": (
        {},
        {"ingress.host": "a.example", "ingress.className": "nginx", "ingress.tlsSecret": "web",
         "ingress.annotations": {"a": "b"}},
        "ingress.enabled is false",
    ),
    "no route": (
        {},
        {"httpRoute.parentRefs": [{"name": "a"}], "httpRoute.hostnames": ["a"], "httpRoute.annotations": {"a": "b"}},
        "httpRoute.enabled is false",
    ),
    "no test": ({"tests.enabled": False}, {"tests.seconds": 20}, "tests.enabled is false"),
    "nothing that cuts": (
        {"networkPolicy.enabled": False, "auth.oidc": ISSUER},
        {
            "networkPolicy.dns.cidrs": ["10.0.0.1/32"],
            "networkPolicy.dns.ports": [5353],
            "networkPolicy.gatewayFrom": PEER,
            "networkPolicy.metricsFrom": PEER,
            **{f"networkPolicy.egress.{name}.cidrs": ["10.0.0.1/32"] for name in DEFAULTS["networkPolicy"]["egress"]},
            **{f"networkPolicy.egress.{name}.ports": [1] for name in DEFAULTS["networkPolicy"]["egress"]},
        },
        "networkPolicy.enabled is false",
    ),
    "replicas of what scales itself": (
        {"gateway.autoscaling.enabled": True},
        {"gateway.replicas": 5},
        "gateway.autoscaling.enabled is true",
    ),
    "bounds of what does not": (
        {},
        {f"analyzer.autoscaling.{name}": 4 for name in BOUNDS},
        "analyzer.autoscaling.enabled is false",
    ),
    "a key beside a URL": ({}, {"redis.key": "uri"}, "redis.existingSecret is empty"),
    "a service's key beside its URL": (
        {"planner.postgresql.url": "postgresql://planner@db/p"},
        {"planner.postgresql.key": "uri"},
        "planner.postgresql.existingSecret is empty",
    ),
}  # fmt: skip
REFUSED: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] = {
    "cert-manager's, and a chart's certificates": (
        {},
        {
            "tls.certManager.issuerRef.name": "ca",
            "tls.certManager.issuerRef.kind": "Issuer",
            "tls.certManager.issuerRef.group": "example.com",
            "tls.certManager.duration": "10h",
            "tls.certManager.renewBefore": "1h",
            **{f"tls.secrets.{name}": "x" for name in DEFAULTS["tls"]["secrets"]},
        },
        "does nothing while tls.mode is chart: set tls.mode to ",
    ),
    "the chart's, and given certificates": (
        {"tls.mode": "secrets"},
        {"tls.chart.days": 30, "tls.chart.generation": 2},
        "does nothing while tls.mode is secrets: set tls.mode to chart, or leave it out",
    ),
    "no issuer of people": (
        {},
        {"auth.oidc.roleClaim": "groups", "networkPolicy.egress.oidc.cidrs": ["10.0.0.1/32"],
         "networkPolicy.egress.oidc.ports": [8443]},
        "does nothing while auth.oidc.issuer is empty: set that, or leave it out",
    ),
    "a key of no Secret": (
        {},
        {f"{place}.key": "uri" for place in ("auth", "migrations.postgresql", *OWN)},
        "existingSecret is empty: set that, or leave it out",
    ),
    "whom a Redis without TLS would not show": (
        {},
        {"redis.caSecret": "ca"},
        "does nothing while redis.url has no TLS: write rediss there, or leave it out",
    ),
    "Sentinels without TLS": (
        {"redis.url": "redis+sentinel://a:1,b:2/main/0"},
        {"redis.caSecret": "ca"},
        "does nothing while redis.url has no TLS",
    ),
    "keys of a class without Secrets": (
        {},
        {"worker.classes.default.provides": ["ANTHROPIC_API_KEY"]},
        "set worker.classes.default.secrets, or leave it out",
    ),
}  # fmt: skip


def sets(*values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{path}={json.dumps(value)}" for part in values for path, value in part.items())


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_over_stays_and_is_named_in_one_line(name: str) -> None:
    beside, idle, off = LEFT[name]
    told = notes("minimal", sets=sets(beside, idle))
    assert "hunter2" not in told
    lines = re.findall(r"^Has no effect while (.+): (.+)$", told, re.M)
    assert dict(lines)[off] == ", ".join(sorted(idle))
    assert f"Has no effect while {off}" not in notes("minimal", sets=sets(beside))


def test_nothing_is_said_of_what_does_something() -> None:
    """Of the values of a release that is reached from outside, watched and scaled."""
    assert "Has no effect" not in notes("exposed")


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_over_changes_nothing(name: str) -> None:
    beside, idle, _ = LEFT[name]
    random = ("Secret",)  # certificates and a token, each time others
    plain, left = (render("minimal", sets=sets(beside, more)) for more in ({}, idle))
    kinds = {one["kind"] for one in plain} - set(random)
    assert of_kind(left, *kinds) == of_kind(plain, *kinds)
    assert [one["metadata"]["name"] for one in left] == [one["metadata"]["name"] for one in plain]
    assert "hunter2" not in json.dumps(left), "nobody reads it"


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_believed_is_refused_with_what_gives_it_a_use(name: str) -> None:
    beside, idle, told = REFUSED[name]
    assert render("minimal", sets=sets(beside)), "what it stands beside is well"
    with pytest.raises(Refused) as caught:
        render("minimal", sets=sets(beside, idle))
    said = dict(re.findall(r"^  - (\S+) (.*)$", str(caught.value), re.M))
    for path in idle:
        assert told in said[path], path
        assert said[path].endswith(f"or leave it out (with reused values: --set {path}=null)"), path


def below(values: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and value and name not in ("labels", "resources"):
            yield from below(value, f"{path}.")
        else:
            yield path


@pytest.mark.parametrize("section", ["migrations", "metrics", "ingress", "httpRoute", "tests", "networkPolicy"])
def test_each_value_below_a_switch_is_of_no_use_without_it(section: str) -> None:
    """A new one stands in the table, too."""
    known = {path for _, idle, _ in (*LEFT.values(), *REFUSED.values()) for path in idle}
    every = {path for path in below(DEFAULTS[section], f"{section}.") if path != f"{section}.enabled"}
    assert every - known - STILL_USED - {f"{section}.postgresql.key"} == set()


def test_a_ca_is_of_use_with_sentinels_that_have_tls() -> None:
    url = "rediss+sentinel://:x@one:26379,two:26380/main/0"
    assert render("minimal", sets=sets({"redis.url": url, "redis.caSecret": "ca"}))
