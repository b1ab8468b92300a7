"""What processors are given beside their items: channels to other services, and the extractor.

A worker may be without the address of a service that none of its processors calls. One that calls it all the same is
told which setting is wanting, and its item costs no try: it goes on when a worker that has the address takes it.
"""

from __future__ import annotations

from typing import Any

from penstock.processor import ServiceUnavailable

__all__ = ["Services"]


class Services(dict[str, Any]):
    """By name: `planner`, `scheduler`, `analyzer`, `extractor`."""

    def __missing__(self, name: str) -> Any:
        raise ServiceUnavailable(self.unset(name))

    @staticmethod
    def unset(name: str) -> str:
        """The sentence for an address that is not set."""
        setting = f"{name}_address"
        return f"this worker has no address of the {name}: {setting} (PENSTOCK_{setting.upper()}) is not set"
