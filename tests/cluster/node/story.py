"""What an upgrade does to workers and items, written down while it happens: a table of moments, and a story."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.cluster.node.product import Product
from tests.cluster.programs.control_plane import is_ready
from tests.cluster.showing import show, tell

__all__ = ["Story", "telling"]

PAUSE_SECONDS = 0.2


class Story:
    """Moments count from its beginning. `words` are told in the report of the tier."""

    def __init__(self, product: Product, name: str) -> None:
        self.product, self.name = product, name
        self.words: list[str] = []
        self.rows: list[tuple[float, int, int, int, int]] = []
        """Seconds, old worker pods, new ones, new ones that are ready, items that completed."""
        self.old: frozenset[str] = frozenset()
        """Worker pods (uid) of before."""
        self.run_id = ""
        self._began = time.monotonic()
        self._completed = 0

    def say(self, what: str) -> None:
        self.words.append(f"{time.monotonic() - self._began:6.1f} s  {what}")

    def begin(self, run_id: str) -> None:
        """From now on pods that are there count as old."""
        self.old = frozenset(str(pod["metadata"]["uid"]) for pod in self.product.worker_pods())
        self.run_id = run_id

    def note(self) -> None:
        """One row; while API server or gateway do not answer, none."""
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            pods = self.product.worker_pods()
            if self.run_id:
                self._completed = int(self.product.run(self.run_id)["counts"]["completed"])
            new = [pod for pod in pods if pod["metadata"]["uid"] not in self.old] if self.old else []
            row = (len(pods) - len(new), len(new), sum(is_ready(pod) for pod in new), self._completed)
            if self.old and self.rows:
                self._tell_turns(self.rows[-1][1:], row)
            self.rows.append((time.monotonic() - self._began, *row))

    def _tell_turns(self, before: tuple[int, int, int, int], now: tuple[int, int, int, int]) -> None:
        done = f"{now[3]} items done"
        if now[0] < before[0]:
            self.say(f"{now[0]} of {len(self.old)} old worker pods are left, {done}")
        if now[2] > before[2]:
            self.say(f"{now[2]} new worker pods are ready, {done}")

    def write(self) -> None:
        rows = "".join(",".join([f"{row[0]:.1f}", *map(str, row[1:])]) + "\n" for row in self.rows)
        head = "seconds,old_pods,new_pods,new_ready,items_completed\n"
        show(f"{self.name}-story.csv", head + rows)
        tell(self.name, "\n".join(self.words))


@contextmanager
def telling(product: Product, name: str) -> Iterator[Story]:
    """The story in the report, and NAME-story.csv, also when the test fails."""
    story = Story(product, name)
    over = threading.Event()

    def follow() -> None:
        while not over.wait(PAUSE_SECONDS):
            story.note()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield story
    finally:
        over.set()
        thread.join(60)
        story.write()
