"""A processor that leaves a trace outside Penstock: a line as each execution begins, and one as it ends.

What an item does stands in its payload: how long it takes, how often it fails, what it costs, which limits it needs.
The log is one file a process, appended to with one write a line, so that a kill leaves whole lines.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.processor import Context, Failure, Outcome, Processor, Result, WorkItem

LOG = "PEN_EXECUTIONS"


def write(word: str, item: WorkItem) -> None:
    line = f"{word} {time.time_ns()} {item.run_id} {item.stage} {item.seq} {item.attempt}\n"
    path = Path(os.environ[LOG]) / str(os.getpid())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


class Executed(Processor[Any]):
    """Writes down that it was executed."""

    name = "executed"
    version = "1"
    paid = True

    @classmethod
    def limit_keys(cls, payload: Mapping[str, Any], parameters: Any) -> Sequence[str]:
        keys: Sequence[str] = payload.get("limits", ())
        return keys

    async def process(self, item: WorkItem, context: Context[Any]) -> Outcome:
        write("begins", item)
        await asyncio.sleep(item.payload["seconds"])
        write("ends", item)
        if item.tries < item.payload.get("fails", 0):
            return Failure("it failed, as it was told", cost_micros=1)
        return Result({"attempt": item.attempt}, cost_micros=item.payload["cost"])
