"""Where seeds are played: a Redis and a SQLite of one process, and what a part of the seeds came to."""

from __future__ import annotations

import gc
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from tests.cores import stay
from tests.servers.redis import RedisServer
from tests.simulator.play import Play
from tests.simulator.sql_side import SqlWorld
from tests.simulator.story import shortened
from tests.simulator.wire import Wire
from tests.simulator.wiring import wired

__all__ = ["Stage", "Told", "opened", "part"]


@dataclass
class Told:
    """What a part of the seeds came to."""

    seeds: int = 0
    steps: int = 0
    grants: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)
    hashes: dict[int, str] = field(default_factory=dict)


class Stage:
    """Where seeds are played: a Redis and a SQLite of this process."""

    def __init__(self, url: str, folder: Path) -> None:
        self.client = Wire(url)
        self.sql = SqlWorld()
        self.folder = folder

    def play(self, seed: int, steps: int) -> Play:
        return Play(seed, self.sql, self.client, self.folder, steps=steps)


@contextmanager
def opened() -> Iterator[Stage]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    server = RedisServer()
    try:
        with tempfile.TemporaryDirectory() as folder, wired():
            yield Stage(server.url, Path(folder))
    finally:
        server.stop()


def part(number: int, among: list[int], seeds: range, steps: int, most_failures: int, stories: bool = True) -> Told:
    """number, among: which of the cores it keeps to."""
    stay(number, among)
    told = Told()
    with opened() as stage:
        gc.collect()
        gc.freeze()
        for seed in seeds:
            gc.disable()
            play = stage.play(seed, steps)
            violation = play.run()
            gc.enable()
            told.seeds += 1
            told.steps += play.taken
            told.grants += play.model.grants
            told.fired += play.world.counted
            told.hashes[seed] = play.world.history
            if violation is not None:
                print(f"fell: seed {seed}: {violation.rule} {violation.subject} {violation.text}"[:400], flush=True)
                told.failed[seed] = shortened(stage.play, seed, steps, violation) if stories else violation.text
                if len(told.failed) >= most_failures:
                    break
    return told
