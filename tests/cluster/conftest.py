"""Fixtures of the cluster, and the rule that its tests are collected inside of a box only.

`make test` and a plain pytest find nothing here: `tests/cluster` is none of the usual test paths, and without the
variables that `python -m tests.cluster` sets each file below is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.box import place
from tests.cluster.programs.control_plane import ControlPlane
from tests.cluster.programs.node import Node
from tests.cluster.report import TIER

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    outside = collection_path.is_relative_to(HERE / "box")
    there = TIER in os.environ if outside else place.inside()
    return None if there or collection_path == HERE else True


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd, API server and controller manager for the whole tier. A test that kills a part waits until it is back."""
    one = ControlPlane(place.here())
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="session")
def node_cluster(control_plane: ControlPlane) -> Iterator[Node]:
    """A whole cluster of one real node; `.control_plane` is the same one."""
    one = Node(control_plane)
    try:
        one.start()
        yield one
    finally:
        one.stop()
