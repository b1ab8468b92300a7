"""Stories of seeds that fell: fewest steps that still break the same rule, and what happened in them."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.simulator.invariants import Violation
from tests.simulator.play import Play

__all__ = ["shortened"]

SECONDS = 40.0
"""For shortening one story."""
LINES = 60


def shortened(play: Callable[[int, int], Play], seed: int, steps: int, violation: Violation) -> str:
    """Leaves out steps, in halves, quarters and so on, as long as the same rule falls."""
    deadline = time.monotonic() + SECONDS
    left_out: set[int] = set()
    kept = list(range(1, steps))
    size = max(len(kept) // 2, 1)
    story = ""
    while time.monotonic() < deadline:
        index = 0
        removed = False
        while index < len(kept) and time.monotonic() < deadline:
            tried = left_out | set(kept[index : index + size])
            one = play(seed, steps)
            found = one.run(tried)
            if found is not None and found.rule == violation.rule:
                left_out, violation = tried, found
                kept = [number for number in range(1, one.taken) if number not in left_out]
                steps = one.taken if found.rule != "all ends" else steps
                story = told(one, found)
                removed = True
            else:
                index += size
        if size == 1 and not removed:
            break
        size = max(size // 2, 1)
    if not story:
        one = play(seed, steps)
        found = one.run()
        story = told(one, found) if found else "it did not fall a second time: something is not determined by the seed"
    return f"{len(kept) + 1} steps are enough\n{story}"


def told(play: Play, violation: Violation) -> str:
    """The lines that speak of what broke, and all steps and faults."""
    subject = violation.subject.split("/")
    needles = [violation.subject] if violation.subject else []
    run_ids = [run_id for run_id, number in play.model.numbers.items() if str(number) == subject[0]]
    needles += ["/".join([run_id, *subject[1:]]) for run_id in run_ids] + run_ids * (len(subject) == 1)
    lines = []
    for moment, who, what, detail in play.world.lines:
        about = any(needle in detail for needle in needles)
        if about and who == "sql":
            words = [word for word in detail.split(" ") if any(word.startswith(needle) for needle in needles)]
            detail = " ".join(words) or detail
        matters = about or who in ("step", "fault", "INVARIANT", "redis", "operator") or what in ("dies", "serves")
        if matters and (who, what) != ("step", "wait"):
            lines.append(f"  {moment:8.2f}  {who:14} {what:24} {detail[:160]}")
    return f"{violation.rule}: {violation.subject} {violation.text}\n" + "\n".join(lines[-LINES:])
