"""The number of worker pods over time: never above the limit, and left as a table and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.control_plane.sampling import Sampler
from tests.cluster.programs.control_plane import ControlPlane

__all__ = ["watched"]


@contextmanager
def watched(control_plane: ControlPlane, namespace: str, *, name: str, labels: str, limit: int) -> Iterator[Sampler]:
    """Counts what has not ended each 100 ms. More pods than the limit fail the test."""
    with Sampler(control_plane, namespace, limit, name, labels) as sampler:
        yield sampler
    assert sampler.counts, f"{name}: pods were never counted"
    assert sampler.most <= limit, f"{name}: {sampler.most} worker pods at once, the limit is {limit}"
