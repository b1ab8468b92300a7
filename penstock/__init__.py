"""Penstock: large batches of AI work, each item executed and recorded once. The shared library, SDK and CLI.

The public names: `Client`, `AsyncClient` (talk to a running Penstock), `penstock.processor` (write a processor).
They are imported on first use, so that a server which needs neither pays for neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in ("AsyncClient", "Client"):
        from penstock import client

        return getattr(client, name)
    raise AttributeError(f"module 'penstock' has no attribute {name!r}")
