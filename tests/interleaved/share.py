"""A process's share of the pairs, played on servers of its own; one that falls is told at once."""

from __future__ import annotations

import asyncio
import signal
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from tests.cores import stay
from tests.interleaved.pair import opened

__all__ = ["Told", "share"]


@dataclass
class Told:
    """What a share of the pairs came to: how many interleavings each had, and what fell."""

    played: dict[str, int] = field(default_factory=dict)
    fell: list[str] = field(default_factory=list)


async def _play(pairs: Sequence[str], most_failures: int) -> Told:
    told = Told()
    async with opened() as pair:
        for name in pairs:
            first, _, second = name.partition("-")
            told.played[name] = 0
            try:
                async for k, j, played in pair.every((first, second)):
                    told.played[name] += 1
                    if played.wrong:
                        raise AssertionError(
                            f"{first} after {k} statements, {second} after {j}: " + "; ".join(played.wrong)
                        )
            except AssertionError as error:
                # The scene is not over: what comes after it would tell of this defect again.
                told.fell.append(f"{name}: {error}")
                print(f"fell: {name}: {error}"[:1_000], flush=True)
                pair.clear()
                if len(told.fell) >= most_failures:
                    break
    return told


def share(number: int, among: list[int], pairs: Sequence[str], most_failures: int) -> Told:
    """number, among: which of the cores it keeps to."""
    stay(number, among)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its servers end with it
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    return asyncio.run(_play(pairs, most_failures))
