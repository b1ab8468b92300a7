"""An open stage: what one scheduler knows of a stage that may be leased from. Redis and SQL know better; whatever is
wrong here costs a read, never an item.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.v1 import common_pb2
from scheduler.ready import END, Fed, StageKey, lane_field
from scheduler.store.rows import StageRow

__all__ = ["OpenStage"]


@dataclass
class OpenStage:
    """A stage that may be leased from, and what was read of its plan. cursors: how far each field was fed, by any
    scheduler; high: no item from this seq on had a row when it was opened; waiting: items that limits hold back;
    lane_marks: low-water marks of the lanes that are read apart."""

    key: StageKey
    run_id: str
    plan_id: str
    epoch: int
    row: StageRow
    owner: str = ""
    priority: int = 0
    cursors: dict[str, int] = field(default_factory=dict)
    high: int = 0
    ready: int = 0
    waiting: dict[str, int] = field(default_factory=dict)
    lane_marks: dict[str, int] = field(default_factory=dict)
    items: dict[int, common_pb2.Item] = field(default_factory=dict)
    prune_at: int = 0
    failures: int = 0
    not_before: float = 0.0
    look_at: float = 0.0

    def counted(self) -> int:
        """Payload bytes that the window holds."""
        return sum(len(item.payload) for item in self.items.values())

    def lanes(self) -> list[str]:
        """That are read apart."""
        return [name[5:] for name in self.cursors if name.startswith("lane:")]

    def take(self, fed: Fed) -> None:
        """Notes what Redis says, whoever brought it about. What it knows of no more was of one that was lost."""
        self.cursors = dict(fed.cursors) or self.cursors
        self.ready = fed.left
        self.waiting = dict(fed.waiting)

    def hungry_lanes(self, least: int) -> list[str]:
        return [
            lane for lane in self.lanes() if self.cursors[lane_field(lane)] < END and self.waiting.get(lane, 0) < least
        ]

    def at_end(self) -> bool:
        return all(cursor >= END for cursor in self.cursors.values())
