"""The one table of the scheduler's rights: what stands in it, and that the chart's Role is made of it."""

from __future__ import annotations

from pathlib import Path

from penstock.runtime.rights import ANYWHERE, NEVER, WANTED, Question, printed, questions, rules

FILE = Path(__file__).parents[3] / "charts" / "penstock" / "files" / "rights.yaml"


def test_the_scheduler_starts_pods_and_reads_what_owns_them_and_nothing_else() -> None:
    assert rules("pen-workers") == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "delete"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["pen-workers"]},
    ]


def test_the_chart_has_the_rights_of_the_table() -> None:
    assert FILE.read_text() == printed(), f"write it: python -m penstock.runtime.rights > {FILE}"


def test_what_is_wanted_is_nowhere_what_must_not_be() -> None:
    assert not set(WANTED) & set(NEVER)
    assert len({*NEVER}) == len(NEVER)
    assert len({*ANYWHERE}) == len(ANYWHERE)


def test_each_namespace_is_asked_for_what_must_not_be_there_and_the_workers_for_what_must() -> None:
    asked = questions("pen-workers", "owner", "batch")
    wanted = [one for one in asked if one.wanted]
    assert {one.namespace for one in wanted} == {"pen-workers"}
    assert [one.name for one in wanted if one.right.resource == "configmaps"] == ["owner"]
    refused = {(one.namespace, one.right) for one in asked if not one.wanted}
    assert refused == {(place, one) for place in ("pen-workers", "batch") for one in NEVER} | {
        ("", one) for one in ANYWHERE
    }


def test_a_question_is_put_as_the_api_server_reads_it() -> None:
    def put(verb: str, resource: str, name: str = "", namespace: str = "pen-workers") -> dict[str, str]:
        right = next(one for one in (*WANTED, *NEVER, *ANYWHERE) if one[:2] == (verb, resource))
        return dict(Question(namespace, right, name, wanted=False).attributes())

    logs = {"namespace": "pen-workers", "verb": "get", "group": "", "resource": "pods", "subresource": "log"}
    assert put("get", "pods/log") == logs
    owner = {"namespace": "pen-workers", "verb": "get", "group": "", "resource": "configmaps", "name": "pen-workers"}
    assert put("get", "configmaps", "pen-workers") == owner
    anywhere = {"verb": "create", "group": "rbac.authorization.k8s.io", "resource": "clusterrolebindings"}
    assert put("create", "clusterrolebindings", namespace="") == anywhere
