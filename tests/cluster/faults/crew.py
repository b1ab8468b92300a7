"""What the tests of faults share: a run on workers of the class `fragile`, its workers, and what must hold afterwards.

Faults of processes are signals, sent from the box, in which every process of every pod is to be seen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.cluster.node.fragile import FRAGILE, MOST, SLOTS
from tests.cluster.node.product import Product
from tests.cluster.programs.daemon import POLL_SECONDS, wait_until

__all__ = ["SECONDS", "Crew", "again", "kinds", "process", "session", "signalled"]

SECONDS = 120.0
"""For what comes about in some seconds on an idle machine."""
AGAIN_SECONDS = 30.0

T = TypeVar("T")


def process(pod: Mapping[str, Any], program: str) -> int:
    """The pid of a program of a pod, as the box sees it; not that of the init which has started it."""
    mark, found = f"pod{pod['metadata']['uid']}", []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            runs = any(Path(word).name == program for word in words[:2])
            if runs and mark in (folder / "cgroup").read_text():
                found.append(int(folder.name))
    # A program that has forked is the oldest of its kind.
    assert found, f"no {program} runs in pod {pod['metadata']['name']}"
    return min(found)


def signalled(pod: Mapping[str, Any], program: str, number: signal.Signals) -> int:
    """Sends a signal to a program of a pod; its pid."""
    pid = process(pod, program)
    os.kill(pid, number)
    return pid


class Crew:
    """A run on workers of the class `fragile`, and what is known of it. Calls that nobody answers are made again."""

    def __init__(self, product: Product, *, items: int, seconds: float = 1.0, **payloads: Mapping[str, Any]) -> None:
        """payloads: of single items, by key (`k5`)."""
        self.product, self.count = product, items
        made = [{"key": f"k{number}", "payload": payloads.get(f"k{number}", {})} for number in range(items)]
        self.run_id = _answered(
            lambda: product.start(made, worker_class=FRAGILE, parameters={"sleep_seconds": seconds})
        )

    def completed(self) -> int:
        """Items, as the run counts them; -1: nobody answers."""
        try:
            run = self.product.http.get(f"/api/v1/runs/{self.run_id}")
        except httpx.HTTPError:
            return -1
        return int(run.json()["stages"][0]["counts"]["completed"]) if run.is_success else -1

    def wait_progress(self, more: int = MOST * SLOTS) -> None:
        """Until so many more items are completed than now."""
        before = -1

        def further() -> bool:
            nonlocal before
            now = self.completed()
            before = now if before < 0 else before
            return now >= 0 and now >= min(before + more, self.count)

        wait_until(further, f"work goes on in run {self.run_id}", seconds=SECONDS)

    def workers(self, *, ended: bool = False) -> list[dict[str, Any]]:
        with_ended = "true" if ended else "false"
        answer = _answered(lambda: self.product.get("workers", worker_class=FRAGILE, with_ended=with_ended))
        return list(answer["workers"])

    def busy_pods(self, count: int) -> list[dict[str, Any]]:
        """So many pods whose workers hold leases of items that have just begun; waits until there are."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            busy = {one["session"] for one in self.workers() if one["leases"]}
            found[:] = [pod for pod in self.product.worker_pods(FRAGILE) if session(pod) in busy]
            return len(found) >= count

        wait_until(there, f"{count} workers are busy", seconds=SECONDS)
        return found[:count]

    def wait_ended(self, name: str) -> dict[str, Any]:
        """A worker's row once its end is recorded."""
        found: list[dict[str, Any]] = []

        def ended() -> bool:
            found[:] = [one for one in self.workers(ended=True) if one["session"] == name and one["end_time"]]
            return bool(found)

        wait_until(ended, f"worker {name} has ended", seconds=SECONDS)
        return found[0]

    def wait_done(self) -> list[dict[str, Any]]:
        """Every item, once the run has ended as it should: each recorded once, none lost."""
        run = _answered(lambda: self.product.wait(self.run_id))
        assert run["state"] == "completed", run
        counts = run["stages"][0]["counts"]
        assert counts["completed"] == self.count, counts
        items = _answered(lambda: self.product.items(self.run_id))
        assert sorted(one["seq"] for one in items) == list(range(self.count))
        assert {one["state"] for one in items} == {"completed"}
        assert [one["key"] for one in sorted(items, key=lambda one: int(one["seq"]))] == [
            f"k{number}" for number in range(self.count)
        ]
        return items

    def lost(self, name: str) -> list[dict[str, Any]]:
        """Events of what was lost with a worker."""
        events = _answered(lambda: self.product.events(self.run_id))
        return [one for one in events if one["type"] == "lease.lost" and one["data"].get("session") == name]

    def listed(self, name: str) -> str:
        """The line that an operator reads of an ended worker."""
        rows = self.product.cli("workers", "list", "--class", FRAGILE, "--ended").splitlines()
        found = [row for row in rows if name in row]
        assert found, f"{name} is not listed:\n" + "\n".join(rows)
        return found[0]


def _answered(call: Callable[[], T]) -> T:
    """What is asked of a gateway that for a moment has no place in its service, or misses a program behind it."""
    deadline = time.monotonic() + AGAIN_SECONDS
    while True:
        try:
            return call()
        except (httpx.HTTPError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def session(pod: Mapping[str, Any]) -> str:
    """The name of the worker in a pod."""
    return f"{pod['metadata']['name']}-{pod['metadata']['labels']['penstock/generation']}"


def kinds(events: list[dict[str, Any]]) -> Counter[str]:
    return Counter(str(one["data"].get("kind")) for one in events)


@contextlib.contextmanager
def again(put_back: Callable[[], object]) -> Iterator[None]:
    """Puts something back whatever happens to the test."""
    try:
        yield
    finally:
        put_back()
