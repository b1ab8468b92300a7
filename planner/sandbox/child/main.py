"""One query, from standard input to standard output. Started by `planner.sandbox.process`, and by nothing else.

The request is a JSON object: `sql`, `tables` (name, descriptor, columns), `keys_of`, `seconds`, `memory_bytes`, `user`,
`parent`. It comes from the planner; only `sql` in it is a stranger's. Exit 0: the answer was sent, or why there is
none. Anything else is told by how the process ended.
"""

from __future__ import annotations

import json
import os
import sys

from planner.sandbox.child.confinement import Bounds, Unconfined, confine
from planner.sandbox.child.engine import Engine, Unreadable
from planner.sandbox.child.files import Output
from planner.sandbox.child.statement import Refused
from planner.sandbox.frames import DONE, REFUSED

__all__ = ["main"]

_MAX_DEPTH = 20_000
"""Of a parse tree: a few levels for each level of the query."""


def main() -> None:
    output = Output()
    with os.fdopen(0, "rb") as file:
        request = json.loads(file.read())
    sys.setrecursionlimit(_MAX_DEPTH)
    sql, memory_bytes = request["sql"], request["memory_bytes"]
    tables = {name: (fd, columns) for name, fd, columns in request["tables"]}
    try:
        engine = Engine([fd for fd, _ in tables.values()], memory_bytes, output)
        confine(Bounds(request["seconds"], memory_bytes, request["user"]), parent=request["parent"])
        engine.lock()
        for name, (fd, columns) in tables.items():
            engine.view(name, fd, columns)
        engine.check(sql, list(tables))
        engine.answer(sql, request["keys_of"], list(tables))
        output.send(DONE, b"")
    except Refused as refused:
        _refuse(output, refused.code, refused.message, refused.position)
    except RecursionError:
        _refuse(output, "bad_sql", "it is nested too deep")
    except MemoryError:
        _refuse(output, "sql_memory", "")
    except Unreadable as error:
        _refuse(output, "unreadable", str(error))
    except Unconfined as error:
        _refuse(output, "unconfined", str(error))
    os._exit(0)  # nothing is left to put in order


def _refuse(output: Output, code: str, message: str, position: int = -1) -> None:
    output.send(REFUSED, json.dumps({"code": code, "message": message, "position": position}).encode())
