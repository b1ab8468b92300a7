"""Processors for these tests, found as any plug-in is: by the entry points of a distribution on the path."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import Field

from penstock.processor import (
    Context,
    Deferred,
    Failure,
    Outcome,
    Parameters,
    Processor,
    ProcessorError,
    Result,
    Throttled,
    WorkItem,
)
from penstock.v1.common_pb2 import BlobRef

__all__ = ["SPENT", "BatchedProcessor", "GatedProcessor", "SpendingProcessor", "TrialProcessor", "install"]


class Ending(BaseException):
    """What `except Exception` does not catch."""

    def __str__(self) -> str:
        raise RuntimeError("and it can't even be told")


RAISED: dict[str, BaseException] = {
    "raise": RuntimeError("a plain defect"),
    "time_out_itself": TimeoutError("the site is slow"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "cancel": asyncio.CancelledError("by itself"),
    "end": Ending(),
}
ANSWERED: dict[str, object] = {
    "not_json": Result({"what": object()}),
    "nothing": None,
    "no_blob": Result(1, blob="abc"),  # type: ignore[arg-type]
    "odd_blob": Result(blob=BlobRef(sha256="A" * 64, size_bytes=3)),
    "far_away": Deferred(until=dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(dt.timedelta(hours=-14)))),
    "half_a_character": Failure("a name that is no text: \udcff"),
    "no_words": Failure(None, kind="k" * 1_000),  # type: ignore[arg-type]
}


held_threads = threading.Event()


class TrialParameters(Parameters):
    mode: str = Field("complete", description="What to do with an item.")
    size: int = Field(0, description="Characters of the result.")


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
        mode = str(item.payload.get("mode", context.parameters.mode))
        if mode in RAISED:
            raise RAISED[mode]
        if mode in ANSWERED:
            return cast("Outcome", ANSWERED[mode])
        if mode == "refuse":
            raise ProcessorError("this item can't be done", permanent=True)
        if mode == "hang":
            await asyncio.sleep(3600)
        if mode == "stubborn":
            while not type(self).gate.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await type(self).gate.wait()
        if mode == "thread":
            await asyncio.to_thread(threading.get_ident)
        if mode == "hold_a_thread":
            await asyncio.to_thread(held_threads.wait)
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
        if context.parameters.size:
            return Result("x" * context.parameters.size)
        return Result({"key": item.key, "payload": dict(item.payload)})


class GatedProcessor(TrialProcessor):
    """One call at once: its other items wait in the worker."""

    name = "gated"
    concurrency = 1


class BatchedProcessor(TrialProcessor):
    """Items in fours."""

    name = "batched"
    batch_size = 4

    async def process_batch(self, items: Sequence[WorkItem], context: Context[TrialParameters]) -> Sequence[Outcome]:
        return await asyncio.gather(*(self.process(item, context) for item in items))


class NeverMadeProcessor(TrialProcessor):
    """Loads, but can't be made."""

    name = "never-made"

    def __init__(self) -> None:
        raise OSError("no model on this machine")


class MiscountingProcessor(Processor[Parameters]):
    """Answers one outcome too few."""

    name = "miscounting"
    version = "1"
    batch_size = 10

    async def process_batch(self, items: Sequence[WorkItem], context: Context[Any]) -> Sequence[Outcome]:
        return [Result()] * (len(items) - 1)


class SilentProcessor(Processor[Parameters]):
    """Answers no list at all."""

    name = "silent"
    version = "1"
    batch_size = 10

    async def process_batch(self, items: Sequence[WorkItem], context: Context[Any]) -> Sequence[Outcome]:
        return None  # type: ignore[return-value]


class UnboundedProcessor(TrialProcessor):
    """A batch of no items is none."""

    name = "unbounded"
    batch_size = 0


class SpendingProcessor(Processor[TrialParameters]):
    """Costs money, must not be repeated, and ends in every way that there is."""

    name = "spending"
    version = "1"
    parameters_type = TrialParameters
    paid = True
    repeatable = False

    async def process(self, item: WorkItem, context: Context[TrialParameters]) -> Outcome:
        mode = context.parameters.mode
        if mode == "seen":
            return Result([item.mode, item.context, item.saved, item.reserved_micros, item.heals])
        if mode == "top_up":
            return Result(await context.top_up(item, 100))
        if mode in SPENT:
            return SPENT[mode]
        if mode == "wait":
            TrialProcessor.began.append(item.seq)
            await context.cancelled.wait()
            return Result(cost_micros=40)
        context.spent(item, 3, {"tokens": 1})
        context.spent(item, 2, {"tokens": 1, "images": 4})
        if mode == "told":
            return Failure("no", fingerprint="no luck", cost_micros=2, used={"tokens": 1})
        if mode == "raised":
            raise ProcessorError("no", kind="provider", fingerprint="no luck")
        if mode == "crash":
            raise RuntimeError("a defect")
        await asyncio.sleep(3600)
        raise AssertionError("it was cancelled")


SPENT: dict[str, Outcome] = {
    "plain": Result(cost_micros=7, used={"tokens": 9}),
    "free": Result({"a": 1}),
    "throttled": Throttled("provider:x", 2.5, "slow down", cost_micros=1),
    "until": Deferred(until=dt.datetime(2030, 1, 2, tzinfo=dt.UTC), saved={"batch": 7}, used={"tokens": 1}),
    "after": Deferred(after_seconds=30.0),
    "neither": Deferred(saved=1, cost_micros=4),
    "no_zone": Deferred(until=dt.datetime(2030, 1, 2)),
    "long_key": Throttled("domain:" + "x" * 300),
    "no_key": Throttled("domain example"),
    "for_ever": Throttled("provider:x", float("inf")),
    "saves_too_much": Deferred(after_seconds=1, saved="x" * 100_000),
    "negative": Result(cost_micros=-1),
    "no_number": Result(cost_micros="7"),  # type: ignore[arg-type]
    "no_dimension": Result(used={"": 1}),
    "half": Failure("no", used={"tokens": 0.5}),  # type: ignore[dict-item]
    "large": Result("x" * 100_000, cost_micros=7),
}


def install(folder: Path) -> None:
    """Writes a distribution into `folder` that names the processors of this module."""
    information = folder / "penstock_trial-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: penstock-trial\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[penstock.processors]\n"
        f"trial = {__name__}:TrialProcessor\n"
        f"gated = {__name__}:GatedProcessor\n"
        f"batched = {__name__}:BatchedProcessor\n"
        f"never-made = {__name__}:NeverMadeProcessor\n"
        f"miscounting = {__name__}:MiscountingProcessor\n"
        f"silent = {__name__}:SilentProcessor\n"
        f"spending = {__name__}:SpendingProcessor\n"
        f"unbounded = {__name__}:UnboundedProcessor\n"
        "broken = no.such.module:Processor\n"
    )
