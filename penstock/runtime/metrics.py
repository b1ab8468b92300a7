"""Every metric's name, in one place. Labels are few and bounded; durations are seconds."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server

__all__ = [
    "ATTEMPTS_ENDED",
    "BATCH_ITEMS",
    "CERTIFICATE_EXPIRY",
    "CERTIFICATE_REFUSED",
    "CLASS_TROUBLE",
    "COMMIT_CALLS",
    "COMMIT_SECONDS",
    "EVENTS",
    "GRANT_ITEMS",
    "HTTP_SECONDS",
    "ITEMS",
    "LEASES_GRANTED",
    "LEASE_SECONDS",
    "LIMIT_EVENTS",
    "OVERRUN_MICROS",
    "PROPOSE_SECONDS",
    "QUEUE_SECONDS",
    "READY",
    "REDIS_REBUILDS",
    "REPORTS_REFUSED",
    "REPORT_ITEMS",
    "RESERVED_MICROS",
    "RPC_SECONDS",
    "RUNS",
    "RUNS_ARCHIVED",
    "SPENT_MICROS",
    "SWEEP_ITEMS",
    "SWEEP_SECONDS",
    "THROTTLES",
    "VALVES",
    "VALVE_MOVES",
    "WATCHERS",
    "WORKERS",
    "WORKERS_WANTED",
    "Count",
    "add",
    "expose",
    "leave_out_schedulers",
]

RPC_SECONDS = Histogram("penstock_rpc_seconds", "Time of a gRPC call on the server.", ["method", "code"])
HTTP_SECONDS = Histogram("penstock_http_seconds", "Time of an HTTP request.", ["method", "route", "status"])
READY = Gauge("penstock_ready", "1 when the named dependency answers.", ["check"])
CERTIFICATE_EXPIRY = Gauge(
    "penstock_certificate_expiry_seconds",
    "Seconds until the certificate in use ends, and the authority that signed it; below 0: it has.",
    ["file"],
)
CERTIFICATE_REFUSED = Gauge(
    "penstock_certificate_refused", "1 while newer files in tls.folder can't be used and older ones are.", ["file"]
)
COMMIT_SECONDS = Histogram("penstock_commit_seconds", "Time of one shared SQL transaction.")
COMMIT_CALLS = Histogram(
    "penstock_commit_calls", "Calls that shared one transaction.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
LEASES_GRANTED = Counter("penstock_leases_granted_total", "Leases granted.", ["processor"])
ATTEMPTS_ENDED = Counter("penstock_attempts_ended_total", "Attempts that ended, by what their item is then.", ["state"])
REPORTS_REFUSED = Counter("penstock_reports_refused_total", "Reports refused.", ["reason"])
SWEEP_ITEMS = Counter("penstock_sweep_items_total", "What the named sweep found.", ["sweep"])
REDIS_REBUILDS = Counter("penstock_redis_rebuilds_total", "Times that leases were rebuilt after Redis was lost.")
RUNS_ARCHIVED = Counter("penstock_runs_archived_total", "Runs whose rows went into an archive.")
WATCHERS = Gauge("penstock_watchers", "Streams that watch a run.")
EVENTS = Counter("penstock_events_total", "Decisions written down as events of runs.", ["type"])
LIMIT_EVENTS = Counter(
    "penstock_limit_events_total", "Decisions written down about limits, prices and the retries of all runs.", ["type"]
)
SPENT_MICROS = Counter("penstock_spent_micros_total", "Money spent, in millionths of a dollar.", ["processor"])
OVERRUN_MICROS = Counter("penstock_overrun_micros_total", "Of it, what passed its own reservation.", ["processor"])
RESERVED_MICROS = Gauge("penstock_reserved_micros", "Money that live runs hold for what runs now.")
RUNS = Gauge("penstock_runs", "Live runs.", ["state"])
ITEMS = Gauge("penstock_items", "Items of live runs.", ["state"])
_SIZES = (1, 4, 16, 64, 128, 256, 512, 1024, 4096)
GRANT_ITEMS = Histogram("penstock_grant_items", "Items of one stage granted at once.", buckets=_SIZES)
REPORT_ITEMS = Histogram("penstock_report_items", "Outcomes of one stage reported at once.", buckets=_SIZES)
PROPOSE_SECONDS = Histogram("penstock_propose_seconds", "Time in which Redis proposes what to lease.")
LEASE_SECONDS = Histogram("penstock_lease_seconds", "Time from looking for work to durable leases.")
QUEUE_SECONDS = Histogram(
    "penstock_queue_seconds",
    "Age of the queue: time from the begin of a stage to a grant of its items.",
    buckets=(0.1, 1, 10, 60, 600, 3_600, 6 * 3_600, 24 * 3_600, 7 * 24 * 3_600),
)
SWEEP_SECONDS = Histogram("penstock_sweep_seconds", "Time of one turn of the named sweep.", ["sweep"])
THROTTLES = Counter("penstock_throttles_total", "Outcomes that met a limit of the outside.", ["kind"])
VALVE_MOVES = Counter("penstock_valve_moves_total", "Changes of a valve's state, by kind of key.", ["kind", "state"])
VALVES = Gauge("penstock_valves", "Keys whose valve is not open.", ["state"])
WORKERS_WANTED = Gauge("penstock_workers_wanted", "Workers that the work could use.", ["worker_class"])
CLASS_TROUBLE = Gauge("penstock_class_trouble", "1 while it lacks workers for this.", ["worker_class", "code"])
WORKERS = Gauge("penstock_workers", "Workers that are alive.", ["worker_class"])
BATCH_ITEMS = Histogram(
    "penstock_worker_batch_items", "Items that a processor took at once.", ["processor"], buckets=(1, 4, 16, 64, 256)
)


_OF_SCHEDULERS = (
    COMMIT_SECONDS,
    COMMIT_CALLS,
    REDIS_REBUILDS,
    WATCHERS,
    RUNS_ARCHIVED,
    RESERVED_MICROS,
    GRANT_ITEMS,
    REPORT_ITEMS,
    PROPOSE_SECONDS,
    LEASE_SECONDS,
    QUEUE_SECONDS,
)


Count = tuple[Counter, float]
"""A counter, with its labels, and by how much it grows."""


def add(counts: Iterable[Count]) -> None:
    """What a transaction counted, once it is durable."""
    for counter, by in counts:
        counter.inc(by)


def expose(port: int, host: str = "127.0.0.1") -> None:
    """Serves `/metrics` of this process at `host` and `port`; port 0 serves nothing."""
    if port:
        start_http_server(port, addr=host)


def leave_out_schedulers() -> None:
    """For a process that is no scheduler: what has no label would be shown there, as 0 for ever."""
    for metric in _OF_SCHEDULERS:
        REGISTRY.unregister(metric)
