"""What is told of a disk that does not take what is written to it."""

from __future__ import annotations

import errno

from penstock.runtime.errors import Unavailable

__all__ = ["disk_full", "is_full"]


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(owner: str) -> Unavailable:
    """`owner` is whose disk it is: `the blob store /x`, `the planner's database`."""
    return Unavailable(f"the disk of {owner} is full: free some space", code="disk_full", cause="its disk is full")
