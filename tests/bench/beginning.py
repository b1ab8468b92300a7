"""`beginning`: a processor that writes down when each of its items begins, and does nothing else.

Installed into a stack's workers as a package of its own would be, so it imports nothing of the tests. A line an item:
nanoseconds of the machine's clock, run id, seq.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.processor import Context, Outcome, Parameters, Processor, Result, WorkItem


class BeginningParameters(Parameters):
    limits_of: str = ""
    """A column with URLs: each item has a limit by domain, that of its URL."""


class Beginning(Processor[BeginningParameters]):
    """Says when an item began, in the file that PEN_BEGINNINGS names."""

    name = "beginning"
    version = "1"
    parameters_type = BeginningParameters
    batch_size = 1_000

    @classmethod
    def limit_keys(cls, payload: Mapping[str, Any], parameters: BeginningParameters) -> Sequence[str]:
        if parameters.limits_of:
            return [f"domain:{payload[parameters.limits_of].split('/')[2]}"]
        return list(payload.get("limits", ()))

    async def process_batch(
        self, items: Sequence[WorkItem], context: Context[BeginningParameters]
    ) -> Sequence[Outcome]:
        now = time.time_ns()
        lines = "".join(f"{now} {item.run_id} {item.seq}\n" for item in items)
        descriptor = os.open(os.environ["PEN_BEGINNINGS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, lines.encode())
        os.close(descriptor)
        return [Result() for _ in items]
