"""Calls are answered before their transaction commits."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/commit.py",
            "            doubted = set(self.doubted)\n",
            "            doubted = set(self.doubted)\n"
            "            for call, (answer, _) in zip(group, answers, strict=True):\n"
            "                call.future.get_loop().call_soon_threadsafe(_answer, call.future, answer)\n",
        ),
        Change(
            "scheduler/commit.py",
            "def _stopping() -> Unavailable:\n",
            "def _answer(future, answer):\n    if not future.done():\n        future.set_result(answer)\n\n\n"
            "def _stopping() -> Unavailable:\n",
        ),
    ),
    seeds=60,
)
