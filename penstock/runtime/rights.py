"""What the scheduler may do at the API server: the one table. The chart's Role is made of it, the scheduler asks by it
what it may do, and so does the doctor of the scheduler's account.

`WANTED` is all of it, in the worker namespace. What is tried besides, and has to be refused, is what would make more of
the account than a starter of pods: other namespaces, Secrets, a way into a pod, rights of its own giving. Nothing here
asks anybody.

`python -m penstock.runtime.rights` prints the Role's rules as the chart has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["ANYWHERE", "NEVER", "WANTED", "Question", "Right", "printed", "questions", "rules"]


class Right(NamedTuple):
    """owned: on the one ConfigMap that owns the pods, by its name; on any otherwise."""

    verb: str
    resource: str
    group: str = ""
    owned: bool = False


WANTED = (
    *(Right(verb, "pods") for verb in ("create", "get", "list", "watch", "delete")),
    Right("get", "pods/log"),
    Right("get", "configmaps", owned=True),
)

_RBAC = "rbac.authorization.k8s.io"
NEVER = (
    Right("*", "*", "*"),
    *(Right(verb, "pods") for verb in ("update", "patch", "deletecollection")),
    *(Right("create", f"pods/{way}") for way in ("exec", "attach", "portforward", "eviction", "ephemeralcontainers")),
    *(Right(verb, "secrets") for verb in ("get", "list", "create", "update")),
    *(Right(verb, "configmaps") for verb in ("list", "create", "update")),
    Right("create", "serviceaccounts/token"),
    Right("impersonate", "users"),
    Right("create", "deployments", "apps"),
    Right("create", "jobs", "batch"),
    Right("escalate", "roles", _RBAC),
    Right("create", "rolebindings", _RBAC),
)
"""In no namespace of the release."""
ANYWHERE = (
    Right("get", "secrets"),
    Right("create", "pods"),
    Right("get", "nodes"),
    Right("delete", "namespaces"),
    Right("create", "clusterrolebindings", _RBAC),
)
"""Never in the whole cluster."""


class Question(NamedTuple):
    """namespace: "" for the whole cluster; name: "" for any object."""

    namespace: str
    right: Right
    name: str
    wanted: bool

    def attributes(self) -> Mapping[str, str]:
        """As a review of access has them."""
        resource, _, subresource = self.right.resource.partition("/")
        told = {
            "namespace": self.namespace,
            "verb": self.right.verb,
            "group": self.right.group,
            "resource": resource,
            "subresource": subresource,
            "name": self.name,
        }
        return {key: value for key, value in told.items() if value or key == "group"}


def questions(workers: str, owner: str, *others: str) -> list[Question]:
    """All that is asked of an account: what it needs in the namespace of the workers, where `owner` owns the pods, and
    what it must not have there, in other namespaces, in the whole cluster."""
    return [
        *(Question(workers, right, owner if right.owned else "", wanted=True) for right in WANTED),
        *(Question(namespace, right, "", wanted=False) for namespace in (workers, *others) for right in NEVER),
        *(Question("", right, "", wanted=False) for right in ANYWHERE),
    ]


def rules(owner: str) -> list[dict[str, list[str]]]:
    """Of a Role that gives what is wanted and nothing else."""
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": verbs, **({"resourceNames": [owner]} if owned else {})}
        for (group, resource, owned), verbs in _verbs().items()
    ]


def printed() -> str:
    """What is wanted, as YAML: what charts/penstock/files/rights.yaml holds."""
    lines = [
        "# What the scheduler may do in the worker namespace; owned: on the one ConfigMap that owns the pods, by name.",
        "# Made by `python -m penstock.runtime.rights`; not written by hand.",
        "rights:",
    ]
    for (group, resource, owned), verbs in _verbs().items():
        lines += [
            f'  - group: "{group}"',
            f"    resource: {resource}",
            f"    owned: {str(owned).lower()}",
            f"    verbs: [{', '.join(verbs)}]",
        ]
    return "\n".join(lines) + "\n"


def _verbs() -> Mapping[tuple[str, str, bool], list[str]]:
    found: dict[tuple[str, str, bool], list[str]] = {}
    for right in WANTED:
        found.setdefault((right.group, right.resource, right.owned), []).append(right.verb)
    return found


if __name__ == "__main__":
    print(printed(), end="")
