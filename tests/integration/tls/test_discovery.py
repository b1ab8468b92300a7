"""What the gateway says of TLS decides how a client calls; a gateway of a few lines stands for it here."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from penstock.client.discovery import find
from penstock.runtime.errors import InvalidInput
from penstock.runtime.tls import Identity
from tests.servers.certificates import Authority, mount

ADDRESSES = dict.fromkeys(("planner", "scheduler", "analyzer"), "127.0.0.1:9")


@contextmanager
def gateway(**told: object) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(ADDRESSES | told).encode())

        log_message: Callable[..., None] = lambda *_: None

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = Authority("ours")
    return mount(tmp_path_factory.mktemp("client") / "tls", authority.leaf("penstock-client"), authority)


def test_where_tls_is_asked_for_the_folder_is_taken(folder: Path) -> None:
    with gateway(tls=True) as url:
        found = find(url=url, environment={"PENSTOCK_TLS__FOLDER": str(folder)})
        assert isinstance(found.proof, Identity)
        assert found.proof.folder == folder


def test_where_tls_is_asked_for_and_there_is_no_folder_that_is_said(tmp_path: Path) -> None:
    with gateway(tls=True) as url:
        with pytest.raises(InvalidInput, match=f"the Penstock at {url} is called over mutual TLS: set PENSTOCK_TLS__F"):
            find(url=url, environment={})
        with pytest.raises(InvalidInput, match="there is no such folder"):
            find(url=url, environment={"PENSTOCK_TLS__FOLDER": str(tmp_path / "none")})


@pytest.mark.parametrize("told", [{"tls": False}, {}])
def test_where_none_is_asked_for_a_folder_is_no_hindrance(told: dict[str, object], folder: Path) -> None:
    with gateway(**told) as url:
        assert find(url=url, environment={"PENSTOCK_TLS__FOLDER": str(folder)}).proof is None
