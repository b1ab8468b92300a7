"""A known defect as a change of the source, and who must notice it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INTERLEAVED", "SIMULATOR", "Change", "Mutant"]

SIMULATOR = "simulator"
INTERLEAVED = "interleaved"


@dataclass(frozen=True)
class Change:
    """In `file` the text `find` becomes `replace`; `once`: only where it stands first."""

    file: str
    find: str
    replace: str
    once: bool = True


@dataclass(frozen=True)
class Mutant:
    """`by` must notice: the simulator from seed `first` on, or the interleavings named by `pairs` (a -k expression)."""

    changes: tuple[Change, ...]
    by: str = SIMULATOR
    first: int = 0
    pairs: str = ""
