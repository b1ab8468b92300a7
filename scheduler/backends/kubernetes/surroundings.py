"""What every worker pod is told, from the scheduler's own settings: where the programs and the blobs are."""

from __future__ import annotations

import os
from collections.abc import Mapping

from penstock.runtime.settings import Settings
from scheduler.backends.kubernetes.template import Surroundings

__all__ = ["surroundings_of"]

HANDED_ON = (
    *("PENSTOCK_BLOBS_URL", "PENSTOCK_S3_ENDPOINT", "PENSTOCK_S3_REGION", "PENSTOCK_BLOB_CACHE_BYTES"),
    *("PENSTOCK_LOG_LEVEL", "PENSTOCK_TRACE_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"),
)
"""No secret is among them: whoever may read pods reads their environment."""
NO_SECRET = "none"


def surroundings_of(settings: Settings, environment: Mapping[str, str] | None = None) -> Surroundings:
    section = settings.scheduler
    environment = os.environ if environment is None else environment
    told = {name: environment[name] for name in HANDED_ON if environment.get(name)}
    addresses = {
        "PENSTOCK_PLANNER_ADDRESS": settings.planner_address,
        "PENSTOCK_SCHEDULER_ADDRESS": settings.scheduler_address,
        "PENSTOCK_ANALYZER_ADDRESS": settings.analyzer_address,
    }
    secret = section.worker_tls_secret or f"{section.release}-worker-tls"
    return Surroundings(
        release=section.release,
        image=section.pod_image,
        pull_policy=section.pod_pull_policy,
        tls_secret="" if secret == NO_SECRET else secret,
        processors=section.worker_processors,
        environment=told | {name: address for name, address in addresses.items() if address},
    )
