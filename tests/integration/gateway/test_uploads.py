"""Uploads that go wrong on the wire: a sender that goes away, a form that is cut, and one that is large."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.integration.gateway.conftest import documents, ended
from tests.servers.stack import Stack, until

HEAD = (
    "POST /api/batch/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=B\r\n"
    "Content-Length: {length}\r\n\r\n"
)
PART = '--B\r\nContent-Disposition: form-data; name="files"; filename="gone.txt"\r\n\r\n'


def connected(stack: Stack) -> socket.socket:
    where = urlsplit(stack.url)
    assert where.hostname is not None
    return socket.create_connection((where.hostname, where.port or 80), timeout=10)


def kept(stack: Stack, text: bytes) -> set[Path]:
    """Every file of the store that has this text; what runs of other tests recorded comes to it at any time."""
    walked = os.walk(stack.data / "blobs")  # unlike rglob it takes a folder that goes away meanwhile for an empty one
    found = set()
    for path in [Path(at, name) for at, _, files in walked for name in files]:
        with suppress(FileNotFoundError):
            if text in path.read_bytes():
                found.add(path)
    return found


def newest(http: httpx.Client) -> Any:
    return http.get("/api/batch/jobs", params={"limit": 1}).json()


def test_a_sender_that_goes_away_leaves_nothing(stack: Stack, http: httpx.Client) -> None:
    jobs = newest(http)
    with connected(stack) as sock:
        sock.sendall(HEAD.format(length=5_000_000).encode() + PART.encode() + b"of what is gone " * 280_000)
        until("the bytes are on their way to the store", lambda: kept(stack, b"of what is gone"), seconds=20)
    until("nothing is left of them", lambda: not kept(stack, b"of what is gone"), seconds=20)
    assert newest(http) == jobs


def test_a_form_that_ends_in_the_middle_is_refused(stack: Stack, http: httpx.Client) -> None:
    jobs = newest(http)
    answer = http.post(
        "/api/batch/upload",
        content=PART.encode() + b"text without an end",
        headers={"content-type": "multipart/form-data; boundary=B"},
    )
    assert answer.status_code == 400
    assert "ends in the middle" in answer.json()["detail"]
    until("nothing is left of it", lambda: not kept(stack, b"without an end"), seconds=20)
    assert newest(http) == jobs


def test_memory_stays_small_whatever_the_size(stack: Stack, http: httpx.Client) -> None:
    pid = stack.pids()["gateway"]

    def resident_kib() -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

    http.get("/api/batch/jobs")
    before = resident_kib()
    answer = http.post("/api/batch/upload", files=documents(("large.txt", b"many words " * 4_000_000)))
    assert answer.status_code == 200, answer.text
    assert resident_kib() - before < 24 * 1024
    told = ended(http, answer.json()["job_id"])
    assert told["status"] == "FAILED"
    assert told["error_message"]
    rows = http.get(f"/api/batch/{told['job_id']}/results").json()["documents"]
    assert [row["status"] for row in rows] == ["FAILED"]
    assert "too large" in rows[0]["error"]
