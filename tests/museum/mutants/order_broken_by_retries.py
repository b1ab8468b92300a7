"""What is startable again stands behind everything else."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/ended.py",
            "            self._ready.append(row.place)\n",
            "            self._ready.append((row.seq, row.lane, row.seq + 1_000_000))\n",
        ),
    ),
    seeds=0,
    pairs="grant-renew",
)
