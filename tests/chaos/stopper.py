"""A processor that stops its own worker (SIGSTOP) in the middle of each item's first attempt.

Its event loop stands still with it, so that when the worker is continued the outcome is the first thing that it has to
tell: a report that is late beyond doubt.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from penstock.processor import Context, Outcome, Processor, Result, WorkItem


class Stopper(Processor[Any]):
    """Stops its worker on the first attempt."""

    name = "stopper"
    version = "1.0.0"

    async def process(self, item: WorkItem, context: Context[Any]) -> Outcome:
        if item.attempt == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return Result({"attempt": item.attempt})
