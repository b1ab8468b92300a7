"""Real Redis servers on TCP: with a password, with TLS (Debian's, since the wheel's knows none), under Sentinel."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.supervisor import watcher
from penstock.supervisor.redis_server import server_program

__all__ = ["Authority", "TcpRedis", "free_port", "tls_program"]

START_SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def tls_program() -> Path | str:
    """A redis-server with TLS, or why it can't be had here."""
    cache = Path(os.environ.get("PENSTOCK_CLUSTER_CACHE") or Path.home() / ".cache" / "penstock-cluster")
    program = cache / "debian-redis" / "redis-server"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "debian-redis.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes one unpacks
        if not program.exists():
            command = [sys.executable, "-m", "tools.debian_redis", str(program.parent)]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                last = made.stdout.strip().splitlines()[-1:] or made.stderr.strip().splitlines()[-1:] or ["no word"]
                return f"a Redis with TLS can't be had here: {last[0]}"
    return program


@dataclass(frozen=True)
class Authority:
    """A CA and a server's certificate for 127.0.0.1, made by openssl."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        ca, key, request, certificate = (folder / name for name in ("ca.crt", "tls.key", "tls.csr", "tls.crt"))
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        extension = folder / "extension"
        extension.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        for command in (
            [
                "req",
                "-x509",
                *new,
                "-keyout",
                str(folder / "ca.key"),
                "-out",
                str(ca),
                "-subj",
                "/CN=test",
                "-days",
                "2",
            ],
            ["req", *new, "-keyout", str(key), "-out", str(request), "-subj", "/CN=redis"],
            [
                *("x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(folder / "ca.key")),
                *("-CAcreateserial", "-out", str(certificate), "-days", "2", "-extfile", str(extension)),
            ],
        ):
            subprocess.run(["openssl", *command], check=True, capture_output=True)
        return cls(ca, certificate, key)


class TcpRedis:
    """One server (or Sentinel) on 127.0.0.1. `options` as its command line has them."""

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        *,
        program: Path | None = None,
        authority: Authority | None = None,
        sentinel_of: str = "",
    ) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self._authority = authority
        chosen = str(program or server_program())
        ports = ["--port", str(self.port)]
        if authority is not None:
            ports = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            ports += ["--tls-cert-file", str(authority.certificate), "--tls-key-file", str(authority.key)]
            ports += ["--tls-ca-cert-file", str(authority.ca)]
        if sentinel_of:
            file = folder / "sentinel.conf"
            file.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n{sentinel_of}")
            self._command = [chosen, str(file), "--sentinel"]
        else:
            self._command = [chosen, *ports, "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        # Under the supervisor's own watcher: a test run that is killed leaves no server behind.
        reading, self._lifeline = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", watcher.__file__, str(reading), *self._command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(reading,),
        )
        os.close(reading)
        deadline = time.monotonic() + START_SECONDS
        while not self.ask("PING"):
            assert time.monotonic() < deadline, f"redis-server did not answer in {START_SECONDS:g} s"
            assert self._process.poll() is None, "redis-server has ended"
            time.sleep(0.02)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(5)
        os.close(self._lifeline)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def ask(self, *command: str) -> str:
        """What it answers, errors too; "" where it does not."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain:
            one = plain
            if self._authority is not None:
                context = ssl.create_default_context(cafile=str(self._authority.ca))
                one = context.wrap_socket(plain, server_hostname="127.0.0.1")
            one.sendall((" ".join(command) + "\r\n").encode())
            return one.recv(65_536).decode(errors="replace")
        return ""
