"""The client of a running Penstock: `Client` for plain code, `AsyncClient` for an event loop.

    from penstock import Client

    with Client() as penstock:
        job = penstock.documents.analyze(["reports/"])
        penstock.documents.wait(job["job_id"])
        print(penstock.documents.results(job["job_id"])["clusters"])

It speaks gRPC to planner, scheduler and analyzer, finds them by itself (`penstock.client.discovery`), raises the
classes of `penstock.runtime.errors`, and tries again only what can't happen twice: reads, and calls that carry a
request id. It holds no rule of the core; the one thing that it composes is the documents contract
(`penstock.client.documents`), which the gateway and the command line share.
"""

from __future__ import annotations

from penstock.client.asynchronous import AsyncClient
from penstock.client.discovery import Endpoints, find
from penstock.client.plans import StageOptions
from penstock.client.selections import Ordering, Selection
from penstock.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "Endpoints", "Ordering", "Selection", "StageOptions", "find"]
