"""What the supervisor starts: each program's command line and its settings, given by environment.

The user's own settings (environment, file) stay; what makes the programs one system on this machine is added:
addresses, token, databases in the data folder, a lease term that suits local workers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from penstock.runtime.lifeline import ENVIRONMENT_NAME
from penstock.runtime.settings import Settings
from penstock.supervisor.ports import HOST

__all__ = ["GRPC_PROGRAMS", "PROGRAMS", "program_arguments", "program_environment"]

GRPC_PROGRAMS = ("planner", "scheduler", "analyzer")
PROGRAMS = (*GRPC_PROGRAMS, "gateway")
LEASE_TERM_SECONDS = 15
DRAIN_SECONDS = 6
"""What a worker may finish at a stop: the whole stop has 20 s."""


def program_arguments(name: str) -> list[str]:
    # -P: the working folder is the data folder, and nothing in it may pass for a module.
    return [sys.executable, "-P", "-m", name]


def program_environment(
    settings: Settings,
    *,
    data: Path,
    config: Path | None,
    token: Path,
    redis_url: str,
    ports: Mapping[str, int],
    workers: int | None,
    lifeline: int,
) -> dict[str, str]:
    """The environment of every program. `ports` has one of each gRPC program and the gateway."""
    ours = {
        "PENSTOCK_DATA": str(data),
        "PENSTOCK_TOKEN_FILE": str(token),
        "PENSTOCK_REDIS_URL": redis_url,
        "PENSTOCK_GATEWAY__HOST": HOST,
        "PENSTOCK_GATEWAY__PORT": str(ports["gateway"]),
        "PENSTOCK_SCHEDULER__BACKEND": "process",
        # Here the token is enough, and one port can't be of five programs.
        "PENSTOCK_TLS__FOLDER": "",
        "PENSTOCK_HEALTH_PORT": "0",
        ENVIRONMENT_NAME: str(lifeline),
    }
    if config is not None:
        ours["PENSTOCK_CONFIG"] = str(config)
    if workers is not None:
        ours["PENSTOCK_SCHEDULER__WORKERS"] = str(workers)
    if settings.gateway.auth == "tokens":
        # The token of this folder is the first admin's: who may read it may do everything already.
        if settings.gateway.admin_token_file is None:
            ours["PENSTOCK_GATEWAY__ADMIN_TOKEN_FILE"] = str(token)
        if not settings.gateway.database_url:
            ours["PENSTOCK_GATEWAY__DATABASE_URL"] = "sqlite:///gateway.db"
    for name in GRPC_PROGRAMS:
        address = f"{HOST}:{ports[name]}"
        ours[f"PENSTOCK_{name.upper()}_ADDRESS"] = address
        ours[f"PENSTOCK_{name.upper()}__LISTEN"] = address
        if not getattr(settings, name).database_url:
            # Relative to the data folder, where every program runs: a URL has no good way to hold `?` or `#`.
            ours[f"PENSTOCK_{name.upper()}__DATABASE_URL"] = f"sqlite:///{name}.db"
    if "lease_term_seconds" not in settings.scheduler.model_fields_set:
        ours["PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS"] = str(LEASE_TERM_SECONDS)
    if "drain_seconds" not in settings.worker.model_fields_set:
        ours["PENSTOCK_WORKER__DRAIN_SECONDS"] = str(DRAIN_SECONDS)
    environment = {**os.environ, **ours}
    environment.pop("PENSTOCK_URL", None)
    # Each gRPC program has a dozen threads; without a bound glibc gives each an arena of its own to keep memory in.
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    return environment
