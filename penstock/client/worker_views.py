"""Workers and their classes as plain JSON objects, in the dialect of `penstock.client.views`."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from typing_extensions import TypedDict

from penstock.client.views import time_text
from penstock.v1 import workers_pb2

__all__ = ["WorkerClassView", "WorkerView", "worker_class_view", "worker_view"]


class WorkerView(TypedDict):
    """state: starting, working, draining, removing, ended; slot, generation: None where a worker was started by
    somebody else; end_kind: None where it ended as it should, or has not."""

    session: str
    worker_class: str
    state: str
    leases: int
    place: str | None
    note: str | None
    slot: int | None
    generation: int | None
    create_time: str | None
    seen_time: str | None
    drain_time: str | None
    end_time: str | None
    end_kind: str | None
    started_here: bool


class WorkerClassView(TypedDict):
    """slots, max: None where no backend starts workers of it; trouble: why it has not the workers that it wants."""

    name: str
    slots: int | None
    max: int | None
    wanted: int
    workers: int
    working: int
    draining: int
    leased: int
    claimable: int
    trouble: str | None
    text: str | None
    advice: str | None
    since_time: str | None


def worker_view(worker: workers_pb2.Worker) -> WorkerView:
    known = worker.slot >= 0
    return {
        "session": worker.session,
        "worker_class": worker.worker_class,
        "state": worker.state,
        "leases": worker.leases,
        "place": worker.place or None,
        "note": worker.note or None,
        "slot": worker.slot if known else None,
        "generation": worker.generation if known else None,
        "create_time": _time(worker, "create_time"),
        "seen_time": _time(worker, "seen_time"),
        "drain_time": _time(worker, "drain_time"),
        "end_time": _time(worker, "end_time"),
        "end_kind": worker.end_kind or None,
        "started_here": worker.started_here,
    }


def worker_class_view(one: workers_pb2.WorkerClass) -> WorkerClassView:
    return {
        "name": one.name,
        "slots": one.slots or None,
        "max": one.most if one.slots else None,
        "wanted": one.wanted,
        "workers": one.workers,
        "working": one.working,
        "draining": one.draining,
        "leased": one.leased,
        "claimable": one.claimable,
        "trouble": one.trouble or None,
        "text": one.text or None,
        "advice": one.advice or None,
        "since_time": time_text(one.since_time),
    }


def _time(worker: workers_pb2.Worker, field: str) -> str | None:
    found: Timestamp = getattr(worker, field)
    return time_text(found)
