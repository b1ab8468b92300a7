"""What a program that waits says of itself is read from its log; a log that can't be read takes nothing else along."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from penstock.doctor.facts import Json, Unseen
from penstock.doctor.kube import Away, Kube, Refused
from penstock.doctor.place import Release
from penstock.doctor.reading import _admin_token, _classes, _last_error, _said

RELEASE = Release(name="pen", namespace="batch", workers="pen-workers")
STARTING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
PODS = tuple(
    {"metadata": {"name": name, "namespace": namespace}, "status": status}
    for name, namespace, status in (
        ("pen-planner-x", "batch", STARTING),
        ("pen-default-0-1", "pen-workers", STARTING),
        ("pen-gateway-x", "batch", {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
    )
)
TOO_OLD = "the planner's database has schema 0006, and this version needs 0007: run `penstock migrate`"


class Logs(Kube):
    """An API server that has one log, or says why not."""

    def __init__(self, log: str | Exception) -> None:
        self.log = log
        self.asked: list[str] = []

    def text(self, path: str, **query: str) -> str:
        self.asked.append(path)
        if isinstance(self.log, Exception):
            raise self.log
        return self.log


def line(**fields: str) -> str:
    return json.dumps(fields) + "\n"


def test_the_last_sentence_about_what_is_waited_for_is_told() -> None:
    log = (
        "not JSON\n" + line(level="warning", error="PostgreSQL does not answer") + line(level="warning", error=TOO_OLD)
    )
    logs = Logs(log + line(level="info", event="it starts"))
    assert _said(logs, PODS, RELEASE) == {"pen-planner-x": TOO_OLD}
    assert logs.asked == ["/api/v1/namespaces/batch/pods/pen-planner-x/log"]


@pytest.mark.parametrize("why", [Refused(403, "forbidden"), Away("the node does not answer")])
def test_a_log_that_cannot_be_read_is_no_error(why: Exception) -> None:
    assert _said(Logs(why), PODS, RELEASE) == {}


@pytest.mark.parametrize("log", ["", "[1]\n", '"text"\n', line(level="info", error="no"), line(level="warning")])
def test_a_log_without_such_a_sentence_tells_nothing(log: str) -> None:
    assert _last_error(log) == ""


def gateway(*volumes: Json) -> Json:
    return {"spec": {"template": {"spec": {"containers": [], "volumes": list(volumes)}}}}


def test_the_admin_token_is_where_the_gateway_has_it_from() -> None:
    tls = {"name": "tls", "secret": {"secretName": "pen-gateway-tls"}}
    given = {"name": "admin-token", "secret": {"secretName": "ours", "items": [{"key": "first", "path": "token"}]}}
    where = _admin_token((gateway(tls), gateway(tls, given)))
    own = dataclasses.replace(RELEASE, admin_token=where).token()
    assert own == "$(kubectl -n batch get secret ours -o go-template='{{index .data \"first\" | base64decode}}')"
    unseen = dataclasses.replace(RELEASE, admin_token=_admin_token((gateway(tls),))).token()
    assert "get secret pen-admin-token -o" in unseen
    assert 'index .data "admin-token"' in unseen


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "default: 3",
        "default: {max: many}",
        "default: {max: .inf}",
        "default: {secrets: 5}",
        "default: {resources: 4}",
        "default: {resources: {requests: {cpu: x}}}",
        "default: {resources: {requests: {cpu: 1.2.3}}}",
        "a: !!python/object:os.x {}",
    ],
)
def test_a_file_of_classes_that_somebody_has_changed_is_told_and_not_judged(text: str) -> None:
    seen = _classes(({"data": {"classes.yaml": text}},))
    assert isinstance(seen, Unseen), seen
    assert "can't be read" in seen.why


@pytest.mark.parametrize("page", ["<html>sign in</html>", "null", "[]", ""])
def test_what_is_no_api_server_is_told_as_such(page: str, tmp_path: Path) -> None:
    class Page(Kube):
        def text(self, path: str, **query: str) -> str:
            return page

    server = {"clusters": [{"name": "a", "cluster": {"server": "https://sign.in.example"}}]}
    user = {"users": [{"name": "a", "user": {}}], "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]}
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "a", **server, **user}))
    with pytest.raises(Away, match=r"what answers at https://sign\.in\.example is no API server"):
        Page(kubeconfig=file).listed("/api/v1/pods")
