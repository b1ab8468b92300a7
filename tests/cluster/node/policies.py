"""NetworkPolicies as the packet filter of the box: a small translator, for tests alone.

The cluster for tests stores NetworkPolicies and enforces none. `translated` makes one nftables table of them: who is
selected by a policy sends (or hears) only what some policy that selects him lets through. Services are no matter here:
kube-proxy has put a pod's address in their place before a packet comes to the chains. What the node itself sends to
its pods always passes, as Kubernetes wants it for probes; what a pod sends to the node does not.

What is not understood (named ports, IPv6, an operator that is none) raises ValueError: a policy that is half enforced
would prove nothing. A range takes pods' addresses too, as most networks have it. What was established before a change
goes on.

`Walls` keeps the table true while pods come and go. While the API server is away it stays as it is; nothing else that
fails is passed over: `fall` raises it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Self

import httpx

from tests.cluster.programs.control_plane import ControlPlane

__all__ = ["TABLE", "Walls", "translated"]

TABLE = "penstock_walls"
PAUSE_SECONDS = 0.2
_ENDED = ("Succeeded", "Failed")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")

Object = Mapping[str, Any]


def translated(policies: Sequence[Object], pods: Sequence[Object], namespaces: Mapping[str, Mapping[str, str]]) -> str:
    """A script for `nft -f` that puts the table in place of the one before. namespaces: labels by name.

    Raises ValueError.
    """
    return _Table(policies, pods, namespaces).script()


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """An empty selector selects all."""
    if unknown := selector.keys() - {"matchLabels", "matchExpressions"}:
        raise ValueError(f"not understood in a selector: {', '.join(unknown)}")
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or ())


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or ()
    if operator not in _OPERATORS:
        raise ValueError(f"not understood in a selector: {operator}")
    # NotIn takes whoever has not the label, too.
    there = labels.get(key) in values if operator in ("In", "NotIn") else key in labels
    return bool(there) == (operator in ("In", "Exists"))


def _ports(rule: Object) -> list[str]:
    """What nft compares, one text a protocol; one empty text: any port of any protocol."""
    by_protocol: dict[str, list[str]] = {}
    for entry in rule.get("ports") or ():
        protocol, port, last = entry.get("protocol", "TCP").lower(), entry.get("port"), entry.get("endPort")
        if protocol not in ("tcp", "udp", "sctp") or isinstance(port, str):
            raise ValueError(f"not understood in a policy's ports: {dict(entry)}")
        chosen = "0-65535" if port is None else f"{port}-{last}" if last else str(port)
        by_protocol.setdefault(protocol, []).append(chosen)
    return [f"{name} dport {{ {', '.join(sorted(set(ports)))} }} " for name, ports in by_protocol.items()] or [""]


def _addresses(addresses: Collection[str]) -> str:
    return f"{{ {', '.join(sorted(addresses))} }}"


class _Table:
    """One translation. Sets are written once however often they are meant."""

    def __init__(
        self, policies: Sequence[Object], pods: Sequence[Object], namespaces: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._policies = policies
        self._namespaces = namespaces
        self._pods = [
            (pod["metadata"]["namespace"], pod["metadata"].get("labels") or {}, address)
            for pod in pods
            # Its address may be another's as soon as it has ended; on the host's network it is the host's.
            if pod["status"].get("phase") not in _ENDED and not pod["spec"].get("hostNetwork")
            if (address := pod["status"].get("podIP"))
        ]
        self._sets: dict[frozenset[str], str] = {}

    def script(self) -> str:
        sides = {direction: self._side(direction) for direction in ("Egress", "Ingress")}
        lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
        for members, name in self._sets.items():
            lines.append(f"  set {name} {{ type ipv4_addr; elements = {_addresses(members)}; }}")
        for direction, (_, rules) in sides.items():
            lines += [f"  chain {direction.lower()} {{", *(f"    {rule}" for rule in rules), "  }"]
        out, into = (sides[direction][0] for direction in ("Egress", "Ingress"))
        established = "ct state established,related accept"
        # Both ends have their say: a packet that may leave must be let in, too.
        hooks = {"forward": [established, *out, *into], "input": [established, *out]}
        for hook, rules in hooks.items():
            head = f"type filter hook {hook} priority 0; policy accept;"
            lines += [f"  chain on_{hook} {{", f"    {head}", *(f"    {rule}" for rule in rules), "  }"]
        return "\n".join([*lines, "}", ""])

    def _side(self, direction: str) -> tuple[list[str], list[str]]:
        """The jump for those whom any policy selects (none: no jump), and the rules of the chain."""
        rules, walled = [], set[str]()
        own, rules_key = ("saddr", "egress") if direction == "Egress" else ("daddr", "ingress")
        for policy in self._policies:
            spec, namespace = policy["spec"], policy["metadata"]["namespace"]
            if direction not in spec["policyTypes"]:
                continue
            chosen = self._found(lambda ns, one=namespace: ns == one, spec["podSelector"])
            if not chosen:
                continue
            walled |= chosen
            for rule in spec.get(rules_key) or ():
                rules += [f"ip {own} @{self._set(chosen)} {rest}return" for rest in self._rests(rule, namespace, own)]
        rules.append("counter drop")
        return [f"ip {own} @{self._set(walled)} jump {direction.lower()}"] if walled else [], rules

    def _rests(self, rule: Object, namespace: str, own: str) -> Iterator[str]:
        """What a rule asks of the other end and of the port, one text for each way to meet it."""
        other, peers = ("daddr", rule.get("to")) if own == "saddr" else ("saddr", rule.get("from"))
        wheres = [f"ip {other} {text} " for text in self._peers(peers, namespace, other)] if peers else [""]
        return (where + port for where in wheres for port in _ports(rule))

    def _peers(self, peers: Sequence[Object], namespace: str, other: str) -> Iterator[str]:
        pods = set[str]()
        for peer in peers:
            if unknown := peer.keys() - {"ipBlock", "podSelector", "namespaceSelector"}:
                raise ValueError(f"not understood in a peer: {', '.join(unknown)}")
            block = peer.get("ipBlock")
            if block:
                but = [str(ipaddress.IPv4Network(one)) for one in block.get("except") or ()]
                less = f" ip {other} != {_addresses(but)}" if but else ""
                yield f"{ipaddress.IPv4Network(block['cidr'])}{less}"
                continue
            spaces = peer.get("namespaceSelector")

            def there(name: str, spaces: Object | None = spaces) -> bool:
                return name == namespace if spaces is None else _selects(spaces, self._namespaces.get(name, {}))

            pods |= self._found(there, peer.get("podSelector") or {})
        if pods:
            yield f"@{self._set(pods)}"

    def _found(self, namespace: Any, selector: Object) -> set[str]:
        return {address for space, labels, address in self._pods if namespace(space) and _selects(selector, labels)}

    def _set(self, addresses: Collection[str]) -> str:
        return self._sets.setdefault(frozenset(addresses), f"pods{len(self._sets)}")


class Walls:
    """As a context manager: what the policies of these namespaces say holds inside. namespaces: None: of all."""

    def __init__(self, control_plane: ControlPlane, namespaces: Collection[str] | None = None) -> None:
        self._client = control_plane.client()
        self._chosen = namespaces
        self._now = ""
        self._over = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        self.renew()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.fall()

    def renew(self) -> None:
        """Reads policies, pods and namespaces, and puts the table in place. Raises httpx.HTTPError, ValueError."""
        policies = [
            one
            for one in self._list("/apis/networking.k8s.io/v1/networkpolicies")
            if self._chosen is None or one["metadata"]["namespace"] in self._chosen
        ]
        namespaces = {
            one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in self._list("/api/v1/namespaces")
        }
        script = translated(policies, self._list("/api/v1/pods"), namespaces)
        if script != self._now:
            _nft(script)
            self._now = script

    def script(self) -> str:
        """The table as it stands."""
        return self._now

    def fall(self) -> None:
        """Takes the table away. Raises what has kept it from being true."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(15)
        self._client.close()
        _nft(f"table inet {TABLE}\ndelete table inet {TABLE}\n")
        if self._failed is not None:
            raise self._failed

    def _keep(self) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            try:
                with contextlib.suppress(httpx.HTTPError):
                    self.renew()
            except Exception as error:
                self._failed = error
                return

    def _list(self, path: str) -> list[Object]:
        answer = self._client.get(path)
        answer.raise_for_status()
        found: list[Object] = answer.json()["items"]
        return found


def _nft(script: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"nft refuses the table: {done.stderr.strip()}\n{script}")
