"""The conformance suite of backends over pods: a real API server, real workers, a kubelet played by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cluster.control_plane.pod_bed import PodBed
from tests.cluster.programs.control_plane import ControlPlane
from tests.integration.backends.conformance import *  # noqa: F403


@pytest.fixture
async def bed(tmp_path: Path, redis_url: str, sqlite_url: str, control_plane: ControlPlane) -> AsyncIterator[PodBed]:
    one = PodBed(tmp_path, control_plane)
    await one.start(redis_url, sqlite_url)
    yield one
    await one.stop()
