"""What every server does around every call: who calls, within what time, what it raised, how long it took.

One interceptor, so that the order is plain: identity, then trace, then deadline, then the handler, then errors, log
and metric.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn

import grpc
from grpc_status import rpc_status

from penstock.runtime import callers, metrics, tracing
from penstock.runtime.errors import (
    EARLY_STATUS_KEY,
    Internal,
    Overloaded,
    PenstockError,
    Unauthenticated,
    Unavailable,
    to_status,
)
from penstock.runtime.logs import get_logger
from penstock.runtime.tls import Identity, Proof

__all__ = ["DEFAULT_DEADLINE_SECONDS", "CallInterceptor"]

DEFAULT_DEADLINE_SECONDS = 60.0
"""For unary calls of clients that set none; streams may last."""

_OPEN_METHODS = ("/grpc.health.v1.Health/",)

QUIET_SECONDS = 5.0
"""While a part can't be reached every call of a method is refused for one reason: it is said so often."""

log = get_logger("rpc")


class _Repeats:
    """What was said of each method lately. Methods and codes are few: it stays small."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def said(self, method: str, failure: PenstockError) -> int | None:
        """None: this one is not said; else how many were not since the last that was."""
        if not isinstance(failure, Unavailable | Overloaded):
            return 0
        key = (method, failure.code)
        since, unsaid = self._said.get(key, (-math.inf, 0))
        now = self._clock()
        if now - since < QUIET_SECONDS:
            self._said[key] = (since, unsaid + 1)
            return None
        self._said[key] = (now, 0)
        return unsaid


_REPEATS = _Repeats()

Handler = Any  # a grpc.RpcMethodHandler; grpc's types do not name its fields
Context = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """proof: a token is what calls must carry as `authorization: Bearer …`; with certificates the caller's own says who
    it is, and `callers` what it may call; None asks for nothing."""

    def __init__(self, proof: Proof) -> None:
        self._by_certificate = isinstance(proof, Identity)
        self._expected = f"Bearer {proof}" if isinstance(proof, str) else None

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        headers = {k: v for k, v in handler_call_details.invocation_metadata or () if isinstance(v, str)}
        if handler.unary_unary:
            make, name, body = grpc.unary_unary_rpc_method_handler, "unary_unary", handler.unary_unary
        elif handler.stream_unary:
            make, name, body = grpc.stream_unary_rpc_method_handler, "stream_unary", handler.stream_unary
        elif handler.unary_stream:
            make, name, body = grpc.unary_stream_rpc_method_handler, "unary_stream", handler.unary_stream
        else:
            make, name, body = grpc.stream_stream_rpc_method_handler, "stream_stream", handler.stream_stream
        wrapped = (
            self._streaming(method, headers, body)
            if name.endswith("stream")
            else self._single(method, headers, body, bounded=name == "unary_unary")
        )
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _admit(self, method: str, headers: dict[str, str], context: Context) -> None:
        if self._by_certificate:
            callers.admit(method, [name.decode() for name in context.auth_context().get("peer_dns", ())])
        if self._expected is None or method.startswith(_OPEN_METHODS):
            return
        if not hmac.compare_digest(headers.get("authorization", ""), self._expected):
            raise Unauthenticated(
                "the call carries no valid token: give --data DIR of the running server, "
                "or its token as `authorization: Bearer …`"
            )

    def _single(self, method: str, headers: dict[str, str], body: Any, *, bounded: bool) -> Any:
        async def call(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            try:
                with tracing.span(method, headers):
                    self._admit(method, headers, context)
                    if bounded and context.time_remaining() is None:
                        async with asyncio.timeout(DEFAULT_DEADLINE_SECONDS):
                            answer = await body(request, context)
                    else:
                        answer = await body(request, context)
                _observe(method, "OK", started)
                return answer
            except Exception as error:
                await _abort(method, error, context, started, early=not bounded)

        return call

    def _streaming(self, method: str, headers: dict[str, str], body: Any) -> Any:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            started = time.perf_counter()
            try:
                with tracing.span(method, headers):
                    self._admit(method, headers, context)
                    # Reflection and health come as coroutines that write to the context.
                    result = body(request, context)
                    if hasattr(result, "__aiter__"):
                        async for answer in result:
                            yield answer
                    else:
                        await result
                _observe(method, "OK", started)
            except Exception as error:
                await _abort(method, error, context, started)

        return call


def _observe(method: str, code: str, started: float) -> None:
    metrics.RPC_SECONDS.labels(method, code).observe(time.perf_counter() - started)


async def _abort(method: str, error: Exception, context: Context, started: float, *, early: bool = False) -> NoReturn:
    if isinstance(error, PenstockError):
        failure = error
    elif isinstance(error, grpc.aio.AbortError):
        raise error
    elif isinstance(error, TimeoutError):
        failure = Unavailable(f"{method} took longer than its deadline", code="deadline_exceeded")
    else:
        failure = Internal("an error of Penstock's own; the server's log has it under this call's trace id")
    _observe(method, failure.status.name, started)
    if failure.log_level >= logging.ERROR:
        log.error("a call failed", method=method, code=failure.code, error=str(error), exc_info=error)
    else:
        more = _REPEATS.said(method, failure)
        if more is not None:
            log.log(
                failure.log_level,
                "a call was refused",
                method=method,
                code=failure.code,
                error=failure.message,
                **({"unsaid": more} if more else {}),
            )
    status = to_status(failure)
    if early:
        with suppress(grpc.aio.BaseError, asyncio.InvalidStateError):  # the client has gone
            await context.send_initial_metadata(((EARLY_STATUS_KEY, status.SerializeToString()),))
    await context.abort_with_status(rpc_status.to_status(status))
