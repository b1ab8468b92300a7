"""Who may talk to whom: the edges of the one table, at both ends, and what programs keep their things in. All else is
cut. A small reading of NetworkPolicies says for any two pods whether a packet passes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest
import yaml

from tests.cluster.chart.rendering import CHART, NAMESPACE, VALUES, Object, of_kind, render

GRPC, HEALTH, METRICS, HTTP = 7443, 7070, 9090, 8420
SERVICES = ("planner", "scheduler", "analyzer", "gateway")
WALLED = tuple(name for name in VALUES if name != "small")


class Place(NamedTuple):
    """A pod, by what policies see of it."""

    component: str
    namespace: str

    @property
    def labels(self) -> Mapping[str, str]:
        names = {"app.kubernetes.io/name": "penstock", "app.kubernetes.io/instance": "demo"}
        more = {"penstock/worker-class": "agents"} if self.component == "worker" else {}
        return {**names, **more, "app.kubernetes.io/component": self.component}


def selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    assert selector is None or not selector.keys() - {"matchLabels"}
    return all(labels.get(key) == value for key, value in ((selector or {}).get("matchLabels") or {}).items())


def peer_takes(peer: Object, other: Place, own_namespace: str) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        there = {"kubernetes.io/metadata.name": other.namespace}
        if not selects(peer["namespaceSelector"], there):
            return False
    elif other.namespace != own_namespace:
        return False
    return selects(peer.get("podSelector"), other.labels)


def lets(objects: list[Object], direction: str, at: Place, other: Place, port: int) -> bool:
    """Whether the policies that select the pod `at` let it speak with `other`."""
    side = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    chosen = [
        one
        for one in of_kind(objects, "NetworkPolicy")
        if one["metadata"]["namespace"] == at.namespace
        and selects(one["spec"]["podSelector"], at.labels)
        and direction in one["spec"]["policyTypes"]
    ]
    if not chosen:
        return True
    for one in chosen:
        for rule in one["spec"].get(side[0]) or []:
            ports = [entry["port"] for entry in rule.get("ports") or []]
            if ports and port not in ports:
                continue
            peers = rule.get(side[1])
            if not peers or any(peer_takes(peer, other, at.namespace) for peer in peers):
                return True
    return False


def passes(objects: list[Object], caller: Place, called: Place, port: int) -> bool:
    return lets(objects, "Egress", caller, called, port) and lets(objects, "Ingress", called, caller, port)


def places(objects: list[Object]) -> Iterator[Place]:
    workers = of_kind(objects, "ResourceQuota")[0]["metadata"]["namespace"]
    for component in (*SERVICES, "client", "migrations"):
        yield Place(component, NAMESPACE)
    yield Place("worker", workers)
    yield Place("stranger", NAMESPACE)
    yield Place("worker", "elsewhere")


def stranger(place: Place) -> bool:
    return place.component == "stranger" or place.namespace == "elsewhere"


@pytest.mark.parametrize("name", WALLED)
def test_each_declared_edge_passes_and_each_other_is_cut(name: str) -> None:
    objects = render(name)
    table = yaml.safe_load((CHART / "files" / "edges.yaml").read_text())["edges"]
    edges = {(edge["from"], edge["to"]) for edge in table}
    edges |= {("client", service) for service in ("planner", "scheduler", "analyzer")}
    everybody = list(places(objects))
    seen = set()
    for caller in everybody:
        for called in everybody:
            if caller == called or stranger(called):
                continue
            wanted = (caller.component, called.component) in edges and not stranger(caller)
            # Each end by itself. Whom no policy selects may send what he likes: he is stopped where he arrives.
            assert lets(objects, "Ingress", called, caller, GRPC) == wanted, f"{caller} -> {called}"
            if not stranger(caller):
                assert lets(objects, "Egress", caller, called, GRPC) == wanted, f"{caller} -> {called}"
            if wanted:
                seen.add((caller.component, called.component))
    assert seen == edges


@pytest.mark.parametrize("name", WALLED)
def test_nobody_reaches_a_worker_or_a_job(name: str) -> None:
    objects = render(name)
    everybody = list(places(objects))
    for called in everybody:
        if called.component in ("worker", "client", "migrations") and not stranger(called):
            for caller in everybody:
                for port in (GRPC, HEALTH, METRICS, HTTP, 22):
                    assert not lets(objects, "Ingress", called, caller, port), f"{caller} -> {called}:{port}"


def test_the_gateway_is_reached_by_whom_the_values_name() -> None:
    anybody, named = render("minimal"), render("exposed")
    gateway, client = Place("gateway", NAMESPACE), Place("client", NAMESPACE)
    ingress, other = Place("controller", "ingress"), Place("controller", "elsewhere")
    assert lets(anybody, "Ingress", gateway, other, HTTP)
    assert lets(named, "Ingress", gateway, ingress, HTTP)
    assert not lets(named, "Ingress", gateway, other, HTTP)
    assert passes(named, client, gateway, HTTP), "helm test comes through"
    assert not lets(anybody, "Ingress", gateway, other, GRPC)


def test_metrics_are_read_by_whom_the_values_name() -> None:
    nobody, named = render("minimal"), render("exposed")
    prometheus, other = Place("prometheus", "monitoring"), Place("prometheus", "elsewhere")
    for service in SERVICES:
        at = Place(service, NAMESPACE)
        assert not lets(nobody, "Ingress", at, prometheus, METRICS)
        assert lets(named, "Ingress", at, prometheus, METRICS)
        assert not lets(named, "Ingress", at, other, METRICS)


def test_metrics_stand_on_no_port_that_is_reached_from_outside_the_cluster() -> None:
    exposed = {one["metadata"]["name"]: one["spec"] for one in of_kind(render("exposed"), "Service")}
    outside = exposed["demo-gateway"]
    assert (outside["type"], [port["name"] for port in outside["ports"]]) == ("LoadBalancer", ["http"])
    inside = exposed["demo-gateway-metrics"]
    assert (inside["type"], [port["port"] for port in inside["ports"]]) == ("ClusterIP", [METRICS])
    assert inside["selector"] == outside["selector"]
    # Alerts ask for the gateway by the name of its Service all the same.
    (monitor,) = of_kind(render("exposed"), "ServiceMonitor")
    (relabelled,) = monitor["spec"]["endpoints"][0]["relabelings"]
    found = re.fullmatch(relabelled["regex"], "demo-gateway-metrics")
    assert found is not None
    assert found[1] == "demo-gateway"
    assert not [one for one in of_kind(render("minimal"), "Service") if one["metadata"]["name"].endswith("-metrics")]


def ports_outside(objects: list[Object], component: str, namespace: str = NAMESPACE) -> dict[int, list[str]]:
    """Port -> ranges (none: any) of what the component's own policies let out to addresses."""
    found: dict[int, list[str]] = {}
    for one in of_kind(objects, "NetworkPolicy"):
        own = one["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/component") == component
        if not own or one["metadata"]["namespace"] != namespace or "penstock/worker-class" in str(one["spec"]):
            continue
        for rule in one["spec"].get("egress") or []:
            peers = rule.get("to") or []
            if all("ipBlock" in peer for peer in peers):
                for entry in rule.get("ports") or []:
                    found[entry["port"]] = [peer["ipBlock"]["cidr"] for peer in peers]
    return found


def test_programs_reach_what_they_keep_things_in_on_the_ports_of_its_urls() -> None:
    plain = render("minimal")
    assert ports_outside(plain, "planner") == {5432: [], 443: []}
    assert ports_outside(plain, "scheduler") == {5432: [], 443: [], 6379: [], 6443: []}
    assert ports_outside(plain, "migrations") == {5432: []}
    assert ports_outside(plain, "worker", "demo-workers") == {53: [], 443: []}
    other = render("gitops")
    assert ports_outside(other, "analyzer") == {6432: ["10.1.0.0/24"], 9000: ["10.3.0.0/24"]}
    assert ports_outside(other, "scheduler") == {
        6432: ["10.1.0.0/24"],
        9000: ["10.3.0.0/24"],
        6380: ["10.2.0.0/24"],
        6443: ["10.0.0.1/32"],
    }
    sentinels = ports_outside(render("exposed"), "scheduler")
    assert {26379, 26380, 6379} <= sentinels.keys()
    secret = 'redis.url="rediss+sentinel://:x@one:26379,two:26380/main/0"'
    assert ports_outside(render("exposed", sets=(secret,)), "scheduler") == sentinels


def test_who_brings_the_schemas_up_reaches_the_database_of_each_service() -> None:
    def postgresql(*sets: str) -> dict[str, set[int]]:
        objects = render("minimal", sets=sets)
        return {name: ports_outside(objects, name).keys() - {443} for name in ("planner", "gateway", "migrations")}

    ports = {"planner": 6432, "scheduler": 6433, "analyzer": 6434, "gateway": 6435}
    own = [f'{name}.postgresql.url="postgresql://{name}@db.example:{port}/p"' for name, port in ports.items()]
    assert postgresql(*own, 'postgresql.url=""')["migrations"] == set(ports.values())
    # A URL that names no port, and one that a Secret holds, is not that of the others.
    one = postgresql('planner.postgresql.url="postgresql://db.example/p"', 'postgresql.url="postgresql://a:6432/p"')
    assert one == {"planner": {5432}, "gateway": {6432}, "migrations": {5432, 6432}}
    held = postgresql('planner.postgresql.existingSecret="db"', 'postgresql.url="postgresql://a:6432/p"')
    assert held == {"planner": {5432}, "gateway": {6432}, "migrations": {5432, 6432}}
    # With a user of its own the Job needs no other's.
    assert postgresql(*own, 'migrations.postgresql.url="postgresql://m@a:7000/p"')["migrations"] == {7000}


def test_the_gateway_reaches_the_issuer_that_is_named() -> None:
    endpoint = 's3.endpoint="http://blobs.example:9000"'
    oidc = '{"issuer": "https://login.example%s/work", "audience": "penstock", "roles": {"sre": "admin"}}'
    plain = render("minimal", sets=(endpoint,))
    assert ports_outside(plain, "gateway") == {5432: [], 9000: []}
    named = render("minimal", sets=(endpoint, f"auth.oidc={oidc % ''}"))
    assert ports_outside(named, "gateway") == {5432: [], 9000: [], 443: []}
    assert ports_outside(named, "planner") == {5432: [], 9000: []}
    walled = ('networkPolicy.egress.oidc.cidrs=["10.4.0.0/24"]', f"auth.oidc={oidc % ':8443'}")
    assert ports_outside(render("minimal", sets=(endpoint, *walled)), "gateway")[8443] == ["10.4.0.0/24"]


def test_a_class_reaches_what_it_names_and_the_others_do_not() -> None:
    policies = of_kind(render("classes"), "NetworkPolicy")
    own = [one for one in policies if "penstock/worker-class" in one["spec"]["podSelector"].get("matchLabels", {})]
    (policy,) = own
    assert policy["spec"]["podSelector"]["matchLabels"]["penstock/worker-class"] == "agents"
    assert policy["spec"]["egress"] == [
        {
            "to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]}}],
            "ports": [{"port": 443, "protocol": "TCP"}],
        },
        {"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}]},
    ]
