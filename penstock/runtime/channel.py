"""Client channels between our programs: who calls, the trace and a deadline on every call; quick to reconnect.

Errors come back as the classes of `penstock.runtime.errors` through `calling`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from penstock.runtime import tracing
from penstock.runtime.errors import Unavailable, from_rpc_error

if TYPE_CHECKING:
    from penstock.runtime.tls import Proof

__all__ = ["MAX_MESSAGE_BYTES", "OPTIONS", "calling", "open_channel"]

MAX_MESSAGE_BYTES = 64 << 20

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # So long one attempt may take: less, and a server that is short of CPU is never reached.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 400),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.max_pings_without_data", 0),
]

DEADLINE_SECONDS = 30.0

CLOSED = " (who closes what connects may ask for mutual TLS: PENSTOCK_TLS__FOLDER would be wanting here)"
"""gRPC's words are the same for a server that has just died."""

Details = grpc.aio.ClientCallDetails


class _Amending:
    """Calls with amended details. grpc.aio takes an interceptor for one kind of call only: hence the four below."""

    def __init__(self, amend: Callable[[Details], Details]) -> None:
        self._amend = amend

    async def _call(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._amend(client_call_details), request)


class _UnaryUnary(_Amending, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary: Any = _Amending._call


class _UnaryStream(_Amending, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream: Any = _Amending._call


class _StreamUnary(_Amending, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary: Any = _Amending._call


class _StreamStream(_Amending, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream: Any = _Amending._call


def open_channel(address: str, proof: Proof, *, service: str = "") -> grpc.aio.Channel:
    """A channel to `host:port`. It connects on first use and reconnects by itself, within 1 s. proof: what shows who
    calls; service: who is called, which over mutual TLS its certificate must say."""
    token = proof if isinstance(proof, str) else None

    def amend(details: Details, *, bounded: bool = False) -> Details:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        if token is not None:
            metadata.add("authorization", f"Bearer {token}")
        metadata.add(tracing.HEADER, tracing.traceparent())
        timeout = details.timeout if details.timeout is not None or not bounded else DEADLINE_SECONDS
        return Details(details.method, timeout, metadata, details.credentials, details.wait_for_ready)

    interceptors: list[grpc.aio.ClientInterceptor] = [
        _UnaryUnary(lambda details: amend(details, bounded=True)),
        _UnaryStream(amend),
        _StreamUnary(amend),
        _StreamStream(amend),
    ]
    if proof is not None and not isinstance(proof, str):
        # With certificates alone: what reads them takes a tenth of a second to load.
        from penstock.runtime.handshakes import Explaining
        from penstock.runtime.rotating import RotatingChannel

        explaining = Explaining(address, proof, service)
        return RotatingChannel(
            address, proof, service=service, options=OPTIONS, interceptors=[explaining, *interceptors]
        )
    return grpc.aio.insecure_channel(address, options=OPTIONS, interceptors=interceptors)


@contextmanager
def calling() -> Iterator[None]:
    """Around a call: what the server meant, raised as our own class."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # An intercepted call that is cancelled says so by its status: whoever cancelled us must see it.
            raise asyncio.CancelledError from error
        failure = from_rpc_error(error)
        if failure.message.startswith("failed to connect") and failure.message.endswith("Socket closed"):
            raise Unavailable(failure.message + CLOSED, code=failure.code) from error
        raise failure from error
