"""The child process that reads one table, or compares two: `python -P -m planner.tables`.

The job comes as JSON on standard input, the answer goes to standard output: `{"answer": …}` or `{"error": …}`. It is
killed with its planner; whatever a hostile file makes of a parser in C, the planner sees a child that failed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

_PR_SET_PDEATHSIG = 1


def main() -> int:
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    job = orjson.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(orjson.dumps(answer(job)))
    return 0


def answer(job: Mapping[str, Any]) -> dict[str, Any]:
    """What goes back to `planner.tables.process`."""
    from penstock.runtime.disk import disk_full, is_full
    from penstock.runtime.errors import PenstockError, Unavailable
    from planner.tables.refusals import too_large
    from planner.tables.wanted import TableBounds

    bounds = TableBounds(**job["bounds"])
    # A query may be without end: no file of it becomes larger than the largest table, with sort keys, can be.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * bounds.unpacked_bytes, 2 * bounds.unpacked_bytes))
    if bounds.address_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (bounds.address_bytes, bounds.address_bytes))
    try:
        return {"answer": (_compared if job["do"] == "compare" else _read)(job, bounds)}
    except PenstockError as error:
        found = error
    except MemoryError:
        found = Unavailable("the table needs more memory than the planner has for it", code="table_memory")
    except OSError as error:
        if error.errno == errno.EFBIG:
            found = too_large()
        elif is_full(error):
            found = disk_full("the planner's uploads")
        else:
            raise
    told = {
        "kind": type(found).__name__,
        "code": found.code,
        "message": found.message,
        "metadata": dict(found.metadata),
    }
    return {"error": told}


def _read(job: Mapping[str, Any], bounds: Any) -> dict[str, Any]:
    from planner.tables.reading import read_table
    from planner.tables.wanted import Database, TableFile, Wanted

    source: Any = [TableFile(name, Path(path)) for name, path in job["files"]]
    if job["database"] is not None:
        source = Database(**job["database"])
    columns = {name: tuple(job["wanted"][name]) for name in ("key", "sort")}
    wanted = Wanted(**{**job["wanted"], **columns})
    return read_table(source, wanted, folder=Path(job["folder"]), bounds=bounds).values()


def _compared(job: Mapping[str, Any], bounds: Any) -> dict[str, Any]:
    import duckdb

    from planner.tables.difference import compare
    from planner.tables.reading import connect
    from planner.tables.refusals import of_duckdb

    old, new = Path(job["old"]), Path(job["new"])
    with closing(connect(Path(job["folder"]), bounds, files=[old, new])) as connection:
        try:
            return asdict(compare(old, new, connection, most=job["most"]))
        except duckdb.Error as error:
            raise of_duckdb(error, "the snapshot") from error


if __name__ == "__main__":
    sys.exit(main())
