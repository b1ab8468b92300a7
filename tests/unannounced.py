"""For tests of what is written to a blob folder that no planner sweeps."""

from __future__ import annotations

__all__ = ["unannounced"]


def unannounced(sha256: str) -> None:
    """Nobody is told that a file will be a blob."""
