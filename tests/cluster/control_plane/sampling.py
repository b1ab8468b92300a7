"""How many pods there are, as the API server says it each 100 ms, whatever else happens."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from tests.cluster.programs.control_plane import ControlPlane

__all__ = ["Sampler"]

PAUSE_SECONDS = 0.1
ENDED = ("Succeeded", "Failed")


@dataclass
class Sampler:
    """counts: (seconds since it began, pods that have not ended). While the API server is away there are none."""

    control_plane: ControlPlane
    namespace: str
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

    @property
    def most(self) -> int:
        return max((count for _, count in self.counts), default=0)

    def _run(self) -> None:
        began = time.monotonic()
        with self.control_plane.client() as client:
            while not self._over.wait(PAUSE_SECONDS):
                with contextlib.suppress(httpx.HTTPError):
                    answer = client.get(f"/api/v1/namespaces/{self.namespace}/pods", timeout=2)
                    if answer.status_code == httpx.codes.OK:
                        live = [one for one in answer.json()["items"] if one["status"].get("phase") not in ENDED]
                        self.counts.append((time.monotonic() - began, len(live)))
