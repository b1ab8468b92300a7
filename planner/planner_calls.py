"""What the gRPC methods of sources and of plans share."""

from __future__ import annotations

from typing import Any

from penstock.runtime.clock import Clock
from penstock.runtime.errors import InvalidInput
from planner.naming import NamedSources, Version
from planner.row_pages import RowPages
from planner.store import SourceRow, Store
from planner.uploads import Turns

__all__ = ["Context", "PlannerCalls", "page_size"]

Context = Any


class PlannerCalls:
    """The parts of the planner that any of its methods may need."""

    def __init__(self, *, store: Store, names: NamedSources, pages: RowPages, clock: Clock, turns: Turns) -> None:
        self._store = store
        self._names = names
        self._pages = pages
        self._clock = clock
        self._turns = turns

    def _find(self, name: str) -> tuple[SourceRow, Version | None]:
        """A version by its id, or the latest one of a name. Raises NotFound."""
        row = self._store.find_source(name)
        if row is not None:
            return row, self._names.of_source(name)
        version = self._names.known(name)
        return self._store.source(version.source_id), version


def page_size(asked: int, usual: int, most: int) -> int:
    """Raises InvalidInput for a size out of range."""
    if not 0 <= asked <= most:
        raise InvalidInput(f"page_size is {asked}, it may be 1-{most:,} (0: {usual:,})", code="bad_page_size")
    return asked or usual
