"""Gates and what all runs share, for code without an event loop; what each call does is told by the class of the same
name that it hands over to (`penstock.client.gates`, `limits`)."""

from __future__ import annotations

import builtins
import datetime as dt
from collections.abc import Sequence

from penstock.client.asynchronous import AsyncClient
from penstock.client.blocking import Loop
from penstock.client.limits import RateOptions
from penstock.v1 import scheduler_pb2

__all__ = ["Gates", "Limits", "Prices", "Retries"]


class Gates:
    """See `penstock.client.gates.Gates`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.gates

    def list(self, *, run_id: str = "") -> builtins.list[scheduler_pb2.Gate]:
        return self._loop.run(self._it.list(run_id=run_id))

    def approve(
        self, run_id: str, gate: str, *, reason: str = "", request_id: str = ""
    ) -> scheduler_pb2.RunCommandResponse:
        return self._loop.run(self._it.approve(run_id, gate, reason=reason, request_id=request_id))

    def reject(
        self, run_id: str, gate: str, *, reason: str = "", request_id: str = ""
    ) -> scheduler_pb2.RunCommandResponse:
        return self._loop.run(self._it.reject(run_id, gate, reason=reason, request_id=request_id))


class Limits:
    """See `penstock.client.limits.Limits`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.limits

    def list(self, *, prefix: str = "", states: Sequence[str] = ()) -> builtins.list[scheduler_pb2.Limit]:
        return self._loop.run(self._it.list(prefix=prefix, states=states))

    def events(self, key: str = "", *, limit: int = 100) -> builtins.list[scheduler_pb2.LimitEvent]:
        return self._loop.run(self._it.events(key, limit=limit))

    def get(self, key: str) -> scheduler_pb2.Limit:
        return self._loop.run(self._it.get(key))

    def set(
        self,
        key: str,
        *,
        concurrency: int | None = None,
        rates: Sequence[RateOptions] = (),
        adaptive: bool = False,
        cooldown_seconds: float = 0.0,
        etag: str = "",
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.Limit:
        return self._loop.run(
            self._it.set(
                key,
                concurrency=concurrency,
                rates=rates,
                adaptive=adaptive,
                cooldown_seconds=cooldown_seconds,
                etag=etag,
                reason=reason,
                request_id=request_id,
            )
        )

    def delete(self, key: str, *, reason: str = "", request_id: str = "") -> bool:
        return self._loop.run(self._it.delete(key, reason=reason, request_id=request_id))

    def close(
        self, key: str, *, until: dt.datetime | None = None, reason: str = "", request_id: str = ""
    ) -> scheduler_pb2.Limit:
        return self._loop.run(self._it.close(key, until=until, reason=reason, request_id=request_id))

    def open(self, key: str, *, reason: str = "", request_id: str = "") -> scheduler_pb2.Limit:
        return self._loop.run(self._it.open(key, reason=reason, request_id=request_id))


class Prices:
    """See `penstock.client.limits.Prices`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.prices

    def list(self) -> builtins.list[scheduler_pb2.Price]:
        return self._loop.run(self._it.list())

    def set(self, processor: str, micros: int, *, reason: str = "", request_id: str = "") -> scheduler_pb2.Price:
        return self._loop.run(self._it.set(processor, micros, reason=reason, request_id=request_id))


class Retries:
    """See `penstock.client.limits.Retries`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.retries

    def get(self) -> scheduler_pb2.Retries:
        return self._loop.run(self._it.get())

    def set(self, *, allowed: bool, reason: str = "", request_id: str = "") -> scheduler_pb2.Retries:
        return self._loop.run(self._it.set(allowed=allowed, reason=reason, request_id=request_id))
