"""The chart's NetworkPolicies as real traffic: each declared edge passes, each other pair on each port is cut.

Probe pods stand in for the programs, with their labels, behind the chart's own Services; `policies.py` puts the
policies into the packet filter. Who reached whom is written to the logs, `policies-*.txt`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import tools
from tests.cluster.box.place import BRIDGE
from tests.cluster.chart.rendering import CHART, helm, of_kind
from tests.cluster.node.policies import TABLE, Walls, translated
from tests.cluster.node.walled import (
    HOME,
    NAMESPACES,
    OUTSIDE,
    OUTSIDE_PORTS,
    PEOPLE,
    RELEASE,
    STORE,
    WORKERS,
    Target,
    Who,
    pod_of,
    targets,
    values,
    wanted,
)
from tests.cluster.programs.daemon import Daemon, wait_until
from tests.cluster.programs.node import Node
from tests.cluster.showing import show, tell

SECONDS = 60.0
AGAIN = 5
"""A machine that is busy may let a packet wait; what is cut stays so however often it is asked."""

Reached = Mapping[tuple[str, str], str]
"""(caller, target) -> what the probe said."""


def policies_of(*, narrow: bool, folder: Path) -> Sequence[dict[str, Any]]:
    """What the chart makes of values: policies, and the Services that lead to its programs."""
    file = folder / f"{'narrow' if narrow else 'wide'}.yaml"
    file.write_text(json.dumps(values(narrow=narrow)))
    rendered = helm("template", RELEASE, str(CHART), "--namespace", HOME, "--values", str(file))
    objects = [one for one in yaml.load_all(rendered, Loader=yaml.CSafeLoader) if one]
    return of_kind(objects, "NetworkPolicy", "Service")


@dataclass(frozen=True)
class World:
    node: Node
    targets: Sequence[Target]

    def ask(self, asked: Mapping[Who, Sequence[Target]]) -> Reached:
        """All callers at once, each from inside its pod."""

        def of(who: Who) -> Reached:
            words = [target.asked for target in asked[who]]
            said = self.node.control_plane.kubectl(
                *("exec", "-n", who.namespace, who.name, "--", "/probe", "try", *words)
            )
            answers = dict(line.split(" ", 1) for line in said.splitlines())
            return {(who.name, target.name): answers[target.asked] for target in asked[who]}

        with ThreadPoolExecutor(len(PEOPLE)) as threads:
            return {pair: answer for some in threads.map(of, asked) for pair, answer in some.items()}

    def pairs(self) -> Mapping[Who, Sequence[Target]]:
        return {who: [target for target in self.targets if target.at != who] for who in PEOPLE}

    def table(self, *, expected: Mapping[tuple[str, str], bool], name: str) -> Reached:
        """Who reaches whom. What should pass and did not is asked again. Writes the table."""
        found = dict(self.ask(self.pairs()))
        for _ in range(AGAIN):
            lost = {
                who: again
                for who, some in self.pairs().items()
                if (again := [one for one in some if expected[who.name, one.name] and not opened(found, who, one)])
            }
            if not lost:
                break
            found |= self.ask(lost)
        lines = list(drawn(self.pairs(), found))
        show(f"policies-{name}.txt", "\n".join(lines) + "\n")
        tell(f"policies-{name}", lines[0])
        return found


def opened(found: Reached, who: Who, target: Target) -> bool:
    """And that it was he who answered."""
    answer = found[who.name, target.name]
    return answer.startswith("open") and (not isinstance(target.at, Who) or answer == f"open {target.at.name}")


def drawn(pairs: Mapping[Who, Sequence[Target]], found: Reached) -> Iterator[str]:
    """A line each target: who reached it; and how many did not."""
    names = dict.fromkeys(target.name for some in pairs.values() for target in some)
    passed = sum(answer.startswith("open") for answer in found.values())
    pairs_told = f"{len(found)} pairs: {passed} passed, {len(found) - passed} did not"
    yield f"{len(PEOPLE)} callers, {len(names)} targets, {pairs_told}"
    width = max(map(len, names))
    for name in names:
        answers = {who.name: found[who.name, name] for who in pairs if (who.name, name) in found}
        reached = [who for who, answer in answers.items() if answer.startswith("open")]
        others = len(answers) - len(reached)
        yield f"{name:{width}}  {', '.join(reached) or '-'}" + (f"   (cut: {others})" if others else "   (all)")


@pytest.fixture(scope="module")
def world(node_cluster: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    plane = node_cluster.control_plane
    for name in NAMESPACES:
        plane.namespace(name)
    services = of_kind(policies_of(narrow=True, folder=tmp_path_factory.mktemp("values")), "Service")
    plane.apply(*map(pod_of, PEOPLE), *services)
    listens = [f"tcp:{address}:{port}" for address in (STORE, OUTSIDE) for port in OUTSIDE_PORTS]
    others = Daemon("policies-host", [str(tools.program("probe")), "listen", *listens], logs=node_cluster.place.logs)
    try:
        for address in (STORE, OUTSIDE):
            subprocess.run(("ip", "address", "add", f"{address}/32", "dev", BRIDGE), check=True)
        others.start()
        for who in PEOPLE:
            node_cluster.wait_pod(who.namespace, who.name, seconds=SECONDS)
        pods = {
            one["metadata"]["name"]: one["status"]["podIP"]
            for name in NAMESPACES
            for one in json.loads(plane.kubectl("get", "pods", "-n", name, "-o", "json"))["items"]
        }
        clusters = {
            one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["clusterIP"]
            for one in json.loads(plane.kubectl("get", "services", "-n", HOME, "-o", "json"))["items"]
        }
        yield World(node_cluster, targets(pods, clusters))
    finally:
        others.stop()
        for address in (STORE, OUTSIDE):
            subprocess.run(("ip", "address", "del", f"{address}/32", "dev", BRIDGE), check=False)
        plane.kubectl("delete", "namespace", *NAMESPACES, "--wait=false")


def test_without_the_translator_each_pair_passes(world: World) -> None:
    """What is cut below is cut by the policies and by nothing else."""
    everything = {(who.name, target.name): True for who, some in world.pairs().items() for target in some}
    found = world.table(expected=everything, name="none")
    closed = [pair for pair, answer in found.items() if not answer.startswith("open")]
    assert not closed, f"{len(closed)} of {len(found)} are closed without any policy: {closed[:20]}"


@pytest.mark.parametrize("narrow", [False, True], ids=["ports-alone", "addresses-too"])
def test_each_declared_edge_passes_and_each_other_pair_is_cut(world: World, narrow: bool, tmp_path: Path) -> None:
    plane = world.node.control_plane
    plane.kubectl("delete", "networkpolicies", "--all", "-n", HOME)
    plane.kubectl("delete", "networkpolicies", "--all", "-n", WORKERS)
    plane.apply(*of_kind(policies_of(narrow=narrow, folder=tmp_path), "NetworkPolicy"))
    expected = {
        (who.name, target.name): wanted(who, target, narrow=narrow)
        for who, some in world.pairs().items()
        for target in some
    }
    with Walls(plane, (HOME, WORKERS)) as walls:
        name = "addresses-too" if narrow else "ports-alone"
        (world.node.place.logs / f"policies-{name}.nft").write_text(walls.script())
        found = world.table(expected=expected, name=name)
    wrong = [
        f"{caller} -> {target}: {found[caller, target]}, and should {'pass' if right else 'be cut'}"
        for (caller, target), right in expected.items()
        if right != found[caller, target].startswith("open")
    ]
    assert not wrong, "\n".join(wrong[:40])
    # None of them says no: they are not answered at all.
    assert {answer for answer in found.values() if not answer.startswith("open")} == {"cut"}
    assert sum(expected.values()) > 100
    assert sum(not one for one in expected.values()) > 1_000


def policy(*ingress: Mapping[str, Any], name: str = "odd") -> dict[str, Any]:
    """For the bystander."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": HOME},
        "spec": {
            "podSelector": {"matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "DoesNotExist"}]},
            "policyTypes": ["Ingress"],
            "ingress": list(ingress),
        },
    }


def test_what_the_chart_does_not_use_is_understood_too_or_refused(world: World) -> None:
    """Expressions, ranges of ports, blocks with holes: people's own policies stand beside the chart's."""
    plane, by_name = world.node.control_plane, {who.name: who for who in PEOPLE}
    hole = next(one.asked.split(":")[1] for one in world.targets if one.name == "prometheus:7443")
    spaces = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["ingress"]}]}
    plane.kubectl("delete", "networkpolicies", "--all", "-n", HOME)
    plane.apply(
        policy(
            {"from": [{"namespaceSelector": spaces}], "ports": [{"port": 7000, "endPort": 7100}]},
            {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{hole}/32"]}}], "ports": [{"port": 2222}]},
            {"from": [{"podSelector": {}}], "ports": [{"port": 7443, "protocol": "UDP"}]},
        )
    )
    reached = {
        "prometheus": ["bystander:7070"],
        "controller": ["bystander:2222"],
        "planner-of-other": ["bystander:2222", "bystander:7070", "bystander:7443/udp"],
    }
    asked = {by_name[name]: [one for one in world.targets if one.name.startswith("bystander:")] for name in reached}
    with Walls(plane, (HOME,)):
        found = world.ask(asked)
    for name, right in reached.items():
        there = [target for (who, target), answer in found.items() if who == name and answer == "open bystander"]
        assert sorted(there) == right, name
    with pytest.raises(ValueError, match="not understood in a policy's ports"):
        translated([policy({"ports": [{"port": "grpc"}]})], [pod_with_address("10.244.0.9")], {})
    plane.kubectl("delete", "networkpolicies", "--all", "-n", HOME)


def pod_with_address(address: str) -> Mapping[str, Any]:
    return {"metadata": {"namespace": HOME}, "spec": {}, "status": {"podIP": address}}


def test_a_pod_that_comes_later_is_walled_too_and_the_walls_fall(world: World) -> None:
    """The table follows the cluster; nothing of it is left afterwards."""
    late = Who(name="late", namespace=WORKERS)
    gateway = next(target for target in world.targets if target.name == "gateway:8420")
    with Walls(world.node.control_plane, (WORKERS,)):
        world.node.control_plane.apply(pod_of(late))
        world.node.wait_pod(late.namespace, late.name)
        wait_until(
            lambda: set(world.ask({late: [gateway]}).values()) == {"cut"}, "the late pod is walled", seconds=SECONDS
        )
    assert set(world.ask({late: [gateway]}).values()) == {"open gateway"}
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert TABLE not in tables
