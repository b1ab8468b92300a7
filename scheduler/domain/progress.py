"""When a stage ends, and how a run does: counters in, event out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.domain.states import RunEvent, StageEvent

__all__ = ["Progress", "run_end", "stage_end"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Counters of a stage. What is neither is queued."""

    total: int
    running: int = 0
    retry: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    stopped: int = 0
    deferred: int = 0

    @property
    def settled(self) -> int:
        return self.completed + self.failed + self.skipped + self.stopped

    @property
    def queued(self) -> int:
        return self.total - self.settled - self.running - self.retry - self.deferred

    @property
    def done(self) -> bool:
        return self.settled >= self.total and not self.running


def stage_end(progress: Progress, failing: str = "") -> StageEvent | None:
    """How a running stage ends now; None while something of it is left. One completed item is enough, unless it is
    `failing`: then nothing new starts, and it fails once nothing runs."""
    if failing:
        return None if progress.running else StageEvent.FAIL
    if not progress.done:
        return None
    return StageEvent.FAIL if progress.failed and not progress.completed else StageEvent.COMPLETE


def run_end(stage_failed: bool, failed_items: int) -> RunEvent:
    """How a run ends after its last stage."""
    if stage_failed:
        return RunEvent.FAIL
    return RunEvent.COMPLETE_WITH_FAILURES if failed_items else RunEvent.COMPLETE
