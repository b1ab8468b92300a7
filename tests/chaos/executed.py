"""A processor that leaves a trace outside Penstock: a line as each execution begins, and one as it ends.

What an item does stands in its payload: how long it takes, what it costs, which limits it needs, and how it ends before
it completes. The log is one file a process, appended to with one write a line, so that a kill leaves whole lines.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.processor import Context, Deferred, Failure, Outcome, Parameters, Processor, Result, Throttled, WorkItem

LOG = "PEN_EXECUTIONS"
MENDED = "mended"
"""A file in the folder of the logs: while it is not there, items that `break` fail for good."""
FAILURE_MICROS = 1


class ExecutedParameters(Parameters):
    repeatable: bool = True


def write(word: str, item: WorkItem, micros: int = 0) -> None:
    what = f"{item.run_id} {item.stage} {item.seq} {item.attempt} {item.mode} {micros}"
    path = Path(os.environ[LOG]) / str(os.getpid())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{word} {time.time_ns()} {what}\n".encode())
    finally:
        os.close(descriptor)


class Executed(Processor[ExecutedParameters]):
    """Writes down that it was executed."""

    name = "executed"
    version = "1"
    parameters_type = ExecutedParameters
    paid = True

    @classmethod
    def limit_keys(cls, payload: Mapping[str, Any], parameters: ExecutedParameters) -> Sequence[str]:
        keys: Sequence[str] = payload.get("limits", ())
        return keys

    @classmethod
    def is_repeatable(cls, parameters: ExecutedParameters) -> bool:
        return parameters.repeatable

    async def process(self, item: WorkItem, context: Context[ExecutedParameters]) -> Outcome:
        write("begins", item)
        await asyncio.sleep(item.payload["seconds"])
        if item.payload.get("as") == "kills" and item.tries < item.payload["times"]:
            write("dies", item)
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = came_of(item)
        write("ends", item, outcome.cost_micros)
        return outcome


def came_of(item: WorkItem) -> Outcome:
    kind = item.payload.get("as")
    if item.mode == "work":
        if kind == "fails" and item.tries < 1:
            return Failure("it failed, as it was told", cost_micros=FAILURE_MICROS)
        if kind == "heals":
            return Failure("it must be healed", kind="provider", permanent=True, cost_micros=FAILURE_MICROS)
        if kind == "breaks" and not (Path(os.environ[LOG]) / MENDED).exists():
            return Failure("it is broken until it is mended", permanent=True, cost_micros=FAILURE_MICROS)
        if kind == "throttles" and item.attempt == 1:
            return Throttled(item.payload["limits"][0], 0.5, cost_micros=FAILURE_MICROS)
        if kind == "defers" and item.saved is None:
            return Deferred(after_seconds=1.0, saved={"by": item.attempt}, cost_micros=FAILURE_MICROS)
    return Result({"attempt": item.attempt}, cost_micros=item.payload["cost"])
