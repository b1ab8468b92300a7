"""A gateway that refuses for a moment is asked again; on this machine a refusal is told at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from penstock.client.gateway_calls import GatewayCalls
from penstock.runtime.errors import Unavailable
from tests.servers.ports import free_port

EVERYWHERE = "0.0.0.0"
"""As an address to connect to it leads to this machine, and is none of its names."""


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"asked": true}')


@pytest.fixture
def late_port() -> Iterator[int]:
    """Of a server that is there half a second later."""
    port = free_port()
    servers: list[HTTPServer] = []

    def serve() -> None:
        time.sleep(0.5)
        servers.append(HTTPServer(("127.0.0.1", port), Answers))
        servers[0].serve_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    yield port
    servers[0].shutdown()
    thread.join()
    servers[0].server_close()


def test_a_refusal_from_elsewhere_is_waited_out(late_port: int) -> None:
    assert GatewayCalls(f"http://{EVERYWHERE}:{late_port}").ask("GET", "/") == {"asked": True}


def test_a_refusal_of_this_machine_is_told_at_once() -> None:
    port = free_port()
    began = time.monotonic()
    with pytest.raises(Unavailable, match=f"no Penstock answers at http://127.0.0.1:{port}"):
        GatewayCalls(f"http://127.0.0.1:{port}").ask("GET", "/")
    assert time.monotonic() - began < 5
