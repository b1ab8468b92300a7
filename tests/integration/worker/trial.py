"""Processors for these tests, found as any plug-in is: by the entry points of a distribution on the path."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from penstock.processor import Context, Failure, Outcome, Parameters, Processor, ProcessorError, Result, WorkItem

__all__ = ["TrialProcessor", "install"]


class TrialParameters(Parameters):
    mode: str = Field("complete", description="What to do with an item.")


class TrialProcessor(Processor[TrialParameters]):
    """Does what its parameter says; notes who runs beside whom."""

    name = "trial"
    version = "1"
    parameters_type = TrialParameters

    running: ClassVar[set[int]] = set()
    beside: ClassVar[dict[int, set[int]]] = {}
    began: ClassVar[list[int]] = []
    cancelled: ClassVar[list[int]] = []
    gate: ClassVar[asyncio.Event] = asyncio.Event()

    @classmethod
    def reset(cls) -> None:
        cls.running, cls.beside, cls.began, cls.cancelled, cls.gate = set(), {}, [], [], asyncio.Event()

    async def process(self, item: WorkItem, context: Context[TrialParameters]) -> Outcome:
        cls = type(self)
        cls.began.append(item.seq)
        cls.beside[item.seq] = set(cls.running)
        cls.running.add(item.seq)
        try:
            return await self._do(item, context)
        finally:
            cls.running.discard(item.seq)

    async def _do(self, item: WorkItem, context: Context[TrialParameters]) -> Outcome:
        mode = context.parameters.mode
        if mode == "raise":
            raise RuntimeError("a plain defect")
        if mode == "refuse":
            raise ProcessorError("this item can't be done", permanent=True)
        if mode == "hang":
            await asyncio.sleep(3600)
        if mode == "not_json":
            return Result({"what": object()})
        if mode == "large":
            return Result("x" * 200_000)
        if mode == "wait":
            context.progress(0.5, "waiting")
            cancelled = asyncio.create_task(context.cancelled.wait())
            gate = asyncio.create_task(type(self).gate.wait())
            await asyncio.wait({cancelled, gate}, return_when=asyncio.FIRST_COMPLETED)
            cancelled.cancel()
            gate.cancel()
            if context.cancelled.is_set():
                type(self).cancelled.append(item.seq)
                return Failure("cancelled")
        if mode == "brief":
            await asyncio.sleep(0.01)
        return Result({"key": item.key, "payload": dict(item.payload)})


class MiscountingProcessor(Processor[Parameters]):
    """Answers one outcome too few."""

    name = "miscounting"
    version = "1"
    batch_size = 10

    async def process_batch(self, items: Sequence[WorkItem], context: Context[Any]) -> Sequence[Outcome]:
        return [Result()] * (len(items) - 1)


def install(folder: Path) -> None:
    """Writes a distribution into `folder` that names the processors of this module."""
    information = folder / "penstock_trial-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: penstock-trial\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[penstock.processors]\n"
        f"trial = {__name__}:TrialProcessor\n"
        f"miscounting = {__name__}:MiscountingProcessor\n"
        "broken = no.such.module:Processor\n"
    )
