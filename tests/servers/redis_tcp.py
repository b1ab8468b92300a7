"""Real Redis servers on TCP: with a password, with TLS (Debian's, since the wheel's knows none), under Sentinel."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from penstock.supervisor import watcher
from penstock.supervisor.redis_server import server_program
from tests.servers.ports import free_port

__all__ = ["TcpRedis"]

START_SECONDS = 20.0


class TcpRedis:
    """One server (or Sentinel) on 127.0.0.1. `options` as its command line has them; tls: the folder of its
    certificate, as `tests.servers.certificates.mount` makes it."""

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        *,
        program: Path | None = None,
        tls: Path | None = None,
        sentinel_of: str = "",
    ) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self._tls = tls
        chosen = str(program or server_program())
        ports = ["--port", str(self.port)]
        if tls is not None:
            ports = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            ports += ["--tls-cert-file", str(tls / "tls.crt"), "--tls-key-file", str(tls / "tls.key")]
            ports += ["--tls-ca-cert-file", str(tls / "ca.crt")]
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
            if self._tls is not None:
                context = ssl.create_default_context(cafile=str(self._tls / "ca.crt"))
                one = context.wrap_socket(plain, server_hostname="127.0.0.1")
            one.sendall((" ".join(command) + "\r\n").encode())
            return one.recv(65_536).decode(errors="replace")
        return ""
