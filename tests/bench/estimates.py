"""Estimates against simulated runs: of each family how often p10 to p90 held the truth, and how wide it was.

Bounds: 80 ± 8 % of the runs, of runtime, cost and groups. One family has a higher one: that runs never differ can't be
seen in a few of them, so its range leaves room for what may be.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Sequence

from planner.domain.judging import Comparison
from tests.bench import report
from tests.unit.planner.families import FAMILIES, judged

RUNS, QUICK_RUNS = 600, 50
LEAST = 72.0


def main(*, quick: bool = False) -> int:
    rows: list[report.Row] = []
    late: list[str] = []
    for family in FAMILIES:
        began = time.process_time()
        found = judged(family, QUICK_RUNS if quick else RUNS, seed=1)
        seconds = time.process_time() - began
        for what, comparisons in (("runtime", found.runtime), ("cost", found.cost), ("of groups", found.of_groups)):
            if not comparisons:
                continue
            row = _row(comparisons)
            held, most = row["held_percent"], 100 * family.most
            if not LEAST <= held <= most:
                late.append(f"{family.name}, {what}: {held:g} % held; {LEAST:g} to {most:g} are asked")
            rows.append({"system": family.name, "of": what, **row, "cpu_seconds": round(seconds, 1)})
    report.write("estimates", rows)
    return report.told(late, quick=quick)


def _row(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Shares in percent; wide: p90 beside p10; ratio: what happened beside p50."""
    count = len(comparisons)
    below = sum(one.actual < one.low for one in comparisons)
    above = sum(one.actual > one.high for one in comparisons)
    return {
        "items": count,
        "held_percent": round(100 * (count - below - above) / count, 1),
        "below_percent": round(100 * below / count, 1),
        "above_percent": round(100 * above / count, 1),
        "wide": round(statistics.median(one.high / max(one.low, 1e-9) for one in comparisons), 2),
        "ratio": round(statistics.median(math.inf if one.ratio is None else one.ratio for one in comparisons), 3),
    }


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
