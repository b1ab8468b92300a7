"""A known defect as a change of the source, and who is asked about it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SEEDS", "Change", "Mutant"]

SEEDS = 100
"""Seeds of the simulator that are played on a mutant, from 0 on, until one falls."""


@dataclass(frozen=True)
class Change:
    """In `file` the text `find` becomes `replace`; `once`: only where it stands first."""

    file: str
    find: str
    replace: str
    once: bool = True


@dataclass(frozen=True)
class Mutant:
    """The simulator plays `seeds` seeds on it, 0: none, then the interleavings the pairs that are named by `pairs`
    (with commas between them). only_interleaved: no seed may notice it, since one scheduler alone has no such defect.
    """

    changes: tuple[Change, ...]
    seeds: int = SEEDS
    pairs: str = ""
    only_interleaved: bool = False
