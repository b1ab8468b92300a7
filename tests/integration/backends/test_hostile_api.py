"""The view of pods over an API server that answers what it should not: it asks again, ever more slowly, and says so."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.backends.kubernetes.api import Api
from scheduler.backends.kubernetes.view import View
from tests.integration.backends.bed import until

Answers = Callable[[bool, int], tuple[int, bytes]]
"""Whether a watch is asked for, and the how manieth of its kind -> status and body."""
LABELS = {"penstock/worker-class": "default", "penstock/slot": "0", "penstock/generation": "1"}
EMPTY = {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": []}


class Server:
    """What it answers, and how often it was asked for a list and for a watch."""

    def __init__(self, folder: Path) -> None:
        self.answers: Answers = lambda watches, count: (200, b"" if watches else json.dumps(EMPTY).encode())
        self.lists = self.watches = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                watches = "watch=true" in self.path
                if watches:
                    outer.watches += 1
                else:
                    outer.lists += 1
                status, body = outer.answers(watches, outer.watches if watches else outer.lists)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "a",
                    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                    "clusters": [
                        {"name": "a", "cluster": {"server": f"http://127.0.0.1:{self._server.server_address[1]}"}}
                    ],
                    "users": [{"name": "a", "user": {}}],
                }
            )
        )

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    yield one
    one.stop()


@pytest.fixture
async def view(server: Server) -> Any:
    api = Api("workers", server.kubeconfig)
    one = View(api, "a=b", monotonic=asyncio.get_running_loop().time)
    yield one
    one.stop()
    api.close()


def event(type_: str, **object_: Any) -> bytes:
    return json.dumps({"type": type_, "object": object_}).encode() + b"\n"


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'{"items": [3]}',
        json.dumps({"items": [{"metadata": {"name": "a", "labels": LABELS, "creationTimestamp": "soon"}}]}).encode(),
    ],
)
async def test_a_list_that_can_not_be_read_is_told_and_asked_for_again(server: Server, view: View, body: bytes) -> None:
    def answers(watches: bool, count: int) -> tuple[int, bytes]:
        if watches:
            return 200, b""
        return 200, body if count <= 3 else json.dumps(EMPTY).encode()

    server.answers = answers
    told = []
    view.start()

    async def there() -> bool:
        if view.trouble is not None:
            told.append(view.trouble.text)
        return view.fresh

    await until("it is fresh once the server says what it should", there)
    assert server.lists >= 4
    assert "can't be read" in told[0]


async def test_an_event_that_can_not_be_read_does_not_leave_an_old_view_that_is_believed(
    server: Server, view: View
) -> None:
    def answers(watches: bool, count: int) -> tuple[int, bytes]:
        if watches:
            return 200, [b"3\n", event("ERROR", code="gone"), b""][min(count, 3) - 1]
        return 200, json.dumps(EMPTY).encode()

    server.answers = answers
    view.start()

    async def again() -> bool:
        return server.watches >= 3 and view.fresh

    await until("it has listed and watched again after each", again)
    assert server.lists >= 3


@pytest.mark.parametrize("code", [410, 500])
async def test_a_watch_that_is_refused_for_ever_is_asked_for_ever_more_slowly(
    server: Server, view: View, code: int
) -> None:
    asked: list[float] = []

    def answers(watches: bool, count: int) -> tuple[int, bytes]:
        if not watches:
            return 200, json.dumps(EMPTY).encode()
        asked.append(loop.time())
        return 200, event("ERROR", kind="Status", code=code, message="too old resource version")

    loop = asyncio.get_running_loop()
    server.answers = answers
    view.start()

    async def six() -> bool:
        return len(asked) >= 6

    await until("it was asked for six times", six)
    # At least half of 0.4, 0.8, 1.6 and 3.2 s lie between.
    assert asked[5] - asked[1] >= 2.9


async def test_a_watch_that_ends_at_once_with_nothing_is_no_storm(server: Server, view: View) -> None:
    began = asyncio.get_running_loop().time()
    view.start()

    async def three() -> bool:
        return server.watches >= 3

    await until("it was asked for three times", three)
    assert asyncio.get_running_loop().time() - began >= 1.9
