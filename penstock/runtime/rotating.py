"""A channel over mutual TLS whose certificates may change while it is used.

gRPC's own channels keep the certificates that they were made with. This one looks, when a call begins, whether the
identity has new ones; then it makes a new channel for that call and those after it, and lets the old one go when what
runs on it has ended, however long that takes. Its callables, which stubs keep, stay good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import grpc

from penstock.runtime.tls import Identity

__all__ = ["RotatingChannel"]

SETTLE_SECONDS = 5.0
"""A call that has been made but whose interceptors have not run yet is not on its channel yet."""
ENDLESS_SECONDS = 10 * 365 * 86_400.0
"""Without a bound grpc would cancel what runs."""


class _Callable:
    def __init__(self, owner: RotatingChannel, kind: str, arguments: Sequence[Any]) -> None:
        self._owner = owner
        self._kind = kind
        self._arguments = arguments
        self._channel: grpc.aio.Channel | None = None
        self._make: Any = None

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        channel = self._owner.now()
        if channel is not self._channel:
            self._make = getattr(channel, self._kind)(*self._arguments)
            self._channel = channel
        return self._make(*arguments, **more)


class RotatingChannel(grpc.aio.Channel):
    """To `address`, where `service` is: its certificate must have the name `penstock-SERVICE`."""

    def __init__(
        self,
        address: str,
        identity: Identity,
        *,
        service: str,
        options: Sequence[tuple[str, Any]],
        interceptors: Sequence[grpc.aio.ClientInterceptor],
    ) -> None:
        self._address = address
        self._identity = identity
        self._options = [*options, ("grpc.ssl_target_name_override", f"penstock-{service}")]
        self._interceptors = list(interceptors)
        self._retired: dict[grpc.aio.Channel, asyncio.Task[None]] = {}
        self._held = identity.current()
        self._channel = self._open()

    def now(self) -> grpc.aio.Channel:
        """The channel for a call that begins now."""
        held = self._identity.current()
        if held is not self._held:
            old, self._held = self._channel, held
            self._channel = self._open()
            self._retired[old] = asyncio.create_task(self._let_go(old))
        return self._channel

    def _open(self) -> grpc.aio.Channel:
        held = self._held
        credentials = grpc.ssl_channel_credentials(held.ca, held.key, held.chain)
        return grpc.aio.secure_channel(
            self._address, credentials, options=self._options, interceptors=self._interceptors
        )

    async def _let_go(self, old: grpc.aio.Channel) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        await old.close(ENDLESS_SECONDS)
        del self._retired[old]

    def unary_unary(self, *arguments: Any, **more: Any) -> Any:
        return _Callable(self, "unary_unary", _positional(*arguments, **more))

    def unary_stream(self, *arguments: Any, **more: Any) -> Any:
        return _Callable(self, "unary_stream", _positional(*arguments, **more))

    def stream_unary(self, *arguments: Any, **more: Any) -> Any:
        return _Callable(self, "stream_unary", _positional(*arguments, **more))

    def stream_stream(self, *arguments: Any, **more: Any) -> Any:
        return _Callable(self, "stream_stream", _positional(*arguments, **more))

    async def close(self, grace: float | None = None) -> None:
        """Calls that run, on old channels too, get `grace` seconds, and are then cancelled."""
        retired = dict(self._retired)
        for task in retired.values():
            task.cancel()
        await asyncio.gather(self._channel.close(grace), *(old.close(grace) for old in retired))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.now().channel_ready()

    async def __aenter__(self) -> RotatingChannel:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()


def _positional(
    method: str, request_serializer: Any = None, response_deserializer: Any = None, _registered_method: bool = False
) -> tuple[Any, ...]:
    return method, request_serializer, response_deserializer, _registered_method
