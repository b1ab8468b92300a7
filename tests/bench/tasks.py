"""A task file of 5,000 tasks, from its bytes to batches in topological order, beside two parsers of Markdown.

The tasks stand in 200 sections, some done, with ids, marks and dependencies; between them texts, lists and code. In a
process that has imported all; the fastest of several times, to which others on the machine have added least. Beside it
what the parser underneath (markdown-it) takes for the same text: block by block, which is what is needed of it, and
with what stands within the lines.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable

from markdown_it import MarkdownIt

from penstock.tasks import parse, task_items
from tests.bench import report

TASKS, SECTIONS = 5_000, 200
ROUNDS, QUICK_ROUNDS = 12, 4
BOUND_SECONDS = 0.3
WORDS = ("parser", "index", "page", "report", "model", "queue", "field", "order", "lease", "window")


def task_file(tasks: int = TASKS, sections: int = SECTIONS) -> str:
    """The same on every machine."""
    draw = random.Random(5)
    lines = ["# Tasks", ""]
    number = 0
    for section in range(sections):
        lines += [
            f"## Phase {section + 1}: {draw.choice(WORDS)}",
            "",
            f"Some *words* about `{draw.choice(WORDS)}`.",
            "",
        ]
        first = number + 1
        for _ in range(tasks // sections):
            number += 1
            mark = "x" if draw.random() < 0.2 else " "
            more = (" [P]" if draw.random() < 0.3 else "") + (f" [US{section % 9}]" if draw.random() < 0.3 else "")
            text = f"{draw.choice(WORDS)} {draw.choice(WORDS)} in `src/{draw.choice(WORDS)}.py`"
            before = [f"T{draw.randrange(first, number):04d}" for _ in range(2)] if number > first else []
            after = f" [depends: {', '.join(before)}]" if before and draw.random() < 0.4 else ""
            lines.append(f"- [{mark}] T{number:04d}{more} Write the {text}{after}")
        lines += ["", "```sh", "# no heading", "- [ ] no task", "```", ""]
    return "\n".join(lines)


def seconds(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The least wall and CPU."""
    walls, used = [], []
    for _ in range(rounds):
        began, before = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - began)
        used.append(time.process_time() - before)
    return min(walls), min(used)


def main(*, quick: bool = False) -> int:
    text = task_file()
    data = text.encode()

    def ours() -> None:
        file = parse(data, name="tasks.md")
        assert len(file.tasks) == TASKS
        task_items(file)

    blocks = MarkdownIt("commonmark").disable(["inline", "text_join"])
    works: dict[str, Callable[[], object]] = {
        "penstock": ours,
        "markdown-it, blocks": lambda: blocks.parse(text),
        "markdown-it, all": lambda: MarkdownIt("commonmark").parse(text),
    }
    rows: list[report.Row] = []
    for system, work in works.items():
        work()
        wall, cpu = seconds(work, QUICK_ROUNDS if quick else ROUNDS)
        rows.append(
            {
                "system": system,
                "measure": "parse and batches" if work is ours else "parse",
                "items": TASKS,
                "value": round(wall, 4),
                "unit": "s",
                "bound": BOUND_SECONDS if work is ours else None,
                "cpu_seconds": round(cpu, 4),
            }
        )
    report.write("tasks", rows)
    return report.told(report.late(rows), quick=quick)


if __name__ == "__main__":
    raise SystemExit(main(quick="--quick" in sys.argv))
