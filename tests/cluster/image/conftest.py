"""The image, built once and read; a folder with its files, for containers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import images, tools
from tests.cluster.image.container import Container, unpacked
from tools.image import archive


@pytest.fixture(scope="session")
def image() -> archive.Archive:
    """Building takes minutes where nothing is cached; what lacks for it fails by name."""
    assert not images.lacking(), "; ".join(images.lacking())
    return archive.opened(images.built(tools.cache()))


@pytest.fixture(scope="session")
def container(image: archive.Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    root = tmp_path_factory.mktemp("image")
    yield Container(root=unpacked(image, root), config=image.config["config"])
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def modules(image: archive.Archive) -> list[str]:
    """Every module of the environment, as a path."""
    found = [name for name in image.files if name.endswith(".py") and "/site-packages/" in name]
    assert len(found) > 2_000
    return found


@pytest.fixture(scope="session")
def project() -> Path:
    return images.ROOT
