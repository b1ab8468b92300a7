"""A throttle counts as a try."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/domain/outcomes.py",
            "    tries += counts and not healing\n",
            "    tries += (counts and not healing) or ended is Ended.THROTTLED\n",
        ),
    ),
)
