"""Starting and ending the program: what is wrong is said in a line, and what was under way leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway.test_uploads import HEAD, PART, connected, kept
from tests.servers.stack import Stack, until

NOWHERE = "127.0.0.1:9"


def gateway(tmp_path: Path, **settings: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    for name in ("PLANNER", "SCHEDULER", "ANALYZER"):
        environment[f"PENSTOCK_{name}_ADDRESS"] = NOWHERE
    environment.update({"PENSTOCK_DATA": str(tmp_path), "PENSTOCK_GATEWAY__PORT": "0", **settings})
    command = [sys.executable, "-P", "-m", "gateway"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"PENSTOCK_GATEWAY__HOST": "0.0.0.0"}, 2, "loopback"),
        ({"PENSTOCK_GATEWAY__PORT": "many"}, 2, "gateway.port"),
        ({"PENSTOCK_GATEWAY__PROT": "1"}, 2, "did you mean gateway.port"),
        ({"PENSTOCK_PLANNER_ADDRESS": ""}, 2, "PENSTOCK_PLANNER_ADDRESS"),
        ({"PENSTOCK_TOKEN_FILE": "/nowhere"}, 2, "/nowhere"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, settings: dict[str, str], code: int, words: str) -> None:
    process = gateway(tmp_path, **settings)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert words in errors
    assert "Traceback" not in errors


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = gateway(tmp_path, PENSTOCK_GATEWAY__PORT=port)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"port {port} is taken" in errors


def test_it_ends_on_sigterm_with_0(tmp_path: Path) -> None:
    process = gateway(tmp_path)
    assert process.stderr is not None
    assert '"serving"' in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert output == ""


def test_a_gateway_killed_in_an_upload_leaves_nothing(fresh_stack: Callable[..., Stack]) -> None:
    stack = fresh_stack()
    stack.start()
    with connected(stack) as sock:
        sock.sendall(HEAD.format(length=5_000_000).encode() + PART.encode() + b"of what is gone " * 280_000)
        until("the bytes are on their way to the store", lambda: kept(stack, b"of what is gone"), seconds=20)
        pid = stack.kill("gateway")
    stack.restarted("gateway", pid)
    until("nothing is left of them", lambda: not kept(stack, b"of what is gone"), seconds=20)

    def jobs() -> list[object] | None:
        try:
            answer: list[object] = httpx.get(f"{stack.url}/api/batch/jobs", trust_env=False).json()
        except httpx.HTTPError:
            return None
        return [answer]

    assert until("the gateway answers again", jobs) == [[]]
