"""Two transactions take the same event number."""

from __future__ import annotations

from tests.museum.mutant import INTERLEAVED, Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/unit.py",
            "WHERE number = :n FOR UPDATE",
            "WHERE number = :n",
        ),
    ),
    by=INTERLEAVED,
    pairs="pause-renew or pause-force_stop or force_stop-pause",
)
