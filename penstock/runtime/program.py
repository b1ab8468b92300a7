"""One way to start, serve, drain and stop a gRPC program.

    start   settings (all problems at once, exit 2), logs, traces, lifeline, then `build`: migrations, clients, service
    serve   health (of each check by its name, too), reflection, the methods; background loops, restarted when they fail
            (over mutual TLS where there are certificates; plain health for kubelets has a port of its own)
    drain   on SIGTERM: readiness false, `drain`, no new calls, calls under way get `GRACE_SECONDS`
    stop    close what `build` opened; exit 0

A dependency that can't be reached at start does not end the program: `build` is tried again, with the reason logged,
and nobody listens at the address until it has succeeded. One that goes away later makes health say NOT_SERVING. A
program that dies here is restarted by its supervisor; nothing that it held matters.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from penstock.runtime import lifeline, logs, metrics, tracing
from penstock.runtime.channel import MAX_MESSAGE_BYTES
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from penstock.runtime.interceptors import CallInterceptor
from penstock.runtime.probes import CAUSE_KEY, Probes
from penstock.runtime.settings import Settings, load
from penstock.runtime.tls import Identity, Proof, proof_of

__all__ = ["CAUSE_KEY", "Check", "Health", "Service", "main", "watch_checks"]

GC_VALUES = 50_000
"""Made and not let go, before cycles of values are looked for."""
GRACE_SECONDS = 5.0
CHECK_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 3.0

Check = Callable[[], Awaitable[None]]
"""Raises when a dependency does not answer."""

log = logs.get_logger("program")


async def _nothing() -> None:
    return None


class Health(health.aio.HealthServicer):
    """Health that tells the cause, where it is known, of what it says is not well."""

    def __init__(self) -> None:
        super().__init__()
        self.causes: dict[str, str] = {}
        self.away: list[str] | None = None
        """Names of the checks that fail; None before the first turn."""

    async def ready(self) -> None:
        """Raises Unavailable with the cause while the whole is not well."""
        if self.away is None:
            raise Unavailable("it starts", cause="it starts")
        if self.away:
            told = "; ".join(f"{name}: {self.causes.get(name, 'does not answer')}" for name in self.away)
            raise Unavailable(told, cause=told)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        if cause := self.causes.get(request.service):
            context.set_trailing_metadata(((CAUSE_KEY, cause),))
        return await super().Check(request, context)


@dataclass(frozen=True)
class Service:
    """What a service hands to `main`.

    register: adds the servicers to the server; names: their full names, for reflection and health; checks: dependency
    name -> check; loops: coroutines that run while serving, restarted after 1 s when they raise; drain: before calls
    are refused; close: at the very end.
    """

    register: Callable[[grpc.aio.Server], None]
    names: Sequence[str]
    checks: Mapping[str, Check] = field(default_factory=dict)
    loops: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    drain: Callable[[], Awaitable[None]] = _nothing
    close: Callable[[], Awaitable[None]] = _nothing


def main(program: str, build: Callable[[Settings], Awaitable[Service]], *, listen: Callable[[Settings], str]) -> None:
    """Runs the program until SIGTERM (or SIGINT without a supervisor). Exits 0, or 2 for settings that are wrong."""
    try:
        settings = load()
        logs.configure(program, level=settings.log_level)
        tracing.configure(program, settings.trace_exporter)
        proof = proof_of(settings)
        if isinstance(proof, Identity):
            proof.expect(program)
    except InvalidInput as error:
        print(f"penstock {program}: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None
    lifeline.watch()
    asyncio.run(_run(program, settings, proof, build, listen(settings)))


async def _run(
    program: str,
    settings: Settings,
    proof: Proof,
    build: Callable[[Settings], Awaitable[Service]],
    address: str,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if lifeline.inherited() is None:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    probes = Probes()
    try:
        await probes.start(settings)
    except InvalidInput as error:
        print(f"penstock {program}: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None
    service = await _built(settings, proof, build, stop, probes)
    if service is None:
        await probes.stop()
        return
    server = grpc.aio.server(
        interceptors=[CallInterceptor(proof)],
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ],
        maximum_concurrent_rpcs=2_000,
    )
    servicer = Health()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection([*service.names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    service.register(server)
    try:
        if isinstance(proof, Identity):
            service = replace(service, checks={**service.checks, "certificate": proof.check})
            port = server.add_secure_port(address, proof.server_credentials())
        else:
            port = server.add_insecure_port(address)
    except RuntimeError:
        log.error("the address is taken", address=address)
        raise SystemExit(1) from None
    # What is loaded by now stays. Batches make many values and hardly a cycle: looking for one at every 700 of them
    # costs more than it finds.
    gc.freeze()
    gc.set_threshold(GC_VALUES, 20, 20)
    await server.start()
    probes.ready = servicer.ready
    log.info("serving", port=port, pid=os.getpid())
    tasks = [
        asyncio.create_task(_restarted(name, body), name=name)
        for name, body in {
            "health": lambda: _health(servicer, service),
            **service.loops,
        }.items()
    ]
    await stop.wait()
    log.info("draining")
    probes.not_ready("it stops")
    await servicer.enter_graceful_shutdown()
    await service.drain()
    await server.stop(GRACE_SECONDS)
    left = set(tasks)
    while left:  # a library may swallow a cancellation that comes in the very moment of another failure
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)
    await service.close()
    await probes.stop()
    log.info("stopped")


async def _built(
    settings: Settings,
    proof: Proof,
    build: Callable[[Settings], Awaitable[Service]],
    stop: asyncio.Event,
    probes: Probes,
) -> Service | None:
    """Tries until the dependencies answer or we are told to stop; the probes say meanwhile what is waited for."""
    delay = 0.1
    while not stop.is_set():
        try:
            if isinstance(proof, Identity):
                await proof.check()
            return await build(settings)
        except InvalidInput as error:
            print(error.message, file=sys.stderr)
            raise SystemExit(2) from None
        except PenstockError as error:
            log.warning("not ready to start; trying again", error=error.message, code=error.code)
            probes.not_ready(error.cause or error.code.replace("_", " "))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), delay)
            delay = min(delay * 2, 2.0)
    return None


async def _restarted(name: str, body: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await body()
            return
        except Unavailable as error:
            log.warning("a loop waits for a dependency", loop=name, error=error.message)
        except Exception as error:
            log.error("a loop failed and starts again", loop=name, error=str(error), exc_info=error)
        await asyncio.sleep(1.0)


async def watch_checks(checks: Mapping[str, Check], causes: dict[str, str] | None = None) -> dict[str, str]:
    """Runs every check once, side by side: name -> "" when it answers, else why not; `causes` becomes what is known to
    be wrong, in a few words."""
    told: dict[str, str] = {}

    async def one(name: str, check: Check) -> tuple[str, str]:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                await check()
        except TimeoutError:
            told[name] = f"no answer in {CHECK_TIMEOUT_SECONDS:g} s"
            return name, told[name]
        except Exception as error:
            if isinstance(error, PenstockError) and error.cause:
                told[name] = error.cause
            return name, str(error) or type(error).__name__
        return name, ""

    answers = dict(await asyncio.gather(*(one(name, check) for name, check in checks.items())))
    for name, problem in answers.items():
        metrics.READY.labels(name).set(0 if problem else 1)
    if causes is not None:
        causes.clear()
        causes.update(told)
    return answers


async def _health(servicer: Health, service: Service) -> None:
    last: dict[str, str] = {}
    while True:
        answers = await watch_checks(service.checks, servicer.causes)
        if answers != last:
            for name, problem in answers.items():
                if problem and last.get(name) != problem:
                    log.warning("a dependency does not answer", check=name, error=problem)
                elif not problem and last.get(name):
                    log.info("a dependency answers again", check=name)
        last = answers
        servicer.away = [name for name, problem in answers.items() if problem]
        ready = not servicer.away
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *service.names):
            await servicer.set(name, status)
        # By name, for who asks why. Not NOT_SERVING: that is what every name says while the program stops.
        for name, problem in answers.items():
            await servicer.set(
                name, health_pb2.HealthCheckResponse.UNKNOWN if problem else health_pb2.HealthCheckResponse.SERVING
            )
        await asyncio.sleep(CHECK_SECONDS)
