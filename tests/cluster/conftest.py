"""Fixtures of the cluster, and the rule that its tests are collected inside of a box only.

`make test` and a plain pytest find nothing here: `tests/cluster` is none of the usual test paths, and without the
variables that `python -m tests.cluster` sets each file below is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster import images, store_images
from tests.cluster.box import place
from tests.cluster.node.product import Product, values
from tests.cluster.node.stores import Stores
from tests.cluster.programs.control_plane import ControlPlane
from tests.cluster.programs.node import Node
from tests.cluster.report import TIER
from tests.cluster.tiers import TIERS

HERE = Path(__file__).parent
NAMESPACE = "penstock"
INSTALL_SECONDS = 900


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    outside = any(collection_path.is_relative_to(tier.folder) for tier in TIERS.values() if not tier.boxed)
    there = TIER in os.environ if outside else place.inside()
    return None if there or collection_path == HERE else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever of them is first waits for the product to come up."""
    for item in items:
        if "product" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(INSTALL_SECONDS))


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


@pytest.fixture(scope="session")
def product(node_cluster: Node) -> Product:
    """Release `penstock` in namespace `penstock` on PostgreSQL, Redis and S3 of its own; ready. A test that changes or
    kills something waits until all is as it was."""
    stores = Stores(node_cluster, NAMESPACE)
    with ThreadPoolExecutor() as both:
        loading = both.submit(Product.load, node_cluster, Path(os.environ[images.ARCHIVE]))
        stores.load(Path(os.environ[store_images.ARCHIVE]))
        loading.result()
    stores.start()
    stores.make_roles()
    one = Product(stores)
    one.install(values(stores))
    one.wait_ready()
    one.make_operator()
    return one
