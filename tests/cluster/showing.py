"""Tables and pictures that a tier's tests leave beside its logs; the report names each of them.

A file of a test is written whole; of two with one name the later stays. Outside of a box nothing is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.box import place
from tests.cluster.report import SHOWN, TOLD

__all__ = ["counts_csv", "counts_svg", "name_of_test", "show", "tell"]

WIDTH, HEIGHT = 960, 320
LEFT, RIGHT, TOP, BOTTOM = 50, 20, 40, 40
GAP_SECONDS = 0.5
"""Between samples further apart there was nobody to ask: no line is drawn."""

Counts = Sequence[tuple[float, int]]


def show(name: str, text: str) -> Path | None:
    """Where it was written."""
    if not place.inside():
        return None
    folder = place.here().logs / SHOWN
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def tell(name: str, text: str) -> None:
    """Lines that the report itself says: what was measured or lived through."""
    show(f"{name}{TOLD}", text.rstrip("\n") + "\n")


def name_of_test() -> str:
    """Of the test that runs, as a file may be called."""
    whole = os.environ.get("PYTEST_CURRENT_TEST", "test").partition(" ")[0].rpartition("::")[2]
    return re.sub(r"[^A-Za-z0-9.-]+", "-", whole.removeprefix("test_")).strip("-")


def counts_csv(counts: Counts) -> str:
    return "seconds,pods\n" + "".join(f"{seconds:.3f},{count}\n" for seconds, count in counts)


def counts_svg(counts: Counts, *, limit: int | None, title: str) -> str:
    """Pods over time as steps; the limit as a line. Readable with any browser."""
    last = max((seconds for seconds, _ in counts), default=0.0) or 1.0
    most = max([count for _, count in counts] + [limit or 0, 1])
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(seconds: float) -> str:
        return f"{LEFT + across * seconds / last:.1f}"

    def y(count: float) -> str:
        return f"{HEIGHT - BOTTOM - up * count / most:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{_escaped(title)}</text>',
    ]
    for count in sorted({0, most // 2, most}):
        line = f'<line x1="{LEFT}" y1="{y(count)}" x2="{WIDTH - RIGHT}" y2="{y(count)}" stroke="#ddd"/>'
        parts += [line, f'<text x="{LEFT - 8}" y="{float(y(count)) + 4:.1f}" text-anchor="end">{count}</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        label = f"{last * share:.0f} s" if last >= 10 else f"{last * share:.1f} s"
        parts.append(f'<text x="{x(last * share)}" y="{HEIGHT - 15}" text-anchor="middle">{label}</text>')
    for path in _paths(counts):
        steps = [f"M{x(path[0][0])} {y(path[0][1])}"]
        steps += [f"H{x(seconds)}V{y(count)}" for seconds, count in path[1:]]
        parts.append(f'<path d="{"".join(steps)}" fill="none" stroke="#1769aa" stroke-width="1.5"/>')
    if limit is not None:
        line = f'<line x1="{LEFT}" y1="{y(limit)}" x2="{WIDTH - RIGHT}" y2="{y(limit)}" stroke="#b00020"'
        parts.append(f'{line} stroke-dasharray="6 4"/>')
        words = f'<text x="{WIDTH - RIGHT}" y="{float(y(limit)) - 6:.1f}" text-anchor="end" fill="#b00020">'
        parts.append(f"{words}limit {limit}</text>")
    return "\n".join([*parts, "</svg>", ""])


def _paths(counts: Counts) -> list[list[tuple[float, int]]]:
    paths: list[list[tuple[float, int]]] = []
    for seconds, count in counts:
        if paths and seconds - paths[-1][-1][0] <= GAP_SECONDS:
            paths[-1].append((seconds, count))
        else:
            paths.append([(seconds, count)])
    return paths


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
