"""Calls of the API server, by the official client, in threads; answers are raw JSON.

The client library makes the connection: where the server is, whom it trusts, who we are (a service account's token is
read again when it changes). It is imported on first use. Its models are left alone: they cost more than the calls.

Failure story: every call has an end: 3 s to connect, 10 s to answer; a watch ends by the server's own time-out, and by
ours shortly after. Whatever is not answered raises `Unanswered`: what was asked may have been done all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import orjson

from penstock.runtime.errors import InvalidInput

__all__ = ["Answer", "Api", "Refused", "Unanswered"]

CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 10.0
WATCH_SPARE_SECONDS = 5.0
AT_ONCE = 12
"""Calls under way at a time."""
LOG_LINES = 400
_NO_LOG = (b"failed to try resolving symlinks in path", b"unable to retrieve container logs for")
"""What a kubelet sends in place of a log that it has removed already, as if it were one."""

Json = dict[str, Any]
Answer = tuple[int, Json]
"""Status and body."""
T = TypeVar("T")


class Unanswered(Exception):
    """The API server did not answer, or not as it should."""


class Refused(Exception):
    """It answered, and said no."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message or reason or f"status {status}")
        self.status = status
        self.reason = reason


class Api:
    """One namespace's pods. `call` runs one of the other methods, which block, in a thread."""

    def __init__(self, namespace: str, kubeconfig: Path | None) -> None:
        self._namespace = namespace
        self._kubeconfig = kubeconfig
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kubernetes")
        self._opening = threading.Lock()
        self._opened: Any = None
        self._stream: Any = None

    async def call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def open(self) -> None:
        """Reads where the server is. Raises InvalidInput where that is not said."""
        self._client()

    def list_pods(self, selector: str) -> Json:
        return self._asked("GET", "pods", {"labelSelector": selector})

    def create_pod(self, pod: Json) -> Json:
        return self._asked("POST", "pods", body=pod)

    def delete_pod(self, name: str, uid: str, grace_seconds: int | None) -> bool:
        """False: there is no such pod any more. The uid is part of the order: no later pod of that name is meant."""
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            self._asked("DELETE", f"pods/{name}", body=options)
        except Refused as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def owner(self, name: str) -> Json:
        return self._asked("GET", f"configmaps/{name}")

    def may_we(self, attributes: Mapping[str, str]) -> bool:
        """Whether the API server would let us: everybody may ask that of himself."""
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        body = {**kind, "spec": {"resourceAttributes": dict(attributes)}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool((self._asked("POST", path, body=body).get("status") or {}).get("allowed"))

    def log_tail(self, name: str, most_bytes: int) -> bytes:
        """The last lines of a pod; none where it never wrote one."""
        query = {"tailLines": str(LOG_LINES), "limitBytes": str(1 << 20)}
        try:
            response = self._request("GET", f"pods/{name}/log", query)
        except Refused:
            return b""
        return b"" if response.data.startswith(_NO_LOG) else bytes(response.data[-most_bytes:])

    def watch_pods(self, selector: str, version: str, seconds: int) -> Iterator[list[Json]]:
        """Events as they come, those of one piece of the stream together."""
        query = {
            "labelSelector": selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        response = self._request("GET", "pods", query, stream=True, read_seconds=seconds + WATCH_SPARE_SECONDS)
        self._stream = response
        left = b""
        try:
            for chunk in response.stream(None):
                *lines, left = (left + chunk).split(b"\n")
                if events := [orjson.loads(line) for line in lines if line.strip()]:
                    yield events
        except Exception as error:
            raise Unanswered(f"the watch broke off: {error}") from error
        finally:
            self._stream = None
            response.close()

    def break_watch(self) -> None:
        """Ends the watch that is under way, from any thread: whoever reads it learns that it broke off."""
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(Exception):  # it ends in this very moment
                stream.shutdown()

    def _asked(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Json | None = None) -> Json:
        response = self._request(method, path, query or {}, body=body)
        try:
            answer: Json = orjson.loads(response.data)
        except ValueError as error:
            raise Unanswered(f"its answer is no JSON: {error}") from error
        return answer

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Json | None = None,
        stream: bool = False,
        read_seconds: float = ANSWER_SECONDS,
    ) -> Any:
        import urllib3

        client = self._client()
        configuration = client.configuration
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "penstock-scheduler"}
        if token := configuration.get_api_key_with_prefix("authorization"):
            headers["Authorization"] = token
        own = "" if path.startswith("/") else f"/api/v1/namespaces/{self._namespace}/"
        url = f"{configuration.host}{own}{path}"
        if query:
            url += f"?{urlencode(query)}"
        try:
            response = client.rest_client.pool_manager.request(
                method,
                url,
                body=None if body is None else orjson.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                retries=False,
                preload_content=not stream,
            )
        except Exception as error:
            raise Unanswered(f"{method} {path.split('/')[0] or path}: {type(error).__name__}: {error}"[:500]) from error
        if response.status >= 400:
            raise _refused(response.status, response.data)
        return response

    def _client(self) -> Any:
        with self._opening:
            if self._opened is None:
                from kubernetes import client, config

                configuration = client.Configuration()
                try:
                    if self._kubeconfig is not None:
                        config.load_kube_config(str(self._kubeconfig), client_configuration=configuration)
                    else:
                        config.load_incluster_config(client_configuration=configuration)
                except (config.ConfigException, OSError) as error:
                    raise InvalidInput(
                        f"no way to the API server: {error}; in a cluster the scheduler's pod has a service account's "
                        "token, elsewhere set PENSTOCK_SCHEDULER__KUBECONFIG",
                        code="no_kubernetes",
                    ) from error
                configuration.connection_pool_maxsize = AT_ONCE + 2
                self._opened = client.ApiClient(configuration)
            return self._opened


def _refused(status: int, raw: bytes) -> Exception:
    try:
        said = orjson.loads(raw)
        reason, message = str(said.get("reason", "")), str(said.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", raw[:300].decode(errors="replace")
    if status >= 500 or status == 429:
        return Unanswered(f"it answered {status}: {message or reason}"[:500])
    return Refused(status, reason, message)
