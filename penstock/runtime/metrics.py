"""Every metric's name, in one place. Labels are few and bounded; durations are seconds."""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server

__all__ = [
    "BATCH_ITEMS",
    "COMMIT_CALLS",
    "COMMIT_SECONDS",
    "HTTP_SECONDS",
    "ITEMS_SETTLED",
    "LEASES_GRANTED",
    "READY",
    "REDIS_REBUILDS",
    "REPORTS_REFUSED",
    "RPC_SECONDS",
    "RUNS_ARCHIVED",
    "SWEEP_ITEMS",
    "THROTTLES",
    "VALVES",
    "VALVE_MOVES",
    "WATCHERS",
    "WORKERS",
    "expose",
    "leave_out_schedulers",
]

RPC_SECONDS = Histogram("penstock_rpc_seconds", "Time of a gRPC call on the server.", ["method", "code"])
HTTP_SECONDS = Histogram("penstock_http_seconds", "Time of an HTTP request.", ["method", "route", "status"])
READY = Gauge("penstock_ready", "1 when the named dependency answers.", ["check"])
COMMIT_SECONDS = Histogram("penstock_commit_seconds", "Time of one shared SQL transaction.")
COMMIT_CALLS = Histogram(
    "penstock_commit_calls", "Calls that shared one transaction.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
LEASES_GRANTED = Counter("penstock_leases_granted_total", "Leases granted.", ["processor"])
ITEMS_SETTLED = Counter("penstock_items_settled_total", "Outcomes recorded.", ["state"])
REPORTS_REFUSED = Counter("penstock_reports_refused_total", "Reports refused.", ["reason"])
SWEEP_ITEMS = Counter("penstock_sweep_items_total", "What the named sweep found.", ["sweep"])
REDIS_REBUILDS = Counter("penstock_redis_rebuilds_total", "Times that leases were rebuilt after Redis was lost.")
RUNS_ARCHIVED = Counter("penstock_runs_archived_total", "Runs whose rows went into an archive.")
WATCHERS = Gauge("penstock_watchers", "Streams that watch a run.")
THROTTLES = Counter("penstock_throttles_total", "Outcomes that met a limit of the outside.", ["kind"])
VALVE_MOVES = Counter("penstock_valve_moves_total", "Changes of a valve's state, by kind of key.", ["kind", "state"])
VALVES = Gauge("penstock_valves", "Keys whose valve is not open.", ["state"])
WORKERS = Gauge("penstock_workers", "Workers that are alive.", ["worker_class"])
BATCH_ITEMS = Histogram(
    "penstock_worker_batch_items", "Items that a processor took at once.", ["processor"], buckets=(1, 4, 16, 64, 256)
)


def expose(port: int) -> None:
    """Serves `/metrics` of this process on loopback at `port`; 0 serves nothing."""
    if port:
        start_http_server(port, addr="127.0.0.1")


def leave_out_schedulers() -> None:
    """For a process that is no scheduler: what has no label would be shown there, as 0 for ever."""
    for metric in (COMMIT_SECONDS, COMMIT_CALLS, REDIS_REBUILDS, WATCHERS, RUNS_ARCHIVED):
        REGISTRY.unregister(metric)
