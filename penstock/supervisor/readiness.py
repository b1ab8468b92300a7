"""Asks the gateway's /readyz until it answers 200: it asks planner, scheduler and analyzer by gRPC health in its turn.

It asks from a thread of its own, since an answer may take seconds and the supervisor must not wait.
"""

from __future__ import annotations

import http.client
import threading

__all__ = ["ReadinessProbe"]

PAUSE_SECONDS = 0.05
ANSWER_SECONDS = 5.0


class ReadinessProbe:
    """`ready` once it was; until then `answer` says what is missing."""

    def __init__(self, host: str, port: int) -> None:
        self.ready = False
        self.answer = "the gateway does not answer yet"
        self._place = (host, port)
        self._closed = threading.Event()
        threading.Thread(target=self._ask, name="readiness", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _ask(self) -> None:
        while not self._closed.is_set():
            connection = http.client.HTTPConnection(*self._place, timeout=ANSWER_SECONDS)
            try:
                connection.request("GET", "/readyz")
                response = connection.getresponse()
                body = response.read(4096).decode(errors="replace").strip()
                if response.status == 200:
                    self.ready = True
                    return
                self.answer = body or f"/readyz answers {response.status}"
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            self._closed.wait(PAUSE_SECONDS)
