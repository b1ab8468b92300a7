"""How many pods there are, as the API server says it each 100 ms, whatever else happens.

In the end the samples are left as a picture, with the limit as a line, and as numbers, named after the test.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from tests.cluster.programs.control_plane import ControlPlane
from tests.cluster.showing import counts_csv, counts_svg, name_of_test, show

__all__ = ["Sampler"]

PAUSE_SECONDS = 0.1
ENDED = ("Succeeded", "Failed")


@dataclass
class Sampler:
    """counts: (seconds since it began, pods that have not ended). While the API server is away there are none. limit:
    that they must not pass; what: of several samplers of a test, which; labels: a selector, empty: all pods."""

    control_plane: ControlPlane
    namespace: str
    limit: int
    what: str = ""
    labels: str = ""
    counts: list[tuple[float, int]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join(15)
        name = "-".join(filter(None, ("pods", name_of_test(), self.what)))
        title = f"{name}: {len(self.counts)} samples, at most {self.most} pods"
        show(f"{name}.svg", counts_svg(self.counts, limit=self.limit, title=title))
        show(f"{name}.csv", counts_csv(self.counts))

    @property
    def most(self) -> int:
        return max((count for _, count in self.counts), default=0)

    def _run(self) -> None:
        began = time.monotonic()
        with self.control_plane.client() as client:
            while not self._over.wait(PAUSE_SECONDS):
                with contextlib.suppress(httpx.HTTPError):
                    path, query = f"/api/v1/namespaces/{self.namespace}/pods", {"labelSelector": self.labels}
                    answer = client.get(path, params=query, timeout=2)
                    if answer.status_code == httpx.codes.OK:
                        live = [one for one in answer.json()["items"] if one["status"].get("phase") not in ENDED]
                        self.counts.append((time.monotonic() - began, len(live)))
