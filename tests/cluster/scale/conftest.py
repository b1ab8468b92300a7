"""A control plane that is patient with nodes, and simulated nodes for hundreds of pods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.box import place
from tests.cluster.programs.control_plane import ControlPlane
from tests.cluster.programs.kwok import LEASE_SECONDS, SimulatedNodes

NODES = 20


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    one = ControlPlane(place.here(), node_grace_seconds=LEASE_SECONDS + 40)
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="session")
def simulated_nodes(control_plane: ControlPlane) -> Iterator[SimulatedNodes]:
    """Room for some 2,000 pods."""
    one = SimulatedNodes(control_plane, nodes=NODES)
    try:
        one.start()
        yield one
    finally:
        one.stop()
