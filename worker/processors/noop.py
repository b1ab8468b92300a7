"""`noop`: completes every item at once, or after a pause; for trials, tests and measuring."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from pydantic import Field

from penstock.processor import Context, Outcome, Parameters, Processor, Result, WorkItem

__all__ = ["NoopParameters", "NoopProcessor"]

_DONE = Result()


class NoopParameters(Parameters):
    sleep_seconds: float = Field(0.0, ge=0, le=3600, description="Pause before an item completes.")


class NoopProcessor(Processor[NoopParameters]):
    """Does nothing."""

    name = "noop"
    version = "1"
    parameters_type = NoopParameters
    batch_size = 1_000

    async def process_batch(self, items: Sequence[WorkItem], context: Context[NoopParameters]) -> Sequence[Outcome]:
        if context.parameters.sleep_seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(context.parameters.sleep_seconds):
                    await context.cancelled.wait()
        return [_DONE] * len(items)
