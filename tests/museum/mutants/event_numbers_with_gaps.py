"""An event's number is taken though nothing is written."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/unit.py",
            "        self.run.event_number += 1\n",
            '        self.run.event_number += 1 + (type_ == "lease.lost")\n',
        ),
    ),
)
