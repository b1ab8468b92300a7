"""Reads tables in child processes, one for each: what `planner.tables` offers to the rest of the planner.

A child bounds what a table costs the planner: its memory goes back when it ends, a parser that crashes over a hostile
file ends the child alone, and an upload that is given up is ended at once. Calls block: they run in a thread, and the
thread must live as long as the call (a child dies with the thread that made it).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from penstock.runtime import errors
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from planner.tables.wanted import Database, Difference, TableBounds, TableFile, TableVersion, Wanted

__all__ = ["TableReader"]

_POLL_SECONDS = 0.2
_STDERR_CHARACTERS = 2_000


class TableReader:
    """seconds: after so long a table is given up."""

    def __init__(self, bounds: TableBounds | None = None, *, seconds: float = 1_800.0) -> None:
        self.bounds = bounds or TableBounds()
        self._seconds = seconds

    def read(
        self, source: Sequence[TableFile] | Database, wanted: Wanted, *, folder: Path, stop: threading.Event
    ) -> TableVersion:
        """The version that some files have, or a database. Its snapshot lies in `folder`, beside what else was made.

        folder: an empty or an upload's folder, which the caller removes. stop: nobody waits for the answer any more.
        Raises InvalidInput, TooLarge, NotFound, Unavailable.
        """
        database = source if isinstance(source, Database) else None
        files = [] if isinstance(source, Database) else [[file.name, str(file.path)] for file in source]
        job = {
            "do": "read",
            "files": files,
            "database": asdict(database) if database else None,
            "wanted": asdict(wanted),
        }
        return TableVersion.of(self._answer(job, folder, stop))

    def compare(self, old: Path, new: Path, *, folder: Path, stop: threading.Event, most: int = 100) -> Difference:
        """What has changed between two snapshots. Raises InvalidInput, Unavailable."""
        job = {"do": "compare", "old": str(old), "new": str(new), "most": most}
        return Difference.of(self._answer(job, folder, stop))

    def _answer(self, job: dict[str, Any], folder: Path, stop: threading.Event) -> dict[str, Any]:
        job |= {"folder": str(folder), "bounds": asdict(self.bounds)}
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "planner.tables"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
        ) as process:
            try:
                out, err = self._waited(process, orjson.dumps(job), stop)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise _failed(process.returncode, err)
        found = orjson.loads(out)
        if "error" in found:
            raise _told(found["error"])
        answer: dict[str, Any] = found["answer"]
        return answer

    def _waited(self, process: subprocess.Popen[bytes], job: bytes, stop: threading.Event) -> tuple[bytes, bytes]:
        until = time.monotonic() + self._seconds
        sent: bytes | None = job
        while True:
            try:
                return process.communicate(sent, timeout=_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                sent = None
            if stop.is_set():
                raise InvalidInput("the upload was given up", code="cancelled")
            if time.monotonic() > until:
                raise InvalidInput(
                    f"the table was not read within {self._seconds:g} s, the most that is taken", code="table_too_slow"
                )


def _told(error: dict[str, Any]) -> PenstockError:
    kind: type[PenstockError] = getattr(errors, error["kind"])
    return kind(error["message"], code=error["code"], **error["metadata"])


def _failed(code: int, err: bytes) -> Exception:
    # A library that gets no memory may end its process by itself, and say so.
    if code == -signal.SIGKILL or b"cannot allocate memory" in err.lower():
        return Unavailable(
            "the process that read the table was killed; the machine may lack memory", code="table_memory"
        )
    if code < 0:
        name = signal.Signals(-code).name
        return InvalidInput(f"the table can't be read: its reader ended with {name}", code="table_unreadable")
    return RuntimeError(
        f"the reader of a table ended with {code}: {err.decode('utf-8', 'replace')[-_STDERR_CHARACTERS:]}"
    )
