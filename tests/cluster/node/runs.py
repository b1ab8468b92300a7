"""Runs of plain items over a gateway's HTTP, of the product in the cluster or of one beside it.

What a gateway refuses raises AssertionError with its own words; what does not come about in time, with what the run was
then and what `told` knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from tests.cluster.programs.daemon import wait_until

__all__ = ["OVER", "Runs"]

OVER = ("completed", "completed_with_failures", "failed", "stopped")
"""States of a run that has ended."""
READY_SECONDS = 300.0


class Runs:
    """`http` has the gateway's address, and the token where it asks for one."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def told(self) -> str:
        """What a user would look at when something does not go on."""
        return ""

    def get(self, path: str, **query: str | int) -> Any:
        """JSON of a route below /api/v1. Raises AssertionError."""
        answer = self.http.get(f"/api/v1/{path}", params=query)
        assert answer.is_success, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = self.http.post(f"/api/v1/{path}", json=dict(body))
        assert answer.is_success, f"POST {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def start(
        self,
        items: Sequence[Mapping[str, Any]],
        *,
        processor: str = "noop",
        worker_class: str = "default",
        name: str = "",
        **stage: Any,
    ) -> str:
        """A run of items ({key, group?, payload?}); its id. stage: concurrency, max_tries, parameters, rules, …"""
        lines = "".join(json.dumps(dict(one)) + "\n" for one in items)
        made = self.http.post("/api/v1/sources", files={"items": ("items.jsonl", lines.encode())})
        assert made.is_success, f"items are refused: {made.status_code} {made.text}"
        whole = {"processor": processor, "worker_class": worker_class, **stage}
        plan = self.post("plans", {"source_id": made.json()["source_id"], "stages": [whole]})
        run = self.post("runs", {"plan_id": plan["plan_id"], "name": name})
        return str(run["run_id"])

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self.get(f"runs/{run_id}"))

    def wait(self, run_id: str, *, seconds: float = READY_SECONDS) -> dict[str, Any]:
        """The run once it has ended. A gateway that does not answer is asked again."""
        self.until(run_id, lambda run: run["state"] in OVER, "it has ended", seconds=seconds)
        return self.run(run_id)

    def until(
        self, run_id: str, right: Callable[[dict[str, Any]], bool], what: str, *, seconds: float = READY_SECONDS
    ) -> None:
        """Until a run is so. Raises AssertionError with what the run was then."""
        last: dict[str, Any] = {}

        def is_right() -> bool:
            try:
                answer = self.http.get(f"/api/v1/runs/{run_id}")
            except httpx.HTTPError:
                return False
            if not answer.is_success:
                return False
            last.update(answer.json())
            return right(last)

        try:
            wait_until(is_right, what, seconds=seconds)
        except TimeoutError as error:
            raise AssertionError(f"run {run_id}: {error}; it is {last}\n{self.told()}") from None

    def items(self, run_id: str, *, stage: int = 0) -> list[dict[str, Any]]:
        return self._all(f"runs/{run_id}/items", "items", page_size=5_000, stage=stage)

    def events(self, run_id: str) -> list[dict[str, Any]]:
        return self._all(f"runs/{run_id}/events", "events")

    def _all(self, path: str, name: str, **query: str | int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token: str | None = ""
        while token is not None:
            page = self.get(path, **query, **({"page_token": token} if token else {}))
            found += page[name]
            token = page["next_page_token"]
        return found
