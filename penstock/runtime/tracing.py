"""One trace through all programs: W3C `traceparent` in gRPC metadata and HTTP headers.

Without an exporter no span is recorded, but the ids are made and passed on all the same, so that logs of five programs
can be put side by side by `trace_id`.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from penstock.runtime.errors import InvalidInput

__all__ = ["HEADER", "configure", "flush", "span", "step", "traceparent"]

HEADER = "traceparent"
_TRACER = trace.get_tracer("penstock")
_RECORDING = False

# A stream whose client leaves is closed from another task: its context is gone, and leaving it again is no error.
logging.getLogger("opentelemetry.context").setLevel(logging.CRITICAL)


def configure(program: str, exporter: str) -> None:
    """`exporter` is none, console or otlp (the `otlp` extra; its own OTEL_… environment says where to)."""
    if exporter == "none":
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    chosen: SpanExporter
    if exporter == "console":
        import sys

        chosen = ConsoleSpanExporter(out=sys.stderr)
    else:
        import importlib

        try:
            module = importlib.import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
        except ImportError as error:
            raise InvalidInput("trace_exporter otlp needs the extra: pip install '.[otlp]'", code="settings") from error
        chosen = module.OTLPSpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": f"penstock-{program}"}))
    provider.add_span_processor(BatchSpanProcessor(chosen))
    trace.set_tracer_provider(provider)
    global _RECORDING
    _RECORDING = True


def flush() -> None:
    """Sends the spans that wait, before a process ends without its exit handlers."""
    force_flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if force_flush is not None:
        force_flush(1_000)


def traceparent() -> str:
    """The header of the current span; a new trace where there is none."""
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        return f"00-{current.trace_id:032x}-{current.span_id:016x}-{int(current.trace_flags):02x}"
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def _parent(header: str | None) -> SpanContext | None:
    parts = (header or "").split("-")
    if len(parts) < 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    try:
        return SpanContext(int(parts[1], 16), int(parts[2], 16), True, TraceFlags(int(parts[3][:2], 16)))
    except ValueError:
        return None


@contextmanager
def span(name: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Runs the body inside a span named `name`, child of the caller's."""
    parent = _parent(headers.get(HEADER))
    if parent is None:
        parent = _parent(traceparent())
        assert parent is not None
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(parent)))
    try:
        with _TRACER.start_as_current_span(name):
            yield
    finally:
        otel_context.detach(token)


@contextmanager
def step(name: str, **attributes: str | int | float) -> Iterator[None]:
    """Runs the body inside a child of the current span; without an exporter it costs nothing."""
    if not _RECORDING:
        yield
        return
    with _TRACER.start_as_current_span(name, attributes=attributes):
        yield
