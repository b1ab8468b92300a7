"""`beginning`: a processor that writes down when each of its items begins, and does nothing else.

`beginning-limited` is the same within limits: those that the payload names, and one by domain where it has a URL.

Installed into a stack's workers as a package of its own would be, so it imports nothing of the tests. A line an item:
nanoseconds of the machine's clock, run id, seq.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.processor import Context, Outcome, Parameters, Processor, Result, WorkItem


class NoParameters(Parameters):
    pass


class Beginning(Processor[NoParameters]):
    """Says when an item began, in the file that PEN_BEGINNINGS names."""

    name = "beginning"
    version = "1"
    parameters_type = NoParameters
    batch_size = 1_000

    async def process_batch(self, items: Sequence[WorkItem], context: Context[NoParameters]) -> Sequence[Outcome]:
        now = time.time_ns()
        lines = "".join(f"{now} {item.run_id} {item.seq}\n" for item in items)
        descriptor = os.open(os.environ["PEN_BEGINNINGS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, lines.encode())
        os.close(descriptor)
        return [Result() for _ in items]


class LimitedBeginning(Beginning):
    name = "beginning-limited"

    @classmethod
    def limit_keys(cls, payload: Mapping[str, Any], parameters: NoParameters) -> Sequence[str]:
        domains = [f"domain:{payload['url'].split('/')[2]}"] if "url" in payload else []
        return [*payload.get("limits", ()), *domains]
