"""A run's end as an exit code."""

from __future__ import annotations

from penstock.v1 import scheduler_pb2

__all__ = ["exit_code"]

_CODES = {
    scheduler_pb2.RUN_STATE_FAILED: 1,
    scheduler_pb2.RUN_STATE_STOPPED: 1,
    scheduler_pb2.RUN_STATE_COMPLETED_WITH_FAILURES: 3,
}


def exit_code(run: scheduler_pb2.Run) -> int:
    """0 completed (or still under way), 1 failed or stopped, 3 completed with failures."""
    return _CODES.get(run.state, 0)
