"""`make bench`: every measure, one after another, as tables and as bench-out/NAME.json."""

from __future__ import annotations

import argparse
import importlib
import resource
import time

MEASURES = {
    "startup": "`penstock up` to ready, and down again",
    "documents": "documents through the whole of Penstock, a second",
    "tables": "catalogs of a million and ten million rows, from their bytes to a version",
    "collection": "clusters, neighbours and duplicates of many documents",
    "scheduler": "items a second and CPU an item, beside Celery, Dramatiq, Huey, SAQ and Procrastinate",
    "selection": "choosing, ordering and browsing a million rows, beside SQLAlchemy + SQLite and pandas",
    "first_item": "the first item of a run of a million rows, and the scheduler's size, beside ten thousand",
    "sandbox": "what the sandbox of `custom` SQL adds to a query, and to a preview",
    "tasks": "a task file of 5,000 tasks, from its bytes to batches, beside markdown-it",
    "command": "what a program costs as a processor, beside subprocess.run",
    "tls": "what mutual TLS costs beside the token, in CPU an item and a call",
    "estimates": "how often ranges of runtime and cost hold the truth, by families of simulated processors",
    "seeing": "summaries, pages and watchers of a large run",
    "size": "a million items beside ten thousand, closed heads, dispatch, restarts, a lost Redis",
}
PARTS = ("flat", "closed", "dispatch", "losses", "sqlite", "postgresql")


def parsed() -> argparse.Namespace:
    """The command line. The modules read what is theirs of it again."""
    listed = "\n".join(f"  {name:<11} {purpose}" for name, purpose in MEASURES.items())
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…",
        description=__doc__,
        epilog=f"measures:\n{listed}\n\nexample: make bench ARGS='scheduler --quick'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help="those to run; all of them unless named")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: does it work, not how fast is it")
    parser.add_argument("--watching", action="store_true", help="of `seeing`: what watchers cost, alone")
    parser.add_argument("--plans", action="store_true", help="of `selection`: plans alone, no grid")
    parser.add_argument(
        "--large", type=int, metavar="ROWS", help="of `selection` and `first_item`: so many rows, of Penstock alone"
    )
    for part in PARTS:
        parser.add_argument(f"--{part}", action="store_true", help=f"of `size`: {part} alone")
    found = parser.parse_args()
    unknown = [name for name in found.measures if name not in MEASURES]
    if unknown:
        parser.error(f"no such measure: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    return found


def main() -> int:
    chosen = parsed()
    code = 0
    took = []
    for name in chosen.measures or MEASURES:
        began, before = time.monotonic(), _cpu_seconds()
        code |= int(importlib.import_module(f"tests.bench.{name}").main(quick=chosen.quick) or 0)
        took.append(f"  {name:<11} {time.monotonic() - began:7.1f} s, {_cpu_seconds() - before:7.1f} s of CPU")
    print("\n".join(["", "the measures took", *took]), flush=True)
    return code


def _cpu_seconds() -> float:
    """Of this process, and of all below it that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    raise SystemExit(main())
