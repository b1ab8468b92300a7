"""The same grant number is granted anew instead of answered again."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/leases.py",
            "    if _judged(session, grant_number, was_granted, ended) != grant_number or not grant_number:\n",
            "    if _judged(session, grant_number, was_granted, ended) or True:\n",
        ),
    ),
    seeds=0,
    pairs="grant-grant",
)
