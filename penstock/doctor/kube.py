"""Reads of an API server by the operator's own kubeconfig, by the official client, which is imported on first use.

The client makes the connection (where, whom to trust, who we are, plugins that log in); answers are raw JSON. Nothing
is written but reviews of rights, which change nothing. A call ends within seconds: `Away` where there is no cluster, or
none that answers, `Refused` where it says no.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from penstock.doctor.facts import Json

__all__ = ["Away", "Kube", "Refused"]

CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 10.0
PAGE = 500


class Away(Exception):
    """No cluster, or none that answers: why."""


class Refused(Exception):
    """It answered, and said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Kube:
    """`namespace`: that of the kubeconfig's context."""

    def __init__(self, context: str = "", *, kubeconfig: Path | None = None) -> None:
        """kubeconfig: else where kubectl finds its own. Raises Away where it says no way to a cluster."""
        try:
            from kubernetes import client, config
        except ImportError:
            raise Away("the Python package kubernetes is not installed (pip install 'penstock[kubernetes]')") from None
        configuration = client.Configuration()
        file = str(kubeconfig) if kubeconfig is not None else None
        try:
            config.load_kube_config(file, context=context or None, client_configuration=configuration)
            contexts, active = config.list_kube_config_contexts(file)
        except Exception as error:
            # The client tells a file that is not there; on one that is no YAML, or another document, it falls over.
            if isinstance(error, (config.ConfigException, OSError)):
                raise Away(f"no kubeconfig leads to a cluster: {error}") from None
            told = " ".join(str(error).split())
            raise Away(f"the kubeconfig can't be read: {type(error).__name__}: {told}"[:300]) from None
        if context:
            active = next(one for one in contexts if one["name"] == context)
        self.namespace = str(active["context"].get("namespace") or "default")
        self._api: Any = client.ApiClient(configuration)

    def get(self, path: str, **query: str) -> Json:
        """Raises Refused, Away."""
        return self._object(self.text(path, **query))

    def listed(self, path: str, **query: str) -> tuple[Json, ...]:
        """All objects of a list, each with its kind. Raises Refused, Away."""
        items: list[Json] = []
        more = ""
        while True:
            answer = self.get(path, limit=str(PAGE), **query, **({"continue": more} if more else {}))
            kind = str(answer.get("kind", "")).removesuffix("List")
            items += [{"kind": kind, **one} for one in answer.get("items") or ()]
            more = str((answer.get("metadata") or {}).get("continue") or "")
            if not more:
                return tuple(items)

    def there(self, path: str) -> tuple[Json, ...]:
        """The object, or none. Raises Refused, Away."""
        try:
            return (self.get(path),)
        except Refused as error:
            if error.status == 404:
                return ()
            raise

    def may(self, user: str, groups: list[str], attributes: Mapping[str, str]) -> bool:
        """Whether somebody else may do it. Raises Refused, Away."""
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": groups, "resourceAttributes": dict(attributes)},
        }
        answer = self._object(self._asked("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body))
        return bool((answer.get("status") or {}).get("allowed"))

    def text(self, path: str, **query: str) -> str:
        """Raises Refused, Away."""
        return self._asked("GET", f"{path}?{urlencode(query)}" if query else path)

    def _object(self, text: str) -> Json:
        """Raises Away: a page to sign in at is no API server."""
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            host = self._api.configuration.host
            raise Away(f"what answers at {host} is no API server: {text[:100]!r}")
        return answer

    def _asked(self, method: str, path: str, body: Json | None = None) -> str:
        import urllib3

        configuration = self._api.configuration
        headers = {"Accept": "application/json, */*", "User-Agent": "penstock-doctor"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token := configuration.get_api_key_with_prefix("authorization"):
            headers["Authorization"] = token
        elif configuration.username:
            headers["Authorization"] = configuration.get_basic_auth_token()
        try:
            response = self._api.rest_client.pool_manager.request(
                method,
                f"{configuration.host}{path}",
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
                retries=False,
            )
        except Exception as error:
            raise Away(f"the API server {configuration.host} does not answer: {error}"[:300]) from error
        text = bytes(response.data).decode(errors="replace")
        if response.status >= 400:
            try:
                message = str(json.loads(text)["message"])
            except (ValueError, KeyError, TypeError):
                message = text[:200] or f"status {response.status}"
            if response.status >= 500 or response.status == 429:
                raise Away(f"the API server answers {response.status}: {message}")
            raise Refused(response.status, message)
        return text
